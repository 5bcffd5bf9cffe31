// The preference page and the page of a double opt-in: from the link to the stored rows.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { HttpServer } from "../../src/http/server.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestServer } from "./support.ts";

const ANN = "ann@example.com";
const PHONE = "+13035550147";

let db: TestDatabase;
let server: HttpServer;
let token: string;

beforeAll(async () => {
  db = await createTestDatabase();
  server = await startTestServer(db);
  await db.query("insert into revenue_leads (tenant_id, email, phone, phone_e164) values ($1, $2, $3, $3)", [
    db.tenantA,
    ANN,
    PHONE,
  ]);
  await db.query(
    `insert into contact_topics (tenant_id, code, name, description) values ($1, 'news', 'News & offers', '<once> a month'), ($1, 'tips', 'Tips', '')`,
    [db.tenantA],
  );
  const [row] = await db.query<{ token: string }>("select brainops_internal.unsubscribe_token($1, $2) as token", [
    db.tenantA,
    ANN,
  ]);
  token = row?.token ?? "";
});

afterAll(async () => {
  await server?.close();
  await db?.close();
});

beforeEach(async () => {
  await db.query("delete from contact_suppressions");
  await db.query("delete from contact_consents");
  await db.query("delete from contact_topic_optouts");
  await db.query("delete from lead_events");
});

const everything = {
  shown: ["email", "topic:news", "topic:tips", "sms"],
  ticked: ["email", "topic:news", "topic:tips", "sms"],
};

function post(
  choices: { shown: string[]; ticked: string[] },
  of = token,
  extra: Record<string, string> = { save: "choices" },
): Promise<Response> {
  const body = new URLSearchParams(extra);
  for (const name of choices.shown) body.append("shown", name);
  for (const name of choices.ticked) body.append(name, "on");
  return fetch(`${server.url}/preferences/${of}`, { method: "POST", body, redirect: "manual" });
}

/** Name -> ticked, as shown by the page. */
async function boxes(response: Response): Promise<Record<string, boolean>> {
  const page = await response.text();
  const found = [...page.matchAll(/<input type="checkbox" name="([^"]+)"( checked)?>/g)];
  return Object.fromEntries(found.map(([, name = "", ticked]) => [name, ticked !== undefined]));
}

async function open(): Promise<Record<string, boolean>> {
  return boxes(await fetch(`${server.url}/preferences/${token}`));
}

async function consents(): Promise<unknown[]> {
  return db.query("select channel, state, source from contact_consents order by created_at, channel");
}

describe("the preference page", () => {
  it("shows the choices, the address masked, and nothing of other people", async () => {
    const response = await fetch(`${server.url}/preferences/${token}`);
    expect(response.status).toBe(200);
    const page = await response.text();
    expect(page).toContain("News &amp; offers");
    expect(page).toContain("&lt;once&gt; a month");
    expect(page).toContain("a•••@example.com");
    expect(page).not.toContain(ANN);
    expect(page).not.toContain(PHONE);
    expect(response.headers.get("content-security-policy")).toContain("default-src 'none'");
    expect(response.headers.get("cache-control")).toBe("no-store");
    expect(await open()).toEqual({ email: true, "topic:news": true, "topic:tips": true, sms: true });
  });

  it("changes nothing when it is opened, looked at or previewed", async () => {
    for (const method of ["GET", "HEAD", "GET"]) await fetch(`${server.url}/preferences/${token}`, { method });
    expect(await consents()).toEqual([]);
    expect(await db.query("select from contact_suppressions")).toEqual([]);
    expect(await db.query("select from lead_events")).toEqual([]);
  });

  it("stops mail and resumes it, each once, however often it is saved", async () => {
    const without = { shown: everything.shown, ticked: ["topic:news", "topic:tips", "sms"] };
    for (let i = 0; i < 3; i += 1) expect((await post(without)).status).toBe(200);
    expect(await db.query("select address, reason, source from contact_suppressions")).toEqual([
      { address: ANN, reason: "unsubscribed", source: "preference_page" },
    ]);
    expect(await consents()).toEqual([{ channel: "email", state: "denied", source: "preference_page" }]);
    expect(await db.query("select event, channel from lead_events")).toEqual([
      { event: "email_unsubscribed", channel: "email" },
    ]);
    expect((await open())["email"]).toBe(false);

    for (let i = 0; i < 2; i += 1) await post(everything);
    expect(await db.query("select from contact_suppressions")).toEqual([]);
    expect((await consents()).at(-1)).toEqual({ channel: "email", state: "granted", source: "preference_page" });
    expect(await db.query("select event from lead_events where event = 'opted_in'")).toHaveLength(1);
    expect((await open())["email"]).toBe(true);
  });

  it("removes only the person's own unsubscription, not a bounce, a complaint or the tenant's own entry", async () => {
    await db.query("insert into contact_suppressions (tenant_id, address, reason) values ($1, $2, 'complained')", [
      db.tenantA,
      ANN,
    ]);
    await post(everything);
    expect(await db.query("select reason from contact_suppressions")).toEqual([{ reason: "complained" }]);
    expect((await open())["email"]).toBe(false);
  });

  it("turns a topic off and on; a topic that was not on the page is unchanged", async () => {
    await post({ shown: ["email", "topic:news", "topic:tips"], ticked: ["email", "topic:tips"] });
    expect(await open()).toMatchObject({ email: true, "topic:news": false, "topic:tips": true });
    await post({ shown: ["email", "topic:tips"], ticked: ["email", "topic:tips"] });
    expect(await open()).toMatchObject({ "topic:news": false });
    await post(everything);
    expect(await db.query("select from contact_topic_optouts")).toEqual([]);
    await post({ shown: ["topic:none", "topic:'; drop table"], ticked: [] });
    expect(await db.query("select from contact_topic_optouts")).toEqual([]);
  });

  it("stops text messages, and resumes those stopped here, but not those stopped by a text", async () => {
    await post({ shown: everything.shown, ticked: ["email", "topic:news", "topic:tips"] });
    expect(await db.query("select channel, address, source from contact_suppressions")).toEqual([
      { channel: "sms", address: PHONE, source: "preference_page" },
    ]);
    expect((await open())["sms"]).toBe(false);
    await post(everything);
    expect(await db.query("select from contact_suppressions")).toEqual([]);
    await db.query(
      "insert into contact_suppressions (tenant_id, channel, address, reason, source) values ($1, 'sms', $2, 'unsubscribed', 'twilio')",
      [db.tenantA, PHONE],
    );
    expect(await open()).not.toHaveProperty("sms");
    await post(everything);
    expect(await db.query("select source from contact_suppressions")).toEqual([{ source: "twilio" }]);
  });

  it("removes a stop of texts that was made here after another had expired", async () => {
    await db.query(
      `insert into contact_suppressions (tenant_id, channel, address, reason, source, expires_at)
       values ($1, 'sms', $2, 'manual', 'import', now() - interval '1 day')`,
      [db.tenantA, PHONE],
    );
    await post({ shown: everything.shown, ticked: ["email", "topic:news", "topic:tips"] });
    expect(await db.query("select reason, source, expires_at from contact_suppressions")).toEqual([
      { reason: "unsubscribed", source: "preference_page", expires_at: null },
    ]);
    expect((await open())["sms"]).toBe(false);
    await post(everything);
    expect(await db.query("select from contact_suppressions")).toEqual([]);
    expect((await open())["sms"]).toBe(true);
  });

  it("responds the same to an unknown, truncated or malformed token, and writes nothing", async () => {
    for (const of of ["0".repeat(64), token.slice(1), "x", "%27"]) {
      const [got, posted] = [
        await fetch(`${server.url}/preferences/${of}`),
        await post({ shown: ["email"], ticked: [] }, of),
      ];
      expect([of, got.status, posted.status]).toEqual([of, 404, 404]);
      expect(await posted.text()).toContain("This link does not work");
    }
    expect(await consents()).toEqual([]);
  });

  it("refuses a body that is not its form: an empty POST does not stop mail", async () => {
    expect((await post(everything, token, {})).status).toBe(400);
    const json = { method: "POST", body: "{}", headers: { "content-type": "application/json" } };
    expect((await fetch(`${server.url}/preferences/${token}`, json)).status).toBe(415);
    const large = { method: "POST", body: new URLSearchParams({ save: "x".repeat(20_000) }) };
    expect((await fetch(`${server.url}/preferences/${token}`, large)).status).toBe(413);
    expect(await consents()).toEqual([]);
  });

  it("applies one of two concurrent choices as a whole", async () => {
    const without = { shown: everything.shown, ticked: [] };
    const answers = await Promise.all([post(everything), post(without), post(everything), post(without)]);
    expect(answers.map((answer) => answer.status)).toEqual([200, 200, 200, 200]);
    const shown = await open();
    expect(new Set(Object.values(shown)).size).toBe(1);
    const stopped = await db.query("select from contact_suppressions where channel = 'email'");
    expect(stopped).toHaveLength(shown["email"] === true ? 0 : 1);
    const [last] = await db.query<{ state: string | null }>("select brainops.consent_state($1, 'email', $2) as state", [
      db.tenantA,
      ANN,
    ]);
    expect(shown["email"] === true || last?.state === "denied").toBe(true);
  });
});

describe("the link of the unsubscribe page", () => {
  it("leads here, where mail is off for an unsubscribed person", async () => {
    const page = await (await fetch(`${server.url}/unsubscribe/${token}`)).text();
    const href = /<a href="([^"]+)">/.exec(page)?.[1] ?? "";
    expect(new URL(href, `${server.url}/unsubscribe/${token}`).href).toBe(`${server.url}/preferences/${token}`);
    await fetch(`${server.url}/unsubscribe/${token}`, { method: "POST" });
    expect((await open())["email"]).toBe(false);
    expect(await consents()).toEqual([{ channel: "email", state: "denied", source: "unsubscribe_link" }]);
  });
});

describe("the page of a double opt-in", () => {
  async function requestOptIn(): Promise<string> {
    await db.query("delete from opt_in_requests");
    await db.query(
      `insert into contact_consents (tenant_id, channel, address, state, evidence) values ($1, 'email', $2, 'pending', '{"double_opt_in": true}')`,
      [db.tenantA, ANN],
    );
    await db.query("update opt_in_requests set email_id = gen_random_uuid() where email_id is null");
    const [row] = await db.query<{ link: string }>(
      "select brainops_internal.opt_in_link(tenant_id, email_id, address) as link from opt_in_requests",
    );
    return row?.link.split("/confirm/")[1] ?? "";
  }

  it("changes nothing when a scanner opens it, and confirms once by its button", async () => {
    const link = `${server.url}/confirm/${await requestOptIn()}`;
    for (const method of ["GET", "HEAD", "GET"]) expect((await fetch(link, { method })).status).toBe(200);
    expect(await db.query("select confirmed_at from opt_in_requests")).toEqual([{ confirmed_at: null }]);
    for (let i = 0; i < 2; i += 1) {
      const response = await fetch(link, {
        method: "POST",
        body: new URLSearchParams({ confirm: "yes" }),
        headers: { "user-agent": "A browser" },
      });
      expect([response.status, await response.text()]).toEqual([200, expect.stringContaining("Thank you")]);
    }
    const confirmed = await db.query("select evidence from contact_consents where source = 'double_opt_in'");
    expect(confirmed).toMatchObject([
      { evidence: { page: "/confirm", user_agent: "A browser", confirmed_at: expect.any(String) } },
    ]);
  });

  it("distinguishes an expired link from an unknown one", async () => {
    const link = `${server.url}/confirm/${await requestOptIn()}`;
    await db.query("update opt_in_requests set expires_at = now() - interval '1 second'");
    expect((await fetch(link, { method: "POST" })).status).toBe(410);
    expect((await fetch(`${server.url}/confirm/${"0".repeat(64)}`, { method: "POST" })).status).toBe(404);
    expect((await fetch(`${server.url}/confirm/x`)).status).toBe(404);
  });
});
