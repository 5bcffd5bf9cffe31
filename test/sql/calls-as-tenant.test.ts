// Tenants have no USAGE on brainops_internal. Here tenant A calls every function of brainops that it may execute.
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { seedBothTenants, touched } from "../support/seeds.ts";

/** Arguments by signature for every function of brainops that tenants may execute. */
const CALLS: Readonly<Record<string, string>> = {
  "address_zones(uuid,uuid,text)": "'$me', '$me', 'ann@example.com'",
  "broadcast_to_leads(uuid,text,uuid,integer)": "(select id from ai_broadcasts where status = 'draft')",
  "cancel(text,uuid)": "'ai_email_queue', (select id from ai_email_queue limit 1)",
  "capture_lead(uuid,jsonb,text,jsonb)": `'$me', '{"email": "di@example.com"}', 'form', '{}'`,
  "complete_onboarding_step(uuid,text)": "'$me', 'seed'",
  "confirm(text,uuid,boolean)": "'tenant_notifications', (select id from tenant_notifications limit 1), true",
  "consent_state(uuid,text,text)": "'$me', 'email', 'ann@example.com'",
  "contact_policy(uuid,text)": "'$me', 'email'",
  "current_tenant_id()": "",
  "tenant_country(uuid)": "brainops.current_tenant_id()",
  "default_onboarding_steps()": "",
  "delete_rows(text,uuid[])": "'ai_sms_queue', '{$me}'",
  "enrol(uuid,text)": "'$me', 'seed'",
  "exit_enrolment(uuid,text)": "'$me', 'a test'",
  "export_person(text,text)": "'tenant-a', 'ann@example.com'",
  "forget(text,text)": "'tenant-a', 'ann@example.com'",
  "import_leads(uuid,jsonb)": `'$me', '[{"line": 1, "lead": {"email": "di@example.com"}}]'`,
  "launch_problems(uuid,text)": "'$me'",
  "may_name_tenant()": "",
  "merge_leads(uuid,uuid)": "'$me', (select id from revenue_leads where email = 'bo@example.com')",
  "next_contact_time(timestamp with time zone,text[],time without time zone,time without time zone,integer[])":
    "now(), '{UTC}', '09:00', '17:00'",
  "next_stages(text)": "'new'",
  "notify(uuid,text,text,text)": "'$me', 'Hello', 'Hi'",
  "notify(uuid,text,text,text,uuid)": "'$me', 'Hello', 'Hi', null, '$me'",
  "now()": "",
  "pause_campaign(text,text)": "'seed'",
  "person_sources()": "",
  "publish_campaign(text,boolean,text)": "'seed', true",
  "record_reply(uuid,text,text)": "'$me'",
  "resume_campaign(text,text)": "'seed'",
  "retry(text,uuid)": "'ai_sms_queue', (select id from ai_sms_queue limit 1)",
  "retry_failed(text,timestamp with time zone)": "'ai_email_queue', now()",
  "revise_campaign(text,text)": "'seed'",
  "start_onboarding(uuid,text)": "'$me'",
};

let db: TestDatabase;
let tenant: pg.Client;
beforeAll(async () => {
  db = await createTestDatabase();
  await seedBothTenants(db);
  tenant = await db.connect("tenantA");
  await tenant.query("select brainops.publish_campaign('seed'), brainops.revise_campaign('seed')");
  await tenant.query("insert into revenue_leads (contact_name, email) values ('Bo', 'bo@example.com')");
  await tenant.query("update ai_sms_queue set status = 'cancelled'"); // for retry
  // For confirm: a claim, and its outcome lost.
  await db.query("update tenant_notifications set status = 'processing', lease = gen_random_uuid()");
  await db.query("update tenant_notifications set status = 'unconfirmed', lease = null");
});
afterAll(() => db?.close());

describe("a function of brainops that a tenant may execute", () => {
  it("is among the calls", async () => {
    const functions = await db.query<{ name: string }>(
      `select replace(oid::regprocedure::text, 'brainops.', '') as name from pg_proc
       where pronamespace = 'brainops'::regnamespace and has_function_privilege('brainops_tenant', oid, 'execute')`,
    );
    expect(Object.keys(CALLS).toSorted()).toEqual(functions.map((row) => row.name).toSorted());
  });

  it.each(Object.entries(CALLS))("may be called: %s", async (signature, values) => {
    const call = `select * from brainops.${signature.replace(/\(.*/, "")}(${values.replaceAll("$me", db.tenantA)})`;
    expect(await touched(tenant, call)).toEqual(expect.any(Number));
  });
});
