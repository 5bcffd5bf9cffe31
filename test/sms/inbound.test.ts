// Texts from people: keywords match the whole text; which tenant a text belongs to; and its effects.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { createSentTexts, newSid } from "./support.ts";

const shared = "+15005550006";
const ann = "+13035550100";

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.close());
beforeEach(() =>
  db.query(
    `truncate sms_inbound, sms_threads, sms_numbers, contact_suppressions, contact_consents, ai_sms_queue;
     delete from lead_events; delete from revenue_leads`,
  ),
);

async function receive(
  body: string,
  more: Record<string, unknown> = {},
  tenantId: string | null = null,
): Promise<string | null> {
  const event = { kind: "inbound", MessageSid: newSid(), From: ann, To: shared, Body: body, ...more };
  const [row] = await db.as<{ reason: string | null }>(
    "worker",
    "select brainops_internal.apply_twilio_event($1, $2) as reason",
    [JSON.stringify(event), tenantId],
  );
  return row?.reason ?? null;
}

const texted = (
  tenantId: string,
  { sender = null, number = ann, ago = "1 day" }: { sender?: string | null; number?: string; ago?: string } = {},
) =>
  db.query("insert into sms_threads (tenant_id, number, sender, last_at) values ($1, $2, $3, now() - $4::interval)", [
    tenantId,
    number,
    sender,
    ago,
  ]);
const inbound = () =>
  db.query<{ tenant_id: string; kind: string }>("select tenant_id, kind from sms_inbound order by received_at, kind");
const suppressed = () =>
  db.query("select tenant_id, address, reason from contact_suppressions order by tenant_id = $1 desc", [db.tenantA]);

describe("a keyword", () => {
  it.each([
    ["STOP", "stop"],
    [" stop ", "stop"],
    ["Stop.", "stop"],
    ["“STOP”", "stop"],
    ["stop all", "stop"],
    ["STOPALL", "stop"],
    ["Unsubscribe!", "stop"],
    ["cancel", "stop"],
    ["END", "stop"],
    ["quit", "stop"],
    ["revoke", "stop"],
    ["opt out", "stop"],
    ["OptOut", "stop"],
    ["start", "start"],
    ["UNSTOP", "start"],
    ["Help", "help"],
    ["info?", "help"],
    ["don't stop", "reply"],
    ["STOP it I love this", "reply"],
    ["please stop", "stop"],
    ["Stop please!", "stop"],
    ["Stop. Thank you", "stop"],
    ["ok stop thanks", "stop"],
    ["stop it", "stop"],
    ["Stop texting me!!", "stop"],
    ["Don’t text me again", "stop"],
    ["take me off your list", "stop"],
    ["ARRÊT", "stop"],
    ["Parar", "stop"],
    ["stopp", "stop"],
    ["Стоп.", "stop"],
    ["STOP\u00a0", "stop"],
    ["STOP\u200b", "stop"],
    ["S\u200bTOP\ufe0f", "stop"],
    ["STOP)", "stop"],
    ["*STOP*", "stop"],
    ["🛑 STOP", "stop"],
    ["ＳＴＯＰ", "stop"],
    ["stop\nsent from my phone", "stop"],
    ["\n\n Stop \n--\nAnn", "stop"],
    ["can you stop by on Friday?", "reply"],
    ["please cancel", "reply"],
    ["quit smoking", "reply"],
    ["non-stop", "reply"],
    ["Please don't stop", "reply"],
    ["Hi Ann\nSTOP", "reply"],
    ["yes please", "reply"],
    ["Can you help me?", "reply"],
    ["the end", "reply"],
    ["yes", "yes"],
    ["", "reply"],
    ["👍", "reply"],
  ])("'%s' is %s", async (body, kind) => {
    expect(await db.query("select brainops_internal.sms_keyword($1, null) as kind", [body])).toEqual([{ kind }]);
  });

  it("that Twilio recognized counts as Twilio recognized it", async () => {
    const [row] = await db.query(
      "select brainops_internal.sms_keyword('ARRET', 'STOP') as arret, brainops_internal.sms_keyword('what', '') as what",
    );
    expect(row).toEqual({ arret: "stop", what: "reply" });
  });
});

describe("STOP", () => {
  it("suppresses the number, denies consent, and adds an event to every lead with the number", async () => {
    await texted(db.tenantA);
    await db.query(
      "insert into revenue_leads (tenant_id, contact_name, phone, email) values ($1, 'Ann', '303 555 0100', 'ann@x.example')",
      [db.tenantA],
    );
    expect(await receive("STOP")).toBeNull();
    expect(await suppressed()).toEqual([{ tenant_id: db.tenantA, address: ann, reason: "unsubscribed" }]);
    expect(await db.query("select brainops.consent_state($1, 'sms', $2) as state", [db.tenantA, ann])).toEqual([
      { state: "denied" },
    ]);
    expect(await db.query("select event, channel from lead_events where event = 'opted_out'")).toEqual([
      { event: "opted_out", channel: "sms" },
    ]);
  });

  it("to the shared number applies to every tenant that texted the person from it, and to no other", async () => {
    await texted(db.tenantA);
    await texted(db.tenantB, { ago: "2 days" });
    await receive("STOP");
    expect(await suppressed()).toHaveLength(2);
    await receive("STOP", { From: "+13035550199" });
    expect(await suppressed()).toHaveLength(2);
  });

  it("is undone by START, which removes no suppression of another kind", async () => {
    await texted(db.tenantA);
    await receive("STOP");
    await receive("START");
    expect(await suppressed()).toEqual([]);
    expect(await db.query("select brainops.consent_state($1, 'sms', $2) as state", [db.tenantA, ann])).toEqual([
      { state: "granted" },
    ]);
    await db.as(
      "tenantA",
      "insert into contact_suppressions (channel, address, reason) values ('sms', $1, 'asked on the phone')",
      [ann],
    );
    await receive("STOP");
    await receive("START");
    expect(await suppressed()).toEqual([{ tenant_id: db.tenantA, address: ann, reason: "asked on the phone" }]);
  });

  it("counts from the time it arrived, not from the time it is applied", async () => {
    await texted(db.tenantA);
    await receive("STOP", { received_at: "2026-03-01T12:00:05Z" });
    await receive("START", { received_at: "2026-03-01T12:00:00Z" });
    expect(await suppressed()).toHaveLength(1);
    await receive("START", { received_at: "2026-03-01T12:00:05Z" });
    expect(await suppressed()).toHaveLength(1);
    await receive("START", { received_at: "2026-03-01T12:00:06Z" });
    expect(await suppressed()).toEqual([]);
  });
});

describe("START to the shared number", () => {
  const consent = (state: string, ago: string): Promise<unknown> =>
    db.query(
      `insert into contact_consents (tenant_id, channel, address, state, source, occurred_at)
       values ($1, 'sms', $2, $3, 'form', now() - $4::interval)`,
      [db.tenantB, ann, state, ago],
    );
  const states = async (): Promise<unknown> =>
    (
      await db.query<{ a: string; b: string }>(
        "select brainops.consent_state($1, 'sms', $3) as a, brainops.consent_state($2, 'sms', $3) as b",
        [db.tenantA, db.tenantB, ann],
      )
    )[0];

  beforeEach(async () => {
    await texted(db.tenantA);
    await texted(db.tenantB, { ago: "2 days" });
  });

  it("grants consent to the tenant that texted last, and not to one that was denied", async () => {
    await consent("granted", "4 days");
    await consent("denied", "3 days");
    await receive("START");
    expect(await states()).toEqual({ a: "granted", b: "denied" });
  });

  it("grants nothing to another tenant without earlier consent", async () => {
    await receive("START");
    expect(await states()).toEqual({ a: "granted", b: null });
  });

  it("undoes a STOP everywhere, and renews earlier consent, in whichever order the two are applied", async () => {
    await consent("granted", "4 days");
    const [stop, start] = ["2 hours", "1 hour"].map((ago) => ({
      MessageSid: newSid(),
      received_at: new Date(Date.now() - Number.parseInt(ago, 10) * 3_600_000).toISOString(),
    }));
    await receive("START", start);
    await receive("STOP", stop);
    expect(await states()).toEqual({ a: "granted", b: "granted" });
    expect(await suppressed()).toEqual([]);
  });
});

describe("YES", () => {
  it("opts in a person with a pending request, and is a reply from anyone else", async () => {
    await texted(db.tenantA);
    await receive("YES");
    expect(await inbound()).toEqual([{ tenant_id: db.tenantA, kind: "reply" }]);
    await db.as("tenantA", "insert into contact_consents (channel, address, state) values ('sms', $1, 'pending')", [
      ann,
    ]);
    await receive("yes!");
    expect(await db.query("select brainops.consent_state($1, 'sms', $2) as state", [db.tenantA, ann])).toEqual([
      { state: "granted" },
    ]);
  });
});

describe("HELP", () => {
  it("is answered once, with the tenant's own text if it has one", async () => {
    await texted(db.tenantA);
    await db.query('update tenants set settings = settings || \'{"sms_help_reply": "Call 303"}\' where id = $1', [
      db.tenantA,
    ]);
    const MessageSid = newSid();
    await receive("HELP", { MessageSid });
    await receive("HELP", { MessageSid });
    expect(await db.as("tenantA", "select recipient, body, is_marketing from ai_sms_queue")).toEqual([
      { recipient: ann, body: "Call 303", is_marketing: false },
    ]);
    await receive("HELP", { OptOutType: "HELP" });
    expect(await db.query("select count(*)::int as n from ai_sms_queue")).toEqual([{ n: 1 }]);
  });
});

describe("a reply", () => {
  it("belongs to the tenant that texted the person last", async () => {
    await texted(db.tenantA, { ago: "2 days" });
    await texted(db.tenantB, { ago: "1 day" });
    await receive("Yes, tomorrow");
    expect(await inbound()).toEqual([{ tenant_id: db.tenantB, kind: "reply" }]);
  });

  it("to a tenant's own number belongs to that tenant, whoever texted last", async () => {
    await db.as("admin", "insert into sms_numbers (tenant_id, number) values ($1, '+13035550199')", [db.tenantA]);
    await texted(db.tenantB);
    await receive("Hello", { To: "+13035550199" });
    expect(await inbound()).toEqual([{ tenant_id: db.tenantA, kind: "reply" }]);
  });

  it("belongs to the tenant of the account that signed, whatever the text contains", async () => {
    await texted(db.tenantB);
    await receive("tenant-b STOP", { tenant_id: db.tenantB }, db.tenantA);
    expect(await inbound()).toEqual([{ tenant_id: db.tenantA, kind: "reply" }]);
  });

  it("is an event of the lead that was texted, if no lead's number is known in E.164", async () => {
    const [lead] = await db.query<{ id: string }>(
      "insert into revenue_leads (tenant_id, contact_name, phone) values ($1, 'Uwe', '0171 1234567') returning id",
      [db.tenantA],
    );
    const [sms] = await createSentTexts(db, db.tenantA, [{ to: "+491711234567" }]);
    await db.query("update ai_sms_queue set lead_id = $1 where id = $2", [lead?.id, sms]);
    await texted(db.tenantA, { number: "+491711234567" });
    await receive("Gerne", { From: "+491711234567" });
    expect(
      await db.query("select lead_id, metadata ->> 'text' as text from lead_events where event = 'sms_replied'"),
    ).toEqual([{ lead_id: lead?.id, text: "Gerne" }]);
    expect(await db.query("select lead_id from sms_inbound")).toEqual([{ lead_id: lead?.id }]);
  });

  it("of an unknown person belongs to no tenant, unless there is a default tenant", async () => {
    expect(await receive("Hello?")).toBe(
      "no tenant has texted this person from that number, and no tenant is the default",
    );
    await db.query("update tenants set is_default = true where id = $1", [db.tenantB]);
    expect(await receive("Hello?")).toBeNull();
    await db.query("update tenants set is_default = false");
    expect(await inbound()).toEqual([{ tenant_id: db.tenantB, kind: "reply" }]);
  });

  it.each([{ From: "" }, { To: null }, { MessageSid: null }, { MessageSid: "x".repeat(65) }])(
    "without a required field has no effect: %j",
    async (more) => {
      expect(await receive("Hello", more, db.tenantA)).toBe(
        "MessageSid, From or To is missing or has an invalid length",
      );
    },
  );
});
