// Double opt-in: one mail asks for confirmation, only its button confirms, and the gate waits for that.
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { claim, insertMail } from "../support/jobs.ts";
import { letMarketingGo } from "../support/marketing.ts";

let db: TestDatabase;
let worker: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  worker = await db.connect("worker");
  await letMarketingGo(db);
  await db.query("update contact_policies set consent = 'double_opt_in' where tenant_id = $1", [db.tenantA]);
});

afterAll(() => db.close());

let people = 0;
function newAddress(): string {
  people += 1;
  return `person${people}@example.com`;
}

/** Consent from a form that anyone could have filled in. */
function giveConsent(
  seat: "tenantA" | "tenantB",
  address: string,
  state = "granted",
  evidence: object = {},
): Promise<unknown> {
  return db.as(
    seat,
    "insert into contact_consents (channel, address, state, source, evidence) values ('email', $1, $2, 'form', $3)",
    [address, state, JSON.stringify(evidence)],
  );
}

async function request(address: string): Promise<Record<string, unknown> | undefined> {
  const rows = await db.query("select * from opt_in_requests where address_key = $1 order by created_at desc", [
    address,
  ]);
  return rows[0];
}

async function mailsTo(address: string): Promise<Record<string, unknown>[]> {
  return db.query("select * from ai_email_queue where lower(recipient) = $1 and metadata ->> 'type' = 'opt_in'", [
    address,
  ]);
}

/** The gate's verdict on a marketing mail. */
async function verdict(seat: "tenantA" | "tenantB", address: string): Promise<string> {
  const id = await insertMail(db, seat, { recipient: address, metadata: { marketing: true } });
  const [answer] = await claim(worker, seat === "tenantA" ? db.tenantA : db.tenantB, [id]);
  return answer?.outcome === "go" ? "go" : `${answer?.outcome}: ${answer?.reason}`;
}

/** The token in the request's mail, as a worker that sends the mail makes it. */
async function tokenOf(requested: Record<string, unknown> | undefined): Promise<string> {
  const { tenant_id, email_id, address } = requested ?? {};
  const [row] = await db.as<{ link: string | null }>(
    "worker",
    "select brainops_internal.opt_in_link($1, $2, $3) as link",
    [tenant_id, email_id, address],
  );
  return row?.link?.split("/confirm/")[1] ?? "";
}

async function confirm(token: unknown): Promise<string> {
  const [row] = await db.as<{ answer: string }>(
    "worker",
    "select brainops_internal.confirm_opt_in($1, '{}') as answer",
    [token],
  );
  return row?.answer ?? "";
}

describe("before PUBLIC_URL is announced", () => {
  it("a request that cannot be mailed is closed, and does not block the others", async () => {
    const [before, taken, after] = [newAddress(), newAddress(), newAddress()];
    await giveConsent("tenantA", before);
    await giveConsent("tenantB", "not an address", "pending", { double_opt_in: true });
    await giveConsent("tenantB", taken, "pending", { double_opt_in: true });
    await db.as(
      "tenantB",
      `insert into ai_email_queue (recipient, subject, body, idempotency_key)
       select 'a@example.com', 's', 'b', 'opt_in:' || id from opt_in_requests where address = $1`,
      [taken],
    );
    await giveConsent("tenantA", after);
    // An error of the server is not the request's fault: all requests keep waiting.
    await db.query(`
      create function refuse() returns trigger language plpgsql as $$
      begin raise exception 'no space left' using errcode = 'disk_full'; end; $$;
      create trigger refuse before insert on ai_email_queue for each row execute function refuse();
    `);
    const announce = "select brainops.announce_public_url('https://ops.example/')";
    await expect(db.as("worker", announce)).rejects.toMatchObject({ code: "53100" });
    await db.query("drop function refuse cascade");
    expect(await request(before)).toMatchObject({ email_id: null, expires_at: null });

    await db.as("worker", announce);
    for (const address of [before, after]) expect(await mailsTo(address)).toHaveLength(1);
    for (const address of ["not an address", taken]) {
      expect(await request(address)).toMatchObject({ email_id: null, expires_at: expect.any(Date) });
      expect(await mailsTo(address)).toEqual([]);
    }
    await db.query("delete from brainops.installation");
  });

  it("a request waits, and its mail is queued once when it is announced", async () => {
    const address = newAddress();
    await giveConsent("tenantA", address);
    expect(await request(address)).toMatchObject({ email_id: null, expires_at: null });
    expect(await mailsTo(address)).toEqual([]);
    for (let i = 0; i < 2; i += 1) await db.as("worker", "select brainops.announce_public_url('https://ops.example/')");
    expect(await mailsTo(address)).toHaveLength(1);
  });
});

describe("if the tenant requires double opt-in", () => {
  it("one mail asks to confirm a consent; nothing is sent until then", async () => {
    const address = newAddress();
    await giveConsent("tenantA", address);
    const [mail] = await mailsTo(address);
    const requested = await request(address);
    expect(mail?.["is_marketing"]).toBe(false);
    expect(await verdict("tenantA", address)).toBe("skip: double opt-in not confirmed");
    expect(await confirm(await tokenOf(requested))).toBe("confirmed");
    expect(await verdict("tenantA", address)).toBe("go");
    const [consent] = await db.query(
      "select state, source, evidence from contact_consents where address = $1 and source = 'double_opt_in'",
      [address],
    );
    expect(consent).toMatchObject({
      state: "granted",
      evidence: { request_id: requested?.["id"], confirmed_at: expect.any(String) },
    });
  });

  it("the link is in the mail only: nobody can read it from the database, or have it sent elsewhere", async () => {
    const address = newAddress();
    await giveConsent("tenantA", address);
    const requested = await request(address);
    const [mail] = await mailsTo(address);
    const id = String(mail?.["id"]);
    const token = await tokenOf(requested);
    expect(token).toMatch(/^[0-9a-f]{64}$/);
    for (const table of [
      "opt_in_requests",
      "ai_email_queue",
      "contact_consents",
      "brainops.jobs",
      "brainops.job_events",
    ]) {
      const [found] = await db.query<{ n: number }>(
        `select count(*)::int as n from ${table} as t where to_jsonb(t)::text like '%' || $1 || '%'`,
        [token],
      );
      expect([table, found?.n]).toEqual([table, 0]);
    }
    const [held] = await db.as("tenantA", "select * from opt_in_requests where id = $1", [requested?.["id"]]);
    expect(await confirm(Buffer.from(held?.["token_digest"] as Buffer).toString("hex"))).toBe("unknown");
    await expect(
      db.as("tenantA", "select brainops_internal.opt_in_link($1, $2, $3)", [db.tenantA, id, address]),
    ).rejects.toMatchObject({ code: "42501" });

    expect(await tokenOf({ ...requested, address: "spy@tenant-a.example" })).toBe("");
    expect(await confirm(token)).toBe("confirmed");
  });

  it("several consents within a day queue one mail; confirming is idempotent", async () => {
    const address = newAddress();
    await Promise.all([
      giveConsent("tenantA", address),
      giveConsent("tenantA", address, "pending"),
      giveConsent("tenantA", address.toUpperCase()),
    ]);
    expect(await mailsTo(address)).toHaveLength(1);
    const first = await request(address);
    const token = await tokenOf(first);
    for (let i = 0; i < 3; i += 1) expect(await confirm(token)).toBe("confirmed");
    expect(
      await db.query("select from contact_consents where lower(address) = $1 and source = 'double_opt_in'", [address]),
    ).toHaveLength(1);
  });

  it("a link expires after seven days, and a consent after that creates a new request", async () => {
    const address = newAddress();
    await giveConsent("tenantA", address);
    const requested = await request(address);
    const token = await tokenOf(requested);
    await db.setClock("8 days");
    try {
      expect(await confirm(token)).toBe("expired");
      await giveConsent("tenantA", address);
      expect((await request(address))?.["id"]).not.toBe(requested?.["id"]);
    } finally {
      await db.setClock("0");
    }
    expect(await confirm("0".repeat(64))).toBe("unknown");
  });

  it("an unsubscribed person is not asked, and a confirmation does not lift a bounce", async () => {
    const [gone, bounced] = [newAddress(), newAddress()];
    await db.as("tenantA", "insert into contact_suppressions (address, reason) values ($1, 'unsubscribed')", [gone]);
    await giveConsent("tenantA", gone);
    expect(await request(gone)).toBeUndefined();
    await giveConsent("tenantA", bounced);
    await db.as("tenantA", "insert into contact_suppressions (address, reason) values ($1, 'bounced')", [bounced]);
    expect(await confirm(await tokenOf(await request(bounced)))).toBe("confirmed");
    expect(await verdict("tenantA", bounced)).toBe("skip: suppressed: bounced");
  });
});

describe("if the address cannot be mailed", () => {
  it("the consent is kept, and no request is created", async () => {
    await giveConsent("tenantA", "nowhere");
    expect(await db.query("select from contact_consents where address = 'nowhere'")).toHaveLength(1);
    expect(await request("nowhere")).toBeUndefined();
  });
});

describe("if the tenant does not require it", () => {
  it("a consent counts at once; only a pending one that requests it must be confirmed", async () => {
    const [plain, pending, requested] = [newAddress(), newAddress(), newAddress()];
    await giveConsent("tenantB", plain);
    await giveConsent("tenantB", pending, "pending");
    await giveConsent("tenantB", requested, "pending", { double_opt_in: true });
    expect([await request(plain), await request(pending)]).toEqual([undefined, undefined]);
    expect(await verdict("tenantB", plain)).toBe("go");
    expect(await mailsTo(requested)).toHaveLength(1);
  });
});

describe("by text", () => {
  it("one text asks for a YES, once a day; an invalid number gets none", async () => {
    const insertConsent = "insert into contact_consents (channel, address, state, evidence) values ('sms', $1, $2, $3)";
    const flag = JSON.stringify({ double_opt_in: true });
    for (let i = 0; i < 2; i += 1) await db.as("tenantB", insertConsent, ["+13035550123", "pending", flag]);
    await db.as("tenantB", insertConsent, ["+13035550124", "pending", "{}"]);
    await db.as("tenantB", insertConsent, ["12", "pending", flag]);
    const texts = await db.query("select recipient, is_marketing from ai_sms_queue where tenant_id = $1", [db.tenantB]);
    expect(texts).toEqual([{ recipient: "+13035550123", is_marketing: false }]);
  });
});

describe("the requests", () => {
  it("are visible to their own tenant only, and written by no client", async () => {
    const address = newAddress();
    await giveConsent("tenantA", address);
    const look = "select from opt_in_requests where address = $1";
    expect(await db.as("tenantA", look, [address])).toHaveLength(1);
    expect(await db.as("tenantB", look, [address])).toEqual([]);
    for (const write of [
      "update opt_in_requests set confirmed_at = now()",
      "insert into opt_in_requests (address) values ('x@example.com')",
      "delete from opt_in_requests",
    ]) {
      await expect(db.as("tenantA", write)).rejects.toMatchObject({ code: "42501" });
    }
    await expect(db.as("tenantA", "select brainops_internal.confirm_opt_in('x')")).rejects.toMatchObject({
      code: "42501",
    });
  });
});
