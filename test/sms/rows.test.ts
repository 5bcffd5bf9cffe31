// Which rows ai_sms_queue accepts and refuses, and who may write which column.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { insertText } from "./support.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.close());

const column = async (name: string, id: string): Promise<unknown> =>
  (await db.query<{ value: unknown }>(`select ${name} as value from ai_sms_queue where id = $1`, [id]))[0]?.value;

describe("a recipient", () => {
  it.each([
    ["+1 (303) 555-0100", "+13035550100"],
    ["303-555-0100", "+13035550100"],
    ["\u00A0+44 20 7946 0018 ", "+442079460018"],
  ])("%s is stored as %s", async (recipient, kept) => {
    expect(await column("recipient", await insertText(db, "tenantA", { recipient }))).toBe(kept);
  });

  it("without + is parsed for the tenant's country, or left to the worker", async () => {
    await db.query('update tenants set settings = settings || \'{"country": "gb"}\' where id = $1', [db.tenantB]);
    const id = await insertText(db, "tenantB", { recipient: "020 7946 0018" });
    expect(await column("recipient", id)).toBe("020 7946 0018");
    expect(await column("recipient", await insertText(db, "tenantB", { recipient: "3035550100" }))).toBe("3035550100");
  });

  it.each([
    ["", /recipient: is empty/],
    ["ann@example.com", /recipient: 'ann@example.com' is not a phone number/],
    ["+1 303 555 0100 ext 5", /is not a phone number/],
    ["+1 303 555 010", /has the wrong number of digits for a phone number/],
    ["+0 303 555 0100", /is not a phone number/],
    ["00000000-0000-4000-8000-000000000000", /is not a lead of this tenant/],
  ])("'%s' is refused, with a hint", async (recipient, message) => {
    await expect(insertText(db, "tenantA", { recipient })).rejects.toMatchObject({
      code: "OP017",
      message: expect.stringMatching(message),
      hint: expect.stringMatching(/phone number|\+13035550100/),
      column: "recipient",
    });
  });

  it("may be a lead of the same tenant, and of no other", async () => {
    const [lead] = await db.as<{ id: string }>(
      "tenantA",
      "insert into revenue_leads (contact_name, phone) values ('Ann', '303 555 0142') returning id",
    );
    const id = await insertText(db, "tenantA", { recipient: lead?.id });
    expect(await column("lead_id", id)).toBe(lead?.id);
    expect(
      await db.query("select brainops_internal.sms_address(q) as number from ai_sms_queue as q where id = $1", [id]),
    ).toEqual([{ number: "+13035550142" }]);
    await expect(insertText(db, "tenantB", { recipient: lead?.id })).rejects.toMatchObject({ code: "OP017" });
  });
});

describe("a text", () => {
  it.each([
    [{ body: " \n" }, "OP005", /body: is empty/],
    [{ body: "x".repeat(1601) }, "OP005", /body: has 1601 characters/],
    [{ metadata: "[]" }, "OP006", /metadata: '\[\]' is not a JSON object/],
  ])("%j is refused with %s", async (columns, code, message) => {
    await expect(insertText(db, "tenantA", columns)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
      hint: expect.any(String),
    });
  });

  it("that is too long with its Liquid is accepted: it may become shorter", async () => {
    expect(await insertText(db, "tenantA", { body: `{{ a }}${"x".repeat(1600)}` })).not.toBe("");
  });

  it("is marketing unless it is marked transactional", async () => {
    expect(await column("is_marketing", await insertText(db, "tenantA", { metadata: {} }))).toBe(true);
    expect(await column("is_marketing", await insertText(db, "tenantA", {}))).toBe(false);
  });
});

describe("what only the worker and the provider write", () => {
  it.each(["to_number", "account_sid", "text_sent", "earlier_message_ids", "times_absent"])(
    "ai_sms_queue.%s is closed to clients",
    async (name) => {
      const id = await insertText(db, "tenantA");
      for (const seat of ["tenantA", "service"] as const) {
        await expect(
          db.as(seat, `update ai_sms_queue set ${name} = default where id = $1`, [id]),
        ).rejects.toMatchObject({ code: "42501" });
      }
    },
  );

  it.each([
    "insert into sms_deliveries (recipient, event, occurred_at) values ('+13035550100', 'delivered', now())",
    "insert into sms_inbound (message_sid, from_number, to_number, body, kind, received_at) values ('SM1', 'a', 'b', 'c', 'stop', now())",
    "insert into sms_numbers (number) values ('+13035550199')",
    "select * from sms_threads",
    "select brainops_internal.sms_sender(gen_random_uuid(), '+13035550100')",
    "select brainops_internal.apply_twilio_event('{}', null)",
  ])("%s: refused for clients", async (statement) => {
    for (const seat of ["tenantA", "service", "anonymous"] as const) {
      await expect(db.as(seat, statement)).rejects.toMatchObject({ code: "42501" });
    }
  });

  it("a number belongs to one tenant: admins assign it, and not twice", async () => {
    const assign = (tenant: string, number: string) =>
      db.as("admin", "insert into sms_numbers (tenant_id, number) values ($1, $2)", [tenant, number]);
    await assign(db.tenantA, "+13035550199");
    await expect(assign(db.tenantB, "+13035550199")).rejects.toMatchObject({
      code: "OP018",
      message: "number: +13035550199 belongs to tenant tenant-a",
    });
    expect(await db.as("tenantA", "select number from sms_numbers")).toEqual([{ number: "+13035550199" }]);
    expect(await db.as("tenantB", "select number from sms_numbers")).toEqual([]);
  });

  it.skipIf(!isServer)("a number is not assigned twice, even by two admins at once", async () => {
    const [one, two] = [await db.connect("admin"), await db.connect("admin")];
    await one.query("begin");
    await one.query("insert into sms_numbers (tenant_id, number) values ($1, '+13035550198')", [db.tenantA]);
    const second = two.query("insert into sms_numbers (tenant_id, number) values ($1, '+13035550198')", [db.tenantB]);
    const [answer] = await Promise.allSettled([second, one.query("commit")]);
    expect(answer).toMatchObject({ status: "rejected", reason: { code: "OP018" } });
  });
});
