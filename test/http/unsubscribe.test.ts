// The unsubscribe link of a marketing mail, from the mail's headers to the check before the next mail.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Worker } from "../../src/jobs/worker.ts";
import type { HttpServer } from "../../src/http/server.ts";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createTestDatabase, type Seat, type TestDatabase } from "../support/database.ts";
import { letMarketingGo } from "../support/marketing.ts";
import { startTestWorker, testConfig } from "../support/worker.ts";
import { createSentEmails, createSigner, createEvent, postEvents, processEvents, startTestServer } from "./support.ts";

const signer = createSigner();

let db: TestDatabase;
let simulator: SendgridSimulator;
let server: HttpServer;
let worker: Worker;

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator()]);
  await letMarketingGo(db);
  server = await startTestServer(db, { SENDGRID_WEBHOOK_PUBLIC_KEY: signer.publicKey });
  worker = await startTestWorker(db, simulator, { config: testConfig(simulator, { PUBLIC_URL: server.url }) });
});

afterAll(async () => {
  await worker?.stop();
  await server?.close();
  await simulator?.close();
  await db?.close();
});

const oneClick = { method: "POST", body: new URLSearchParams({ "List-Unsubscribe": "One-Click" }) } as const;

/** Sends a marketing mail and returns its link, the status of the row and the mail's headers. */
async function sendMarketing(seat: Seat, recipient: string): Promise<{ status: string; link: string }> {
  const [row] = await db.as<{ id: string }>(
    seat,
    `insert into ai_email_queue (recipient, subject, body, metadata) values ($1, 'News', 'Read', '{"marketing": true}') returning id`,
    [recipient],
  );
  await db.until("select status not in ('pending', 'processing') from ai_email_queue where id = $1", [row?.id]);
  const [after] = await db.query<{ status: string }>("select status from ai_email_queue where id = $1", [row?.id]);
  const mail = simulator.messages.find((message) => message.customArgs["bo_msg"] === row?.id);
  return { status: after?.status ?? "", link: /^<(.+)>$/.exec(mail?.headers["List-Unsubscribe"] ?? "")?.[1] ?? "" };
}

async function suppressions(): Promise<Record<string, unknown>[]> {
  return db.query(
    `select slug, address, reason, source, expires_at from contact_suppressions
     inner join tenants as t on t.id = tenant_id order by slug, address`,
  );
}

const fromLink = { reason: "unsubscribed", source: "unsubscribe_link", expires_at: null };

describe("the link of a marketing mail", () => {
  it("is in its headers, leads to this server, and is the same in the person's next mail", async () => {
    const { status, link } = await sendMarketing("tenantA", "ann@example.com");
    expect(status).toBe("completed");
    expect(link).toMatch(/\/unsubscribe\/[0-9a-f]{64}$/);
    expect(link.startsWith(server.url)).toBe(true);
    expect(simulator.messages.at(-1)?.headers["List-Unsubscribe-Post"]).toBe("List-Unsubscribe=One-Click");
    expect((await sendMarketing("tenantA", "Ann@Example.com")).link).toBe(link);
    expect((await sendMarketing("tenantB", "ann@example.com")).link).not.toBe(link);
  });

  it("changes nothing when it is opened, looked at or previewed", async () => {
    const { link } = await sendMarketing("tenantA", "ann@example.com");
    for (const method of ["GET", "HEAD", "OPTIONS", "GET"]) expect((await fetch(link, { method })).ok).toBe(true);
    expect(await suppressions()).toEqual([]);
  });

  it("unsubscribes with one POST, without login, cookie or redirect; the next mail is skipped", async () => {
    const { link } = await sendMarketing("tenantA", "ann@example.com");
    const response = await fetch(link, { ...oneClick, redirect: "error" });
    expect(response.status).toBe(200);
    expect(response.headers.get("set-cookie")).toBeNull();
    expect(await suppressions()).toEqual([{ slug: "tenant-a", address: "ann@example.com", ...fromLink }]);
    expect((await sendMarketing("tenantA", "ANN@example.com")).status).toBe("skipped");
    expect((await sendMarketing("tenantB", "ann@example.com")).status).toBe("completed");
  });

  it("accepts any body that a mailbox provider sends, and is idempotent", async () => {
    const { link } = await sendMarketing("tenantB", "ben@example.com");
    const form = new FormData();
    form.set("List-Unsubscribe", "One-Click");
    const bodies: RequestInit[] = [
      { body: form },
      {},
      { body: "List-Unsubscribe=One-Click", headers: { "content-type": "text/plain" } },
      { body: new Uint8Array(Buffer.from("List-Unsubscribe=One-Click")) },
      { body: "" },
      { headers: { "content-type": "application/json" } },
    ];
    for (const body of bodies) expect((await fetch(link, { method: "POST", ...body })).status).toBe(200);
    expect((await suppressions()).filter(({ slug }) => slug === "tenant-b")).toEqual([
      { slug: "tenant-b", address: "ben@example.com", ...fromLink },
    ]);
  });

  it("outlasts a later resubscription at SendGrid, and makes a temporary suppression permanent", async () => {
    const { link } = await sendMarketing("tenantA", "cat@example.com");
    const [mail] = await createSentEmails(db, db.tenantA, ["cat@example.com"]);
    const report = async (event: string, timestamp: number): Promise<void> => {
      const reported = createEvent({ bo_msg: mail, email: "cat@example.com", event, timestamp, asm_group_id: 1 });
      expect((await postEvents(server, signer, [reported])).status).toBe(200);
      await processEvents(db);
    };
    await report("group_unsubscribe", 1_700_000_000);
    await db.query(
      "update contact_suppressions set expires_at = now() + interval '1 day' where address = 'cat@example.com'",
    );
    expect((await fetch(link, oneClick)).status).toBe(200);
    await report("group_resubscribe", 1_700_000_010);
    const row = (await suppressions()).find(({ address }) => address === "cat@example.com");
    expect(row).toEqual({ slug: "tenant-a", address: "cat@example.com", ...fromLink });
  });
});

describe("a link that was never sent", () => {
  it.each([
    ["unknown", "0".repeat(64)],
    ["cut off", "0".repeat(63)],
    ["too long", "0".repeat(65)],
    ["not a token", "'%20or%201=1--"],
    ["markup", "%3Cscript%3Ealert(1)%3C%2Fscript%3E"],
  ])("(%s) is 404, with the same page as any other", async (_name, token) => {
    const before = await suppressions();
    const response = await fetch(`${server.url}/unsubscribe/${token}`, oneClick);
    expect(response.status).toBe(404);
    const page = await response.text();
    expect(page).toContain("This link does not work");
    expect(page).not.toContain("alert");
    expect(page).toBe(await (await fetch(`${server.url}/unsubscribe/x`)).text());
    expect(await suppressions()).toEqual(before);
  });

  it("cannot be distinguished from a real one by GET", async () => {
    const { link } = await sendMarketing("tenantB", "dan@example.com");
    const real = await fetch(link);
    const invented = await fetch(`${server.url}/unsubscribe/${"0".repeat(64)}`);
    const withoutToken = (page: string): string => page.replaceAll(/[0-9a-f]{64}/g, "");
    expect(withoutToken(await invented.text())).toBe(withoutToken(await real.text()));
  });
});

describe("the page", () => {
  it("is an HTML form without scripts or external resources, under a strict policy", async () => {
    const response = await fetch(`${server.url}/unsubscribe/${"0".repeat(64)}`);
    const page = await response.text();
    expect(page).toMatch(/<html lang="en">[^]*<h1>Unsubscribe<\/h1>[^]*<form method="post">[^]*<button type="submit">/);
    expect(page).not.toMatch(/<script|https?:|src=|action=/);
    const headers = Object.fromEntries(response.headers);
    expect(headers).toMatchObject({
      "content-type": "text/html; charset=utf-8",
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
      "cache-control": "no-store",
      "cross-origin-opener-policy": "same-origin",
      "strict-transport-security": "max-age=31536000",
    });
    expect(headers["content-security-policy"]).toMatch(
      /^default-src 'none'; style-src 'sha256-[\w+/]{43}='; form-action 'self'; base-uri 'none'; frame-ancestors 'none'$/,
    );
  });

  it("has no HSTS if PUBLIC_URL is not https", async () => {
    const plain = await startTestServer(db, { PUBLIC_URL: "http://ops.example" });
    const response = await fetch(`${plain.url}/unsubscribe/x`);
    expect(response.headers.has("strict-transport-security")).toBe(false);
    await plain.close();
  });

  it("says 'not unsubscribed yet' if Postgres is unreachable or the body is too large", async () => {
    const cut = await startTestServer(db, {}, { connectionString: "postgres://nobody@127.0.0.1:1/nowhere" });
    const link = `${cut.url}/unsubscribe/${"0".repeat(64)}`;
    expect((await fetch(link)).status).toBe(200);
    const response = await fetch(link, oneClick);
    expect(response.status).toBe(503);
    expect(response.headers.get("retry-after")).toBe("30");
    expect(await response.text()).toContain("You are not unsubscribed yet.");
    const large = await fetch(link, { method: "POST", body: "x".repeat(17 * 1024) });
    expect(large.status).toBe(413);
    expect(await large.text()).toContain("You are not unsubscribed yet.");
    await cut.close();
  });
});

describe("the link of a mail that asks for opt-in", () => {
  it("is in the mail, is nowhere in the database, and confirms", async () => {
    await db.query(
      `insert into contact_consents (tenant_id, channel, address, state, evidence)
       values ($1, 'email', 'opt@example.com', 'pending', '{"double_opt_in": true}')`,
      [db.tenantA],
    );
    await db.until("select bool_and(status = 'completed') from ai_email_queue where recipient = 'opt@example.com'");
    const mail = simulator.messages.find(({ to }) => JSON.stringify(to).includes("opt@example.com"));
    const link = /https?:[^"]+\/confirm\/([0-9a-f]{64})/.exec(JSON.stringify(mail));
    expect(link).not.toBeNull();
    for (const table of ["opt_in_requests", "ai_email_queue", "brainops.jobs", "brainops.job_events"]) {
      const found = await db.query(`select from ${table} as t where to_jsonb(t)::text like '%' || $1 || '%'`, [
        link?.[1],
      ]);
      expect(found).toEqual([]);
    }
    expect((await fetch(`${server.url}/confirm/${link?.[1]}`, { method: "POST" })).status).toBe(200);
    expect(await db.query("select state, source from contact_consents where source = 'double_opt_in'")).toEqual([
      { state: "granted", source: "double_opt_in" },
    ]);
  });
});
