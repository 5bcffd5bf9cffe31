// Stripe's events on the platform's account name no tenant. They belong to the tenant whose objects they name, and
// only objects known from the same account count.
import { afterAll, beforeAll, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});

afterAll(() => db.close());

/** A lead with a payment request whose link is known; tenant A's is created through its own account. */
async function createRequest(tenantId: string, email: string, link: string): Promise<void> {
  await db.query(
    `with
       person as (insert into revenue_leads (tenant_id, email) values ($1, $2) returning id),
       plan as (insert into plans (tenant_id, code, name, amount, currency) values ($1, 'p', 'P', 10, 'usd'))
     select from person`,
    [tenantId, email],
  );
  await db.query(
    `with request as (
       insert into payment_requests (tenant_id, plan_code, lead_id)
       select $1, 'p', id from revenue_leads where tenant_id = $1 and email = $2 returning id
     )
     insert into stripe_objects (tenant_id, object_id, own_account, payment_request_id, key_generation)
     select $1, $3, $4, id, 0 from request`,
    [tenantId, email, link, tenantId === db.tenantA],
  );
}

async function applyEvent(id: string, link: string, signer: string | null): Promise<void> {
  const object = { id: `cs_${id}`, payment_link: link, payment_intent: "pi_of_b" };
  await db.query("select brainops_internal.record_webhook_events('stripe', $1, $2)", [
    JSON.stringify([{ id, type: "checkout.session.expired", created: 1_767_225_600, data: { object } }]),
    signer,
  ]);
  await db.query(
    "select * from brainops_internal.process_webhook_events((select array_agg(id) from webhook_events where status = 'pending'))",
  );
}

it("an event that a tenant signs itself gives no access to events of another tenant's payment", async () => {
  await createRequest(db.tenantB, "payer@b.example", "plink_b");
  await createRequest(db.tenantA, "own@a.example", "plink_a");
  await applyEvent("evt_b", "plink_b", null);
  await applyEvent("evt_forged", "plink_a", db.tenantA);
  const events = async (seat: "tenantA" | "tenantB", tenant: string, address: string): Promise<unknown[]> =>
    (
      await db.as<{ id: string }>(
        seat,
        "select held -> 'payload' ->> 'id' as id from brainops.export_person($1, $2) where table_name = 'public.webhook_events'",
        [tenant, address],
      )
    ).map(({ id }) => id);
  expect(await events("tenantB", "tenant-b", "payer@b.example")).toEqual(["evt_b"]);
  expect(await events("tenantA", "tenant-a", "own@a.example")).toEqual(["evt_forged"]);

  await db.as("tenantA", "select * from brainops.forget('tenant-a', 'own@a.example')");
  expect(await db.query("select provider_event_id as id from webhook_events")).toEqual([{ id: "evt_b" }]);
  await db.as("tenantB", "select * from brainops.forget('tenant-b', 'payer@b.example')");
  expect(await db.query("select from webhook_events")).toEqual([]);
});
