// export and forget over everything that a person leaves behind: what is exported is what is erased, no trace
// of the person is left, and nothing of other people is erased.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";
import { leaveTraces, tracesOf, type Person } from "./support.ts";

const ann: Person = { email: "Ann.Lee@Example.com", phone: "+13035550147", name: "Annabel Leeworthy" };
const bob: Person = { email: "bob@example.com", phone: "+13035550148", name: "Bobby Tablesworth" };

let db: TestDatabase;
let lead: string;

beforeAll(async () => {
  db = await createTestDatabase();
  await db.query(`update tenants set settings = '{"notify_email": "office@tenant.example"}'`);
  lead = await leaveTraces(db, db.tenantA, ann);
  await leaveTraces(db, db.tenantA, bob);
  await leaveTraces(db, db.tenantB, ann);
  await db.query("select brainops.archive_done()");
});

afterAll(() => db.close());

async function allTraces(tenantId: string, person: Person): Promise<Record<string, string[]>> {
  const { email, phone, name } = person;
  return {
    email: await tracesOf(db, email, tenantId),
    phone: await tracesOf(db, phone, tenantId),
    name: await tracesOf(db, name, tenantId),
  };
}

async function exported(tenant: string, address: string): Promise<Record<string, number>> {
  const rows = await db.as<{ table_name: string; rows: string }>(
    "admin",
    "select table_name, count(*) as rows from brainops.export_person($1, $2) group by table_name order by 1",
    [tenant, address],
  );
  return Object.fromEntries(rows.map((row) => [row.table_name, Number(row.rows)]));
}

describe("export", () => {
  it("includes a row of every source, by e-mail address as well as by number", async () => {
    const held = await exported("tenant-a", ann.email);
    expect(await exported("tenant-a", ` ${ann.email.toUpperCase()} `)).toEqual(held);
    expect(await exported("tenant-a", "(303) 555-0147")).toEqual(held);
    const sources = await db.query<{ source: string }>("select source from brainops.person_sources()");
    const without = sources.map((row) => row.source).filter((source) => held[source] === undefined);
    // Sources without rows in these tests; the catalog test checks that each is a source.
    expect(without).toEqual(
      expect.arrayContaining(["public.payment_disputes", "public.subscriptions", "public.campaign_touch_events"]),
    );
    expect(without.length).toBeLessThan(10);
    expect(held["public.revenue_leads"]).toBe(1);
    expect(held["brainops.job_archive"]).toBe(1);
  });

  it("is complete: every trace of the person is in a table that is exported", async () => {
    const tables = new Set(
      Object.keys(await exported("tenant-a", ann.email)).map((name) => name.replace(/^public\./, "")),
    );
    const traces = Object.values(await allTraces(db.tenantA, ann))
      .flat()
      .map((trace) => trace.replace(/\.[^.]+$/, ""));
    expect(new Set(traces).difference(tables)).toEqual(new Set());
    expect(new Set(traces).size).toBeGreaterThan(20);
  });

  it("includes nothing of others, and no tokens or leases", async () => {
    const rows = await db.as<{ held: Record<string, unknown> }>(
      "tenantA",
      "select held from brainops.export_person('tenant-a', $1)",
      [ann.email],
    );
    const text = JSON.stringify(rows);
    expect(text).not.toContain(bob.email);
    expect(text).not.toContain(bob.name);
    expect(rows.filter(({ held }) => "token" in held || "lease" in held)).toEqual([]);
    expect(rows.every(({ held }) => (held["tenant_id"] ?? db.tenantA) === db.tenantA)).toBe(true);
  });

  it("includes SendGrid's events of unknown mails for admins only", async () => {
    const stray = "stray@example.com";
    const [event] = await db.query<{ id: string }>(
      `insert into webhook_events (provider, provider_event_id, payload, signature_ok, status, skip_reason, processed_at)
       values ('sendgrid', 'stray', jsonb_build_object('event', 'open', 'email', $1::text), true, 'skipped', 'a stranger''s', now())
       returning id`,
      [stray],
    );
    const call = "select held ->> 'id' as id from brainops.export_person($1, $2)";
    expect(await db.as("tenantA", call, ["tenant-a", stray])).toEqual([]);
    expect(await db.as("tenantB", call, ["tenant-b", stray])).toEqual([]);
    expect(await db.as("admin", call, ["tenant-a", stray])).toEqual([{ id: event?.id }]);
  });

  it("is available to a tenant for itself only, and requires an address", async () => {
    const call = "select * from brainops.export_person($1, $2)";
    for (const tenant of ["tenant-b", db.tenantB, "no-such-tenant"]) {
      expect(await refusal(db.as("tenantA", call, [tenant, ann.email]))).toMatchObject({
        code: "42501",
        message: `tenant: '${tenant}' is not your tenant`,
      });
    }
    expect((await refusal(db.as("anonymous", call, ["tenant-a", ann.email]))).code).toBe("42501");
    for (const incomplete of ["  ", "l", "example.com", "@example.com", "%", "555-0147", "Annabel Leeworthy"]) {
      expect((await refusal(db.as("tenantA", call, ["tenant-a", incomplete]))).code).toBe("OP032");
    }
    expect((await refusal(db.as("admin", call, ["nowhere", ann.email]))).code).toBe("OP007");
    expect(await db.as("tenantA", call, ["tenant-a", "nobody@example.com"])).toEqual([]);
  });
});

describe("forget", () => {
  it("erases what was exported, counts it, and leaves no trace of the person", async () => {
    const before = await exported("tenant-a", ann.email);
    const others = {
      bob: await allTraces(db.tenantA, bob),
      ofB: await exported("tenant-b", ann.email),
      bobs: await exported("tenant-a", bob.email),
    };
    const rows = await db.as<{ table_name: string; erased: string }>(
      "tenantA",
      "select * from brainops.forget('tenant-a', $1)",
      [ann.email],
    );
    const erased = Object.fromEntries(
      rows.filter((row) => row.erased !== "0").map((row) => [row.table_name, Number(row.erased)]),
    );
    const kept = new Set([
      "public.payment_ledger",
      "public.payment_disputes",
      "public.subscriptions",
      "public.stripe_objects",
    ]);
    expect(erased).toEqual(Object.fromEntries(Object.entries(before).filter(([name]) => !kept.has(name))));

    expect(await allTraces(db.tenantA, ann)).toEqual({ email: [], phone: [], name: [] });
    // A wake-up job may still have the id, which no longer refers to anyone.
    const ofLead = await tracesOf(db, lead, db.tenantA);
    expect(ofLead.filter((trace) => !trace.startsWith("graphile_worker."))).toEqual([]);
    expect(await exported("tenant-a", ann.email)).toEqual({});
    expect(await allTraces(db.tenantA, bob)).toEqual(others.bob);
    expect(await exported("tenant-a", bob.email)).toEqual(others.bobs);
    expect(await exported("tenant-b", ann.email)).toEqual(others.ofB);
  });

  it("keeps the ledger, without the name: an open request is cancelled, and payments add up", async () => {
    const [request] = await db.query<Record<string, unknown>>(
      "select * from payment_requests where tenant_id = $1 and lead_id is null",
      [db.tenantA],
    );
    expect(request).toMatchObject({ metadata: {}, idempotency_key: null });
    expect(request?.["payment_status"]).not.toBe("open");
    expect(await db.query("select from payment_ledger where payment_request_id = $1", [request?.["id"]])).toHaveLength(
      1,
    );
  });

  it("leaves a digest of each address, so that no opt-out is lost", async () => {
    const digests = await db.query(
      "select channel, address, reason from contact_suppressions where tenant_id = $1 and reason = 'forgotten' order by channel",
      [db.tenantA],
    );
    expect(digests).toEqual([
      { channel: "email", address: expect.stringMatching(/^sha256:[0-9a-f]{64}$/), reason: "forgotten" },
      { channel: "sms", address: expect.stringMatching(/^sha256:[0-9a-f]{64}$/), reason: "forgotten" },
    ]);
  });

  it("is idempotent, and finds the same person by number", async () => {
    await db.as("tenantA", "select * from brainops.forget('tenant-a', $1)", [ann.email]);
    await db.as("admin", "select * from brainops.forget('tenant-b', $1)", ["+1 303 555 0147"]);
    expect(await allTraces(db.tenantB, ann)).toEqual({ email: [], phone: [], name: [] });
  });

  it("keeps the rows of a number that others have too", async () => {
    const office = "+13035550199";
    await db.query(
      "insert into revenue_leads (tenant_id, email, phone, phone_e164) values ($1, 'one@office.example', $2, $2), ($1, 'two@office.example', $2, $2)",
      [db.tenantB, office],
    );
    await db.query(
      "insert into ai_sms_queue (tenant_id, recipient, body, scheduled_for) values ($1, $2, 'Hi', '2100-01-01Z')",
      [db.tenantB, office],
    );
    await db.as("tenantB", "select * from brainops.forget('tenant-b', 'one@office.example')");
    expect(await tracesOf(db, "one@office.example", db.tenantB)).toEqual([]);
    expect(await db.query("select from ai_sms_queue where recipient = $1", [office])).toHaveLength(1);
    expect(
      await db.query(
        "select from contact_suppressions where channel = 'sms' and address = brainops_internal.address_digest($1)",
        [office],
      ),
    ).toEqual([]);
  });

  // Each address is a prefix or a suffix of the other, or would match it as a pattern.
  it.each([
    ["ann@example.net", "joann@example.net"],
    ["ann@example.net", "jo-ann@example.net"],
    ["ann@example.net", "jo.ann@example.net"],
    ["ann@example.net", "ann@example.network"],
    ["ann@example.net", "ann@example.net.au"],
    ["a.b+c@example.net", "aXb+c@example.net"],
    ["a.b+c@example.net", "a.bbc@example.net"],
    ["a[bc]*d@example.net", "abd@example.net"],
    ["+13035550151", "+130355501519"],
  ])("of %s keeps texts about %s", async (address, other) => {
    const textAbout = (of: string): string => `'${of}' wrote: call me (${of}). Mail <${of.toUpperCase()}>, or ${of}.`;
    const bodies = [textAbout(address), textAbout(other)];
    for (const body of bodies) await db.query("select brainops.notify($1, 'A word', $2)", [db.tenantB, body]);
    await db.as("tenantB", "select * from brainops.forget('tenant-b', $1)", [address]);
    expect(await db.query("select body from tenant_notifications where body = any ($1)", [bodies])).toEqual([
      { body: textAbout(other) },
    ]);
  });

  it("of a lead whose e-mail is not an address erases nothing that contains the same word", async () => {
    await db.query("insert into revenue_leads (tenant_id, email, phone) values ($1, 'none', '+13035550152')", [
      db.tenantB,
    ]);
    await db.query("select brainops.notify($1, 'Leads: none today', 'None at all')", [db.tenantB]);
    await db.as("tenantB", "select * from brainops.forget('tenant-b', '+13035550152')");
    expect(await tracesOf(db, "Leads: none today", db.tenantB)).toContain("tenant_notifications.subject");
  });

  it("finds notifications about a person in the archive too, and their mails", async () => {
    const address = "cleo@example.net";
    const [about] = await db.query<{ id: string }>("select brainops.notify($1, 'A word', $2) as id", [
      db.tenantA,
      `${address} did not answer`,
    ]);
    await db.query("select brainops_internal.mail_notification($1)", [about?.id]);
    await db.query("select brainops.notify($1, 'A word', $2)", [db.tenantA, `un${address} did not answer`]);
    for (const table of ["tenant_notifications", "ai_email_queue"]) {
      await db.query(`update ${table} set status = 'cancelled' where ${table}::text like '%cleo@example.net%'`);
      await db.query(`update ${table} set finished_at = '2026-01-15Z' where ${table}::text like '%cleo@example.net%'`);
    }
    await db.query("select brainops.archive_done()");
    expect(await exported("tenant-a", address)).toEqual({ "brainops.job_archive": 2 });
    await db.as("tenantA", "select * from brainops.forget('tenant-a', $1)", [address]);
    expect(
      await db.query("select job_row ->> 'body' as body from brainops.job_archive where job_row::text like $1", [
        `%${address}%`,
      ]),
    ).toEqual([{ body: `un${address} did not answer` }]);
  });
});
