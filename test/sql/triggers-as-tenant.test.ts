// Tenants have no USAGE on brainops_internal, the schema of all trigger functions and of most functions that these call.
// Here tenant A's own statements fire every trigger that they can fire.
//
// EXPLAIN ANALYZE is the proof: it lists the triggers that the statement itself fired. pg_stat_user_functions counts the
// calls from the engine's own statements as well, and one function serves many triggers.
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeLaunchable } from "../campaigns/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { deleting } from "../support/deleteRows.ts";
import { refusal } from "../support/refusal.ts";
import { seedBothTenants } from "../support/seeds.ts";

interface Step {
  readonly sql: string;
  readonly seat?: "superuser";
  /** The trigger that must refuse the statement. */
  readonly refusedBy?: string;
}

const superuser = (sql: string): Step => ({ sql, seat: "superuser" });
const refused = (refusedBy: string, sql: string): Step => ({ sql, refusedBy });

// By table and in this order: later tables refer to rows of earlier ones. $me is tenant A's id, and the id of its row
// from seedBothTenants. A null tenant_id makes the guard fill it in.
const STATEMENTS: Readonly<Record<string, readonly (string | Step)[]>> = {
  revenue_leads: [
    "insert into revenue_leads (tenant_id, contact_name, email, stage) values (null, 'Bo', 'bo@example.com', 'won')",
    "insert into revenue_leads (contact_name, email) values ('Bo Lee', 'bo@example.com')", // merged
    "insert into revenue_leads (contact_name, phone) values ('Cy', '+13035550142')",
    superuser("update revenue_leads set scored_at = now() where contact_name = 'Cy'"),
    "update revenue_leads set score = 40, stage = 'won', email = 'cy@example.com' where contact_name = 'Cy'",
    refused("a3_refuse_time_zone", "update revenue_leads set time_zone = 'Mars' where contact_name = 'Cy'"),
    "delete from revenue_leads where contact_name = 'Cy'",
  ],
  lead_events: ["insert into lead_events (tenant_id, lead_id, event) values (null, '$me', 'page_visited')"],
  lead_score_events: [
    "insert into lead_score_events (tenant_id, lead_id, reason, points) values (null, '$me', 'referred_by_customer', 5)",
  ],
  lead_forms: ["insert into lead_forms (tenant_id, name) values (null, 'demo')"],
  lead_tasks: ["insert into lead_tasks (tenant_id, lead_id, title) values (null, '$me', 'Call')"],
  contact_suppressions: ["insert into contact_suppressions (tenant_id, address) values (null, ' di@example.com')"],
  contact_consents: [
    `insert into contact_consents (tenant_id, lead_id, channel, address, state)
     values (null, '$me', 'email', ' ann@example.com', 'pending')`,
    "insert into contact_consents (channel, address, state) values ('sms', '+13035550123', 'pending')",
    "insert into contact_consents (channel, address, state) values ('email', 'di@example.com', 'granted')",
  ],
  contact_policies: ["insert into contact_policies (tenant_id, channel, cap_window) values (null, 'sms', '1 day')"],
  contact_topics: ["insert into contact_topics (tenant_id, code, name) values (null, 'news', 'News')"],
  contact_topic_optouts: [
    "insert into contact_topic_optouts (tenant_id, topic_id, address_key) values (null, '$me', 'di@example.com')",
    superuser("update contact_topic_optouts set source = 'preference_page' where address_key = 'ann@example.com'"),
    refused("b0_keep_persons_choice", "delete from contact_topic_optouts where address_key = 'ann@example.com'"),
    superuser("delete from contact_topic_optouts where address_key = 'ann@example.com'"), // Ann is enrolled below
  ],
  ai_broadcasts: [
    "insert into ai_broadcasts (tenant_id, name, subject, body) values (null, 'news', 'Hello', 'Hi')",
    "update ai_broadcasts set metadata = jsonb_build_object('x', repeat('x', 40000)), status = 'paused' where name = 'news'",
  ],
  ai_email_queue: [
    `insert into ai_email_queue (tenant_id, lead_id, touch_id, broadcast_id, recipient, scheduled_for)
     select null, '$me', '$me', id, 'bo@example.com', null from ai_broadcasts where name = 'news'`,
    `insert into ai_email_queue (recipient, subject, body, metadata, idempotency_key)
     values ('di@example.com', 'Hello', 'Hi', jsonb_build_object('x', repeat('x', 40000)), 'onboarding:1')`,
    "update ai_email_queue set status = 'cancelled' where recipient <> 'ann@example.com'",
    "update ai_email_queue set status = 'pending' where recipient = 'bo@example.com'",
    "delete from ai_email_queue where recipient = 'di@example.com'",
  ],
  ai_sms_queue: [
    `insert into ai_sms_queue (tenant_id, lead_id, touch_id, recipient, body, scheduled_for, metadata)
     values (null, '$me', '$me', '(303) 555-0123', 'Hi', null, '{"kind": "marketing"}')`,
    refused(
      "a3_refuse_large_metadata",
      "update ai_sms_queue set metadata = jsonb_build_object('x', repeat('x', 70000)) where touch_id = '$me'",
    ),
    "update ai_sms_queue set status = 'cancelled' where touch_id = '$me'",
    "update ai_sms_queue set status = 'pending' where touch_id = '$me'",
    superuser("update ai_sms_queue set status = 'processing', lease = '$me', text_sent = 'Hi' where touch_id = '$me'"),
    refused("b1_before_job_update", "update ai_sms_queue set status = 'unconfirmed' where touch_id = '$me'"),
    refused("b1_before_job_update", "update ai_sms_queue set status = 'pending' where touch_id = '$me'"),
    "delete from ai_sms_queue where touch_id is null",
  ],
  campaigns: [
    "insert into campaigns (tenant_id, code, name) values (null, 'draft', 'Draft')",
    "update campaigns set status = 'archived' where code = 'draft'",
  ],
  campaign_steps: [
    `insert into campaign_steps (tenant_id, campaign_id, step_number, kind, delay)
     values (null, '$me', 2, 'wait', '1 day'), (null, '$me', 3, 'wait', '1 day')`,
    "update campaign_steps set delay = '2 days' where campaign_id = '$me' and step_number = 2",
    "delete from campaign_steps where campaign_id = '$me' and step_number = 3",
  ],
  ai_campaign_templates: [
    "insert into ai_campaign_templates (tenant_id, name, subject, body) values (null, 'mail', 'Hello', 'Hi')",
    "delete from ai_campaign_templates where name = 'mail'",
  ],
  campaign_rules: [
    `insert into campaign_rules (tenant_id, campaign_id, name, condition)
     values (null, '$me', 'web', '{"field": "source", "op": "=", "value": "web"}')`,
    `update campaign_rules set condition = '{"field": "source", "op": "=", "value": "form"}' where name = 'web'`,
  ],
  campaign_split_winners: [
    `insert into campaign_split_winners (tenant_id, campaign_id, version, step_key, variant)
     values (null, '$me', 1, 'a', 'b')`,
  ],
  ai_nurture_campaigns: [
    "select brainops.publish_campaign('seed')",
    "insert into ai_nurture_campaigns (tenant_id, lead_id, campaign_type) values (null, '$me', 'seed')",
    "update ai_nurture_campaigns set status = 'paused' where lead_id = '$me'",
    "update ai_nurture_campaigns set status = 'active' where lead_id = '$me'",
  ],
  ai_campaign_touches: [
    "insert into ai_campaign_touches (tenant_id, campaign_id, touch_type) values (null, '$me', 'email')",
    "update ai_campaign_touches set scheduled_for = '2100-01-01Z' where step_key = '1'",
    "update ai_campaign_touches set status = 'cancelled' where step_key = '1'",
    "delete from ai_nurture_campaigns",
  ],
  plans: [
    `insert into plans (tenant_id, lead_id, code, name, amount, currency)
     values (null, '$me', 'pro', 'Pro', 10, 'usd')`,
    "update plans set name = 'Professional' where code = 'pro'",
  ],
  payment_link_closures: [
    "update payment_link_closures set status = 'completed'",
    "delete from payment_requests where id = '$me'",
  ],
  payment_requests: [
    "insert into payment_requests (tenant_id, lead_id, plan_code, scheduled_for) values (null, '$me', 'pro', null)",
    "update payment_requests set payment_status = 'cancelled' where plan_code = 'pro'",
    "delete from payment_requests where plan_code = 'pro'",
    "insert into payment_requests (id, plan_code) values ('$me', 'seed')",
    superuser("update payment_requests set key_started_at = now() where id = '$me'"),
    refused("a2_before_payment_delete", "delete from payment_requests where id = '$me'"),
  ],
  onboarding_templates: [
    "insert into onboarding_templates (tenant_id, template, step_number, step_name) values (null, 'short', 1, 'call')",
    "update onboarding_templates set step_name = 'talk' where template = 'short'",
  ],
  onboarding_reminders: ["update onboarding_reminders set status = 'cancelled'", "delete from onboarding_reminders"],
  ai_onboarding_workflows: [
    superuser("delete from ai_onboarding_workflows where tenant_id = '$me'"),
    "insert into ai_onboarding_workflows (id, tenant_id, lead_id) values ('$me', null, '$me')",
    "update ai_onboarding_workflows set status = 'paused' where id = '$me'",
  ],
  ai_onboarding_steps: [
    "insert into ai_onboarding_steps (tenant_id, workflow_id, step_number, step_name) values (null, '$me', 99, 'call')",
    "update ai_onboarding_steps set status = 'completed' where workflow_id = '$me' and step_number = 99",
    "delete from ai_onboarding_steps where workflow_id = '$me' and step_number = 99",
  ],
  provider_credentials: [
    superuser("insert into provider_credentials (tenant_id, provider, sealed) values ('$me', 'slack', '')"),
    "update provider_credentials set active = true",
  ],
  tenant_notifications: [
    `insert into tenant_notifications (tenant_id, lead_id, subject, body, scheduled_for)
     values (null, '$me', 'Hello', 'Hi', null)`,
    "update tenant_notifications set status = 'cancelled'",
    "delete from tenant_notifications",
  ],
};

/** Triggers that no tenant fires, although it may write the columns, with the reason. "*": of every table. */
const ENGINE_ONLY: Readonly<Record<string, string>> = {
  "*.a1_show_inserted_row": "its condition asks for a member of brainops_service",
  "ai_sms_queue.b2_settle_sms_at_once": "b1_before_job_update refuses to set unconfirmed by hand",
  "ai_sms_queue.b2_unbegin_sms": "b1_before_job_update refuses to take a row from its worker",
};

// The triggers that a tenant's rights reach, by the bits of tgtype: 2 before, 4 insert, 8 delete, 16 update. Deleting a row
// cascades: the after triggers of the rows that go with it run at the end of the tenant's statement.
const TRIGGERS = `
  select t.tgrelid::regclass::text as table, t.tgname as name, t.tgfoid::regproc::text as function
  from pg_trigger as t
  where not t.tgisinternal
    and (
      t.tgtype & 4 > 0 and has_any_column_privilege('brainops_tenant', t.tgrelid, 'insert')
      or t.tgtype & 8 > 0 and has_table_privilege('brainops_service', t.tgrelid, 'delete')
      or t.tgtype & 8 > 0 and t.tgtype & 2 = 0 and exists (
        select from pg_constraint as c
        where c.conrelid = t.tgrelid and c.confdeltype = 'c' and has_table_privilege('brainops_service', c.confrelid, 'delete')
      )
      or t.tgtype & 16 > 0 and t.tgattr = '' and has_any_column_privilege('brainops_tenant', t.tgrelid, 'update')
      or exists (
        select from unnest(t.tgattr) as a (number) where has_column_privilege('brainops_tenant', t.tgrelid, a.number, 'update')
      )
    )`;

let db: TestDatabase;
let tenant: pg.Client;
let triggers: readonly { table: string; name: string; function: string }[];
beforeAll(async () => {
  db = await createTestDatabase();
  await makeLaunchable(db);
  await seedBothTenants(db);
  // Tenants delete by brainops.delete_rows. This does the same, and shows the plan.
  await db.query(
    `create function public.explained(p_statement text) returns json language plpgsql security definer set search_path = public
     as $$ declare v_plan json; begin execute p_statement into v_plan; return v_plan; end $$;
     grant create on schema public to brainops_service;
     alter function public.explained(text) owner to brainops_service;
     revoke create on schema public from brainops_service`,
  );
  tenant = await db.connect("tenantA");
  triggers = await db.query(TRIGGERS);
});
afterAll(() => db?.close());

interface Plan {
  readonly Triggers?: readonly { "Trigger Name": string; "Constraint Name"?: string; Relation: string }[];
}

/** Names of the table's triggers, foreign keys aside, that the statement itself fired. */
async function firedBy(statement: string, table: string): Promise<string[]> {
  const explain = `explain (analyze, format json) ${statement}`;
  const { rows } = await (statement.startsWith("delete ")
    ? tenant.query<{ "QUERY PLAN": [Plan] }>('select public.explained($1) as "QUERY PLAN"', [explain])
    : tenant.query<{ "QUERY PLAN": [Plan] }>(explain));
  return (rows[0]?.["QUERY PLAN"][0].Triggers ?? [])
    .filter((trigger) => trigger.Relation === table && trigger["Constraint Name"] === undefined)
    .map((trigger) => trigger["Trigger Name"]);
}

/** Throws unless the function refuses the statement: the outermost one in the error's context is that of the trigger. */
async function refuse(statement: string, name: string | undefined): Promise<void> {
  const call = statement.startsWith("delete ") ? deleting(statement) : statement;
  const error: unknown = await tenant.query(call).catch((reason: unknown) => reason);
  const context = error instanceof pg.DatabaseError ? (error.where ?? "") : "";
  const functions = [...context.matchAll(/PL\/pgSQL function (\S+)\(/g)].map((match) => match[1]);
  const raisedBy = functions.findLast((called) => called !== "brainops.delete_rows");
  if (raisedBy !== name) throw new Error(`${statement}: refused by ${raisedBy}, not ${name}`, { cause: error });
}

describe("a tenant's own statements", () => {
  it("are here for every table on which they can fire a trigger", () => {
    const tables = new Set(triggers.map((trigger) => trigger.table));
    expect(Object.keys(STATEMENTS).toSorted()).toEqual([...tables].toSorted());
    const names = new Set(triggers.flatMap(({ table, name }) => [`${table}.${name}`, `*.${name}`]));
    expect(Object.keys(ENGINE_ONLY).filter((name) => !names.has(name))).toEqual([]);
  });

  it.each(Object.entries(STATEMENTS))("fire each trigger of %s but the engine's", async (table, steps) => {
    const own = triggers.filter((trigger) => trigger.table === table);
    const fired = new Set<string>();
    for (const step of steps) {
      const { sql, seat, refusedBy }: Step = typeof step === "string" ? { sql: step } : step;
      const statement = sql.replaceAll("$me", db.tenantA);
      if (seat === "superuser") {
        await db.query(statement);
      } else if (refusedBy === undefined) {
        for (const name of await firedBy(statement, table)) fired.add(name);
      } else {
        await refuse(statement, own.find((trigger) => trigger.name === refusedBy)?.function);
        fired.add(refusedBy);
      }
    }
    const expected = own.filter(({ name }) => !(`${table}.${name}` in ENGINE_ONLY || `*.${name}` in ENGINE_ONLY));
    expect([...fired].toSorted()).toEqual(expected.map((trigger) => trigger.name).toSorted());
  });
});

it("sees a trigger function that names the closed schema with the tenant's rights", async () => {
  await db.query("alter function brainops_internal.before_lead_insert() security invoker");
  const error = await refusal(tenant.query("insert into revenue_leads (contact_name) values ('Eve')"));
  expect([error.code, error.message]).toEqual(["42501", "permission denied for schema brainops_internal"]);
});
