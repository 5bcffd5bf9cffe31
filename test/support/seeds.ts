// One row per tenant in every table that has a tenant_id, and the number of rows that a statement touches.
import { randomUUID } from "node:crypto";
import { codeOf } from "../../src/errors.ts";
import type pg from "pg";
import type { TestDatabase } from "./database.ts";

type Row = Readonly<Record<string, unknown>>;

/** The columns of a row besides tenant_id. Null: the table already has a row of each tenant. */
const factories: Readonly<Record<string, ((tenantId: string) => Row) | null>> = {
  revenue_leads: (tenantId) => ({ id: tenantId, contact_name: "Ann", email: "ann@example.com" }),
  revenue_lead_aliases: (tenantId) => ({ id: randomUUID(), lead_id: tenantId }),
  lead_events: (tenantId) => ({ lead_id: tenantId, event: "page_visited" }),
  lead_score_events: (tenantId) => ({ lead_id: tenantId, reason: "referred_by_customer", points: 5 }),
  lead_forms: () => ({ name: "contact" }),
  "brainops.lead_keys": null,
  ai_email_queue: () => ({ recipient: "ann@example.com", subject: "Hello", body: "Hi", scheduled_for: "2100-01-01Z" }),
  email_deliveries: () => ({ recipient: "ann@example.com", event: "delivered", occurred_at: "2026-01-01Z" }),
  email_bounces: () => ({ recipient: "ann@example.com", bounce_type: "hard" }),
  contact_suppressions: () => ({ address: "ann@example.com" }),
  email_unsubscribe_links: () => ({ address_key: "ann@example.com" }),
  contact_consents: () => ({ channel: "email", address: "ann@example.com", state: "granted" }),
  contact_policies: () => ({ channel: "email", cap: 5 }),
  sender_warmups: () => ({ channel: "email", started_on: "2026-01-01", plan: "{20,28}" }),
  marketing_holds: () => ({ channel: "email", reason: "a seed" }),
  "brainops.contact_counts": () => ({ channel: "email", hour: "2026-01-01Z" }),
  "brainops.tenant_locks": () => ({ purpose: "import", bucket: 0 }),
  ai_broadcasts: () => ({ subject: "Hello", body: "Hi" }),
  ai_sms_queue: () => ({ recipient: "+13035550100", body: "Hi", scheduled_for: "2100-01-01Z" }),
  sms_numbers: (tenantId) => ({ number: `+1${BigInt(`0x${tenantId.slice(0, 8)}`) + 2_000_000_000n}` }),
  sms_deliveries: () => ({ recipient: "+13035550100", event: "delivered", occurred_at: "2026-01-01Z" }),
  sms_inbound: (tenantId) => ({
    message_sid: tenantId,
    from_number: "+13035550100",
    to_number: "+15005550006",
    body: "Hi",
    kind: "reply",
    received_at: "2026-01-01Z",
  }),
  sms_threads: () => ({ number: "+13035550100", last_at: "2026-01-01Z" }),
  webhook_events: (tenantId) => ({
    provider: "sendgrid",
    provider_event_id: tenantId,
    payload: "{}",
    signature_ok: true,
  }),
  campaigns: (tenantId) => ({ id: tenantId, code: "seed", name: "Seed" }),
  campaign_steps: (tenantId) => ({ campaign_id: tenantId, step_number: 1, kind: "wait", delay: "1 day" }),
  ai_campaign_templates: () => ({ name: "seed", subject: "Hello", body: "Hi" }),
  ai_nurture_campaigns: (tenantId) => ({ id: tenantId, name: "Seed", campaign_type: "seed" }),
  ai_campaign_touches: (tenantId) => ({ id: tenantId, campaign_id: tenantId, touch_type: "email" }),
  campaign_touch_events: (tenantId) => ({ touch_id: tenantId, event: "sent", occurred_at: "2026-01-01Z" }),
  campaign_rules: (tenantId) => ({ campaign_id: tenantId, name: "seed", tiers: "{hot}" }),
  campaign_split_winners: (tenantId) => ({ campaign_id: tenantId, version: 1, step_key: "seed", variant: "a" }),
  lead_tasks: (tenantId) => ({ lead_id: tenantId, title: "Call" }),
  tenant_keys: () => ({ wrapped_key: "\\x00", secret_key_id: "0123456789abcdef" }),
  provider_credentials: () => ({ provider: "stripe", sealed: "\\x00" }),
  plans: () => ({ code: "seed", name: "Seed", amount: "10", currency: "usd" }),
  payment_requests: (tenantId) => ({ id: tenantId, plan_code: "seed", scheduled_for: "2100-01-01Z" }),
  payment_link_closures: (tenantId) => ({
    payment_request_id: tenantId,
    key_generation: 0,
    reason: "expired",
    scheduled_for: "2100-01-01Z",
  }),
  payment_ledger: (tenantId) => ({
    kind: "payment",
    object_id: `pi_${tenantId}`,
    amount_minor: 1000,
    currency: "usd",
    livemode: false,
    occurred_at: "2026-01-01Z",
  }),
  payment_disputes: (tenantId) => ({
    stripe_dispute_id: `dp_${tenantId}`,
    status: "needs_response",
    amount_minor: 1000,
    currency: "usd",
    opened_at: "2026-01-01Z",
    told_at: "2026-01-01Z",
    told_rank: 1,
  }),
  subscriptions: (tenantId) => ({
    stripe_subscription_id: `sub_${tenantId}`,
    status: "active",
    livemode: false,
    told_at: "2026-01-01Z",
    told_rank: 1,
    told_by: "evt_1",
  }),
  stripe_objects: (tenantId) => ({
    object_id: `plink_${tenantId}`,
    own_account: false,
    payment_request_id: tenantId,
    key_generation: 0,
  }),
  tenant_notifications: () => ({ subject: "A seed", body: "Hello", scheduled_for: "2100-01-01Z" }),
  onboarding_templates: () => ({ template: "seed", step_number: 1, step_name: "seed" }),
  ai_onboarding_workflows: (tenantId) => ({ id: tenantId, lead_id: tenantId, total_steps: 1 }),
  ai_onboarding_steps: (tenantId) => ({ id: tenantId, workflow_id: tenantId, step_number: 1, step_name: "seed" }),
  onboarding_reminders: (tenantId) => ({
    workflow_id: tenantId,
    step_id: tenantId,
    kind: "reminder",
    due_at: "2100-01-01Z",
    scheduled_for: "2100-01-01Z",
  }),
  contact_topics: (tenantId) => ({ id: tenantId, code: "seed", name: "Seed" }),
  contact_topic_optouts: (tenantId) => ({ topic_id: tenantId, address_key: "ann@example.com" }),
  opt_in_requests: () => ({ address: "ann@example.com" }),
  "brainops.tenant_logins": null,
  "brainops.session_events": () => ({
    login: "seed",
    pid: 1,
    backend_start: "2026-01-01Z",
    reason: "long transaction",
    lasted: "61 seconds",
  }),
  "brainops.job_events": (tenantId) => ({
    table_name: "ai_email_queue",
    row_id: tenantId,
    from_status: "pending",
    to_status: "processing",
    attempt: 1,
  }),
  "brainops.job_archive": (tenantId) => ({
    table_name: "ai_email_queue",
    row_id: tenantId,
    status: "completed",
    finished_at: new Date(),
    job_row: "{}",
  }),
  "brainops.breaker_tenants": () => ({ account: "seed" }),
  "brainops.pauses": () => ({ table_name: "ai_email_queue", channel: "none", reason: "a seed" }),
  "brainops.sending_caps": () => ({ channel: "email", per_hour: 1000, per_day: 1000 }),
  "brainops.sending_counts": null,
  "brainops.rate_limits": () => ({ table_name: "ai_email_queue", per_second: 1000, burst: 1000 }),
};

/** The row of a tenant that seedBothTenants inserts into the table; null if the table fills itself. */
export function seedOf(table: string, tenantId: string): Row | null {
  const row = factories[table]?.(tenantId);
  return row === undefined ? null : { tenant_id: tenantId, ...row };
}

/** All tables with a tenant_id, from the catalog, without partitions. */
export async function tenantTables(db: TestDatabase): Promise<string[]> {
  const rows = await db.query<{ name: string }>(
    `select c.oid::regclass::text as name from pg_class as c
     inner join pg_attribute as a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
     where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace::regnamespace::text in ('public', 'brainops')
     order by 1`,
  );
  return rows.map((row) => row.name);
}

/** Inserts a row of both tenants into every tenant table and returns the tables. Throws for a table without a factory. */
export async function seedBothTenants(db: TestDatabase): Promise<string[]> {
  const tables = await tenantTables(db);
  const missing = tables.filter((table) => factories[table] === undefined);
  if (missing.length > 0) {
    throw new Error(
      `test/support/seeds.ts has no factory for ${missing.join(", ")}; add one, so that its rows are tested`,
    );
  }
  // In the order of the factories, because a row may refer to rows of earlier tables.
  const names = Object.keys(factories);
  for (const table of tables.toSorted((a, b) => names.indexOf(a) - names.indexOf(b))) {
    for (const tenantId of [db.tenantA, db.tenantB]) {
      const row = { tenant_id: tenantId, ...factories[table]?.(tenantId) };
      const columns = Object.keys(row);
      if (columns.length === 1) continue;
      const places = columns.map((_, index) => `$${index + 1}`).join(", ");
      await db.query(`insert into ${table} (${columns.join(", ")}) values (${places})`, Object.values(row));
    }
  }
  return tables;
}

/** The number of rows that a statement touches, or the SQLSTATE of its error. The statement is always rolled back. */
export async function touched(
  client: pg.Client,
  text: string,
  values: readonly unknown[] = [],
): Promise<number | string> {
  await client.query("begin");
  try {
    const { rowCount, rows } = await client.query<Record<string, unknown>>(text, [...values]);
    return rows.length === 0 ? (rowCount ?? 0) : rows.length;
  } catch (error) {
    return codeOf(error) ?? String(error);
  } finally {
    await client.query("rollback");
  }
}
