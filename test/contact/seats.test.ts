// Who may write what: consents, policies, and what protects the sender reputation, from each seat.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type Seat, type TestDatabase } from "../support/database.ts";
import { deleting } from "../support/deleteRows.ts";
import { refusal } from "../support/refusal.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});

afterAll(() => db.close());

const DENIED = { code: "42501" };

describe("contact_consents", () => {
  it("are written and read by their own tenant only", async () => {
    const insertConsent =
      "insert into contact_consents (channel, address, state) values ('email', 'ann@example.com', $1) returning tenant_id";
    expect(await db.as("tenantA", insertConsent, ["granted"])).toEqual([{ tenant_id: db.tenantA }]);
    expect(await db.as("tenantB", insertConsent, ["denied"])).toEqual([{ tenant_id: db.tenantB }]);
    const state = "select brainops.consent_state($1, 'email', ' ANN@example.com') as state";
    expect(await db.as("tenantA", state, [db.tenantA])).toEqual([{ state: "granted" }]);
    expect(await db.as("tenantA", state, [db.tenantB])).toEqual([{ state: null }]);
    expect(await refusal(db.as("anonymous", state, [db.tenantA]))).toMatchObject(DENIED);
    const forOther =
      "insert into contact_consents (tenant_id, channel, address, state) values ($1, 'email', 'x@example.com', 'granted')";
    expect(await refusal(db.as("tenantA", forOther, [db.tenantB]))).toMatchObject(DENIED);
    expect(await db.as("service", `${forOther}`, [db.tenantB])).toEqual([]);
  });

  it.each<Seat>(["tenantA", "service", "admin"])(
    "cannot be changed or deleted by %s: a new entry is added",
    async (seat) => {
      for (const change of ["update contact_consents set state = 'granted'", "delete from contact_consents"]) {
        expect(await refusal(db.as(seat, change)), `${seat}: ${change}`).toMatchObject(DENIED);
      }
    },
  );

  it("outlive their lead, and cannot be rewritten even by the engine", async () => {
    const [lead] = await db.as<{ id: string }>(
      "tenantA",
      "insert into revenue_leads (email) values ('gone@example.com') returning id",
    );
    await db.as(
      "tenantA",
      "insert into contact_consents (lead_id, channel, address, state) values ($1, 'email', 'gone@example.com', 'denied')",
      [lead?.id],
    );
    await db.as("tenantA", deleting("delete from revenue_leads where id = $1"), [lead?.id]);
    expect(
      await db.as("tenantA", "select lead_id, state from contact_consents where address = 'gone@example.com'"),
    ).toEqual([{ lead_id: null, state: "denied" }]);
    expect(
      await refusal(db.query("update contact_consents set state = 'granted' where address = 'gone@example.com'")),
    ).toMatchObject({
      ...DENIED,
      hint: expect.stringContaining("Insert a new row"),
    });
  });

  it("have a valid channel, address and state", async () => {
    const insertConsent = (channel: string, address: string, state: string): Promise<unknown> =>
      db.as("tenantA", "insert into contact_consents (channel, address, state) values ($1, $2, $3)", [
        channel,
        address,
        state,
      ]);
    for (const refused of [
      () => insertConsent("fax", "a@example.com", "granted"),
      () => insertConsent("email", " ", "granted"),
      () => insertConsent("email", "a@example.com", "maybe"),
    ]) {
      expect(await refusal(refused())).toMatchObject({ code: "23514" });
    }
  });
});

describe("contact_policies", () => {
  it("are a tenant's own, one for each channel", async () => {
    const set = "insert into contact_policies (channel, cap) values ('email', 7)";
    await db.as("tenantA", set);
    expect(await refusal(db.as("tenantA", set))).toMatchObject({ code: "23505" });
    await db.as("tenantB", set);
    expect(await db.as("tenantA", "update contact_policies set cap = 8 returning tenant_id")).toEqual([
      { tenant_id: db.tenantA },
    ]);
    expect(
      await db.as("tenantA", "select cap, consent, window_start::text from brainops.contact_policy($1, 'email')", [
        db.tenantA,
      ]),
    ).toEqual([{ cap: 8, consent: "opt_out", window_start: "08:00:00" }]);
    expect(await refusal(db.as("anonymous", "select * from contact_policies"))).toMatchObject(DENIED);
  });

  it.each([
    ["a window with one end", "window_start = '08:00'"],
    ["no day", "weekdays = '{}'"],
    ["an eighth day", "weekdays = '{8}'"],
    ["a cap of zero", "cap = 0"],
    ["a cap window of a minute", "cap_window = '1 minute'"],
    ["a spread of seven hours", "spread = '7 hours'"],
  ])("refuse %s", async (_name, change) => {
    expect(await refusal(db.as("tenantA", `update contact_policies set ${change}`))).toMatchObject({ code: "23514" });
  });

  it("allow no texts past midnight", async () => {
    const set = "insert into contact_policies (channel, window_start, window_end) values ('sms', '20:00', '02:00')";
    expect(await refusal(db.as("tenantA", set))).toMatchObject({ code: "23514" });
  });
});

describe("what protects the sender reputation", () => {
  it.each<Seat>(["tenantA", "service", "worker"])("cannot be removed by %s", async (seat) => {
    await db.as(
      "admin",
      "select brainops.hold_marketing('tenant-a', 'email', 'a test'), brainops.start_warmup('tenant-a', 'email')",
    );
    const reset = seat === "worker" ? "set role brainops_worker" : "select 1";
    for (const change of [
      "update marketing_holds set lifted_at = now()",
      "delete from sender_warmups",
      "delete from brainops.contact_counts",
      "select brainops.lift_marketing_hold('tenant-a', 'email')",
      "select brainops.start_warmup('tenant-a', 'email')",
      "update brainops.contact_windows set window_to = '23:00'",
      "delete from brainops.contact_caps",
      "delete from brainops.phone_zones",
    ]) {
      const client = await db.connect(seat);
      await client.query(reset);
      expect(await refusal(client.query(change)), `${seat}: ${change}`).toMatchObject(DENIED);
    }
  });

  it("is visible to its own tenant, and changed by admins", async () => {
    const held = "select channel, reason from marketing_holds where lifted_at is null";
    expect(await db.as("tenantA", held)).toEqual([{ channel: "email", reason: "a test" }]);
    expect(await db.as("tenantB", held)).toEqual([]);
    await db.as("admin", "select brainops.lift_marketing_hold('tenant-a', 'email')");
    expect(await db.as("tenantA", held)).toEqual([]);
    await db.as("admin", "update brainops.contact_windows set source = source where state = 'TX'");
    expect(await refusal(db.as("admin", "select brainops.hold_marketing('nobody', 'email', 'x')"))).toMatchObject({
      code: "OP007",
    });
  });

  it("includes the gate, which tenants cannot call", async () => {
    for (const call of [
      "select brainops_internal.contact_verdicts('email', '{}')",
      "select brainops_internal.reserve_hourly_slots($1, 'email', 1)",
      "select brainops_internal.guard_reputation()",
      "select * from brainops_internal.gate_sms('{}')",
    ]) {
      const values = call.includes("$1") ? [db.tenantA] : [];
      expect([call, (await refusal(db.as("tenantA", call, values))).code]).toEqual([call, "42501"]);
    }
  });
});
