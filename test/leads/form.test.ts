// POST /forms/<token>: what a tenant's server signs becomes a lead; everything else is 401.
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { Webhook } from "standardwebhooks";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { HttpServer } from "../../src/http/server.ts";
import { isGenuine } from "../../src/http/formSignature.ts";
import { saveForm } from "../../src/revenue/leads/forms.ts";
import { brainops } from "../cli/run.ts";
import { startTestServer } from "../http/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { onServer } from "../support/sql.ts";
import { leadOf } from "./support.ts";

const secretKey = randomBytes(32);
const environment = { BRAINOPS_SECRET_KEY: secretKey.toString("base64") };

let db: TestDatabase;
let server: HttpServer;
let form: Form;
let nowMs = Date.parse("2026-05-04T10:00:00Z");

interface Form {
  readonly token: string;
  readonly secret: string;
}

beforeAll(async () => {
  db = await createTestDatabase();
  server = await startTestServer(db, environment, { now: () => nowMs });
  form = await makeForm(db.tenantA, "contact");
});
afterAll(async () => {
  await server?.close();
  await db?.close();
});
afterEach(() => db.query("update lead_forms set active = true, defaults = '{}'"));

const makeForm = (tenantId: string, name: string, renew = false): Promise<Form> =>
  onServer(db.url, (client) =>
    saveForm(client, { BRAINOPS_SECRET_KEY: secretKey }, { tenantId, name, source: "website", renew }),
  );

interface Changes {
  readonly id?: string;
  /** Seconds before the server's now. */
  readonly age?: number;
  readonly sent?: Buffer;
  readonly headers?: Readonly<Record<string, string>>;
  readonly to?: Form;
  readonly secret?: string;
}

let messages = 0;

async function post(
  fields: unknown,
  changes: Changes = {},
): Promise<{ status: number; answer: Record<string, unknown> }> {
  messages += 1;
  const body = Buffer.from(typeof fields === "string" ? fields : JSON.stringify(fields));
  const { id = `msg_${messages}`, age = 0, to = form, secret = to.secret } = changes;
  const at = new Date(nowMs - age * 1000);
  const response = await fetch(`${server.url}/forms/${to.token}`, {
    method: "POST",
    body: new Uint8Array(changes.sent ?? body),
    headers: {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
      "webhook-signature": new Webhook(secret).sign(id, at, body),
      ...changes.headers,
    },
  });
  return { status: response.status, answer: (await response.json()) as Record<string, unknown> };
}

const leads = (email: string) =>
  db.query<{ id: string; tenant_id: string; source: string; metadata: object }>(
    "select id, tenant_id, source, metadata from revenue_leads where email = $1",
    [email],
  );

describe("a signed submission", () => {
  it("becomes a lead of the form's tenant, with its consents and one event", async () => {
    const fields = {
      Name: "Ann",
      email: "ann@form.example",
      phone: "(303) 555-0142",
      email_consent: true,
      roof: "flat",
      tenant_id: db.tenantB,
    };
    const { status, answer } = await post(fields);
    expect([status, answer["is_new"]]).toEqual([201, true]);
    expect(await leads("ann@form.example")).toEqual([
      {
        id: answer["lead_id"],
        tenant_id: db.tenantA,
        source: "website",
        metadata: { roof: "flat", tenant_id: db.tenantB },
      },
    ]);
    expect(
      await db.query("select event, channel from lead_events where lead_id = $1 order by event", [answer["lead_id"]]),
    ).toEqual([
      { event: "captured", channel: null },
      { event: "form_submitted", channel: "web" },
    ]);
    expect(
      await db.query(
        "select channel, state, source, evidence ->> 'form' as form from contact_consents where address = $1",
        ["ann@form.example"],
      ),
    ).toEqual([{ channel: "email", state: "granted", source: "form", form: "contact" }]);
  });

  it("sent again counts once; another one of the same person is another event of the same lead", async () => {
    const fields = { email: "bob@form.example" };
    const first = await post(fields, { id: "msg_again" });
    const second = await post(fields, { id: "msg_again", age: -30 });
    const third = await post(fields, { id: "msg_other" });
    expect([first.status, second.status, third.status]).toEqual([201, 200, 200]);
    expect(second.answer).toEqual({ lead_id: first.answer["lead_id"], is_new: false });
    expect(
      await db.query("select source_key from lead_events where lead_id = $1 and event = 'form_submitted' order by 1", [
        first.answer["lead_id"],
      ]),
    ).toEqual([{ source_key: "form:contact:msg_again" }, { source_key: "form:contact:msg_other" }]);
  });

  it("sent again does not undo a later choice of the person", async () => {
    const email = "fay@form.example";
    const states = async (): Promise<unknown[]> =>
      (await db.query("select state from contact_consents where address = $1 order by created_at", [email])).map(
        ({ state }) => state,
      );
    const first = await post({ email, email_consent: true, stage: "contacted" }, { id: "msg_yes" });
    await post({ email, email_consent: false }, { id: "msg_no" });
    expect(await states()).toEqual(["granted", "denied"]);
    const before = await db.query("select to_jsonb(l) as lead from revenue_leads as l where email = $1", [email]);
    const again = await post({ email, email_consent: true, roof: "flat" }, { id: "msg_yes" });
    expect(again).toEqual({ status: 200, answer: { lead_id: first.answer["lead_id"], is_new: false } });
    expect(await states()).toEqual(["granted", "denied"]);
    expect(await db.query("select to_jsonb(l) as lead from revenue_leads as l where email = $1", [email])).toEqual(
      before,
    );
  });

  it("sent again after a merge returns the remaining lead", async () => {
    const [one, other] = [
      await post({ email: "gus@form.example" }),
      await post({ email: "gil@form.example" }, { id: "msg_gil" }),
    ];
    await db.as("tenantA", "select brainops.merge_leads($1, $2)", [one.answer["lead_id"], other.answer["lead_id"]]);
    const again = await post({ email: "gil@form.example" }, { id: "msg_gil" });
    expect(again.answer).toEqual({ lead_id: one.answer["lead_id"], is_new: false });
  });

  it("with the id of another form's or another tenant's submission is a separate one", async () => {
    const forms = [form, await makeForm(db.tenantA, "callback"), await makeForm(db.tenantB, "callback")];
    const answers = [];
    for (const [index, to] of forms.entries()) {
      answers.push(await post({ email: `hal${index}@form.example` }, { id: "msg_shared", to }));
    }
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201]);
  });

  it("sent five times at once becomes one lead and one event", async () => {
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => post({ email: "cat@form.example", phone: "+13035550177" }, { id: "msg_five" })),
    );
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(new Set(answers.map(({ answer }) => answer["lead_id"])).size).toBe(1);
    expect(
      await db.query("select from lead_events where event = 'form_submitted' and source_key = 'form:contact:msg_five'"),
    ).toHaveLength(1);
  });

  it("gets the form's defaults for columns that it lacks", async () => {
    const defaults = { industry: "roofing", stage: "contacted", metadata: { campaign: "spring", roof: "unknown" } };
    await db.as("tenantA", "update lead_forms set defaults = $1", [JSON.stringify(defaults)]);
    const { answer } = await post({ email: "dan@form.example", roof: "steep" });
    const [row] = await db.query("select industry, stage, metadata from revenue_leads where id = $1", [
      answer["lead_id"],
    ]);
    expect(row).toEqual({ industry: "roofing", stage: "contacted", metadata: { campaign: "spring", roof: "steep" } });
  });

  it("parses a national phone number for the tenant's country, in either case", async () => {
    await db.query('update tenants set settings = settings || \'{"country": "gb"}\' where id = $1', [db.tenantA]);
    const { answer } = await post({ email: "uk@form.example", phone: "020 7946 0958" }, { id: "msg_uk" });
    await db.query("update tenants set settings = settings - 'country' where id = $1", [db.tenantA]);
    expect(await db.query("select phone_e164 from revenue_leads where id = $1", [answer["lead_id"]])).toEqual([
      { phone_e164: "+442079460958" },
    ]);
  });

  it("that is invalid is refused with all faults, and changes nothing", async () => {
    const wrong = await post({ email: "eve at form", phone: "call me" });
    expect(wrong.status).toBe(422);
    expect(wrong.answer["faults"]).toMatchObject([{ column: "email", value: "eve at form" }, { column: "phone" }]);
    const stage = await post({ email: "eve@form.example", stage: "thinking" });
    expect(stage.status).toBe(422);
    expect(String(stage.answer["error"])).toContain("'thinking'");
    expect((await post("[1, 2]")).status).toBe(400);
    expect((await post("no JSON")).status).toBe(400);
    await db.as("tenantA", "update lead_forms set active = false");
    expect((await post({ email: "eve@form.example" })).status).toBe(404);
    expect(await leads("eve@form.example")).toEqual([]);
  });

  it("may contain any JSON", async () => {
    const fields = `{"email": "odd@form.example", "contact_name": "a\\u0000b\\ud800", "__proto__": {"admin": true}, "list": ["\\u0000"]}`;
    const { status, answer } = await post(fields);
    expect(status).toBe(201);
    expect((await leadOf(db, String(answer["lead_id"]))).metadata).toMatchObject({ list: ["\uFFFD"] });
  });
});

describe("401", () => {
  const fields = { email: "forged@form.example" };

  it("is the response if any byte is changed", async () => {
    const body = JSON.stringify(fields);
    for (const position of [0, 5, Math.floor(body.length / 2), body.length - 1]) {
      const sent = Buffer.from(body);
      sent.writeUInt8(sent.readUInt8(position) ^ 1, position);
      expect((await post(fields, { sent })).status).toBe(401);
    }
    expect((await post(fields, { sent: Buffer.from(`${body}\n`) })).status).toBe(401);
  });

  it.for([
    ["another id", { "webhook-id": "msg_stolen" }],
    ["another time", { "webhook-timestamp": "1777888801" }],
    ["no signature", { "webhook-signature": "" }],
    ["garbage", { "webhook-signature": "v1,ü" }],
    ["another version", { "webhook-signature": "v2,AAAA" }],
    ["an id with a dot", { "webhook-id": "msg.1" }],
    ["an invalid time", { "webhook-timestamp": "now" }],
  ] as const)("is the response to %s", async ([, headers]) => {
    const given = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, encodeURI(value)]));
    expect((await post(fields, { headers: given })).status).toBe(401);
  });

  it("is the response to a time more than five minutes away, in both directions", async () => {
    for (const [age, status] of [
      [301, 401],
      [-301, 401],
      [299, 201],
      [-299, 200],
    ] as const) {
      expect([age, (await post({ email: "time@form.example" }, { age })).status]).toEqual([age, status]);
    }
  });

  it("is the response to another form's secret, an unknown form, and one that is switched off", async () => {
    const other = await makeForm(db.tenantB, "contact");
    expect((await post(fields, { secret: other.secret })).status).toBe(401);
    expect((await post(fields, { to: { ...form, token: "0".repeat(64) } })).status).toBe(401);
    await db.as("tenantB", "update provider_credentials set active = false where provider = 'form'");
    expect((await post(fields, { to: other })).status).toBe(401);
    expect(await leads("forged@form.example")).toEqual([]);
  });

  it("is the response to the old secret once there is a new one", async () => {
    const first = await makeForm(db.tenantA, "quote");
    await expect(makeForm(db.tenantA, "quote")).rejects.toMatchObject({ code: "OP010" });
    const second = await makeForm(db.tenantA, "quote", true);
    expect(second.token).toBe(first.token);
    expect((await post(fields, { to: first })).status).toBe(401);
    expect((await post({ email: "new@form.example" }, { to: second })).status).toBe(201);
  });
});

describe("the signature", () => {
  it("is valid for what was signed, and invalid with any bit changed", () => {
    const secret = `whsec_${randomBytes(32).toString("base64")}`;
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", minLength: 1 }), fc.nat(), (text, seed) => {
        const body = Buffer.from(text);
        const signature = new Webhook(secret).sign("msg_1", new Date(1_777_888_800_000), text);
        const headers = { id: "msg_1", timestamp: 1_777_888_800, signature: `v1,AAAA ${signature}` };
        expect(isGenuine(secret, headers, body)).toBe(true);
        const bit = seed % (body.length * 8);
        body.writeUInt8(body.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        expect(isGenuine(secret, headers, body)).toBe(false);
      }),
    );
  });
});

it("503 names the variable that is missing on the server", async () => {
  const without = await startTestServer(db, {}, { now: () => nowMs });
  try {
    const at = new Date(nowMs);
    const response = await fetch(`${without.url}/forms/${form.token}`, {
      method: "POST",
      body: "{}",
      headers: {
        "webhook-id": "msg_x",
        "webhook-timestamp": String(nowMs / 1000),
        "webhook-signature": new Webhook(form.secret).sign("msg_x", at, "{}"),
      },
    });
    expect(response.status).toBe(503);
    expect(await response.text()).toContain("BRAINOPS_SECRET_KEY");
  } finally {
    await without.close();
  }
});

it("brainops leads form prints the URL and the secret, and the secret is nowhere in the database", async () => {
  const env = { DATABASE_URL: db.url, PUBLIC_URL: "https://ops.example", ...environment };
  const made = await brainops(["leads", "form", "tenant-a", "landing", "--source", "ads"], env);
  expect(made.code).toBe(0);
  const token = /^endpoint +https:\/\/ops\.example\/forms\/([0-9a-f]{64})$/m.exec(made.stdout)?.[1] ?? "";
  const secret = /^secret +(whsec_\S+)$/m.exec(made.stdout)?.[1] ?? "";
  nowMs += 1000;
  const { status, answer } = await post({ email: "landing@form.example" }, { to: { token, secret } });
  expect([status, answer["is_new"]]).toEqual([201, true]);
  expect((await leads("landing@form.example"))[0]?.source).toBe("ads");
  const [stored] = await db.query<{ row: string }>(
    "select string_agg(to_jsonb(c)::text, '') as row from provider_credentials as c",
  );
  expect(stored?.row).not.toContain(secret.slice(6, 30));
  expect((await brainops(["leads", "form", "tenant-a", "landing"], env)).code).toBe(1);
});
