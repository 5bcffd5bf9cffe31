// Texts to the platform's number name no tenant when they come in. A text belongs to the tenant whose sms_inbound has it.
// No other tenant may read or erase it, not even one that knows the person's number.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

const PHONE = "+13035550123";
const NUMBER_OF_B = "+15005550001";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
  await db.query("insert into sms_numbers (tenant_id, number) values ($1, $2)", [db.tenantB, NUMBER_OF_B]);
});

afterAll(() => db.close());

async function receiveText(id: string, body: string): Promise<void> {
  await db.query("select brainops_internal.record_webhook_events('twilio', $1)", [
    JSON.stringify([{ event_id: id, kind: "inbound", MessageSid: id, From: PHONE, To: NUMBER_OF_B, Body: body }]),
  ]);
}

const process = (): Promise<unknown> =>
  db.query(
    "select * from brainops_internal.process_webhook_events((select array_agg(id) from webhook_events where status = 'pending'))",
  );

const bodies = async (seat: "tenantA" | "tenantB", tenant: string): Promise<(string | null)[]> =>
  (
    await db.as<{ body: string | null }>(
      seat,
      `select held -> 'payload' ->> 'Body' as body from brainops.export_person($1, $2)
       where table_name = 'public.webhook_events' order by 1`,
      [tenant, PHONE],
    )
  ).map(({ body }) => body);

describe("a text to the number of another tenant", () => {
  it("is shown to the tenant that it was for, and to no other", async () => {
    await receiveText("SM1", "words for B");
    await process();
    expect(await bodies("tenantB", "tenant-b")).toEqual(["words for B"]);
    expect(await bodies("tenantA", "tenant-a")).toEqual([]);
    // Not even if it knows the person.
    await db.as("tenantA", "insert into revenue_leads (email, phone) values ('p@example.com', $1)", [PHONE]);
    expect(await bodies("tenantA", "tenant-a")).toEqual([]);
  });

  it("is erased by the tenant that it was for, and by no other; a pending STOP still counts", async () => {
    await receiveText("SM2", "STOP");
    await db.as("tenantA", "select * from brainops.forget('tenant-a', $1)", [PHONE]);
    expect(await db.query("select from webhook_events where provider = 'twilio'")).toHaveLength(2);
    await process();
    expect(
      await db.query("select reason from contact_suppressions where tenant_id = $1 and address_key = $2", [
        db.tenantB,
        PHONE,
      ]),
    ).toEqual([{ reason: "unsubscribed" }]);
    await db.as("tenantB", "select * from brainops.forget('tenant-b', $1)", [PHONE]);
    expect(await db.query("select from webhook_events where provider = 'twilio'")).toEqual([]);
  });
});
