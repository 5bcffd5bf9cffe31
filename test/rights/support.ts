// Everything that a person leaves behind at a tenant, and where it is stored.
import type { TestDatabase } from "../support/database.ts";

export interface Person {
  readonly email: string;
  /** In E.164. */
  readonly phone: string;
  readonly name: string;
}

/** Where a text occurs, in any column of any table except other tenants' rows: "table.column". */
export async function tracesOf(db: TestDatabase, text: string, tenantId: string): Promise<string[]> {
  const columns = await db.query<{ table: string; column: string; of_tenant: boolean }>(
    `select c.oid::regclass::text as table, quote_ident(a.attname) as column,
       exists (select from pg_attribute as t where t.attrelid = c.oid and t.attname = 'tenant_id') as of_tenant
     from pg_class as c inner join pg_attribute as a on a.attrelid = c.oid
     where c.relkind = 'r' and a.attnum > 0 and not a.attisdropped and a.atttypid <> 'bytea'::regtype
       and c.relnamespace::regnamespace::text in ('public', 'brainops', 'graphile_worker')`,
  );
  const found = new Set<string>();
  for (const { table, column, of_tenant: ofTenant } of columns) {
    const rows = await db.query(
      `select from ${table} where position(lower($1) in lower(${column}::text)) > 0
       and ($2::uuid is null or ${ofTenant ? "(tenant_id = $2 or tenant_id is null)" : "true"}) limit 1`,
      [text, tenantId],
    );
    if (rows.length > 0) found.add(`${table.replace(/_\d{4}_\d\d$/, "")}.${column}`);
  }
  return [...found].toSorted();
}

/**
 * One row of the person in every table that may have data on people. A new table that is not named here
 * fails test/rights/catalog.test.ts.
 */
export async function leaveTraces(db: TestDatabase, tenantId: string, person: Person): Promise<string> {
  const { email, phone, name } = person;
  const run = <Row extends Record<string, unknown>>(text: string, ...values: unknown[]): Promise<Row[]> =>
    db.query<Row>(text, values);
  const one = async (text: string, ...values: unknown[]): Promise<string> =>
    (await run<{ id: string }>(text, ...values))[0]?.id ?? "";

  const lead = await one(
    `insert into revenue_leads (tenant_id, contact_name, email, phone, phone_e164, metadata)
     values ($1, $2, $3, $4, $4, jsonb_build_object('note', $2::text)) returning id`,
    tenantId,
    name,
    email,
    phone,
  );
  // The same person a second time: merged, with an alias and an event that keeps the old values.
  await run(
    "insert into revenue_leads (tenant_id, contact_name, email) values ($1, $2, upper($3))",
    tenantId,
    name,
    email,
  );
  await run(
    "insert into lead_events (tenant_id, lead_id, event, metadata) values ($1, $2, 'said', jsonb_build_object('words', $3::text))",
    tenantId,
    lead,
    email,
  );
  await run(
    "insert into lead_score_events (tenant_id, lead_id, reason, points, source_key) values ($1, $2, 'referred_by_customer', 5, $3)",
    tenantId,
    lead,
    email,
  );
  await run("insert into lead_tasks (tenant_id, lead_id, title) values ($1, $2, 'Call ' || $3)", tenantId, lead, name);

  const mail = await one(
    "insert into ai_email_queue (tenant_id, recipient, subject, body, scheduled_for) values ($1, $2, 'Hi', 'Dear ' || $3, '2100-01-01Z') returning id",
    tenantId,
    email,
    name,
  );
  const archived = await one(
    "insert into ai_email_queue (tenant_id, recipient, subject, body, status) values ($1, $2, 'Hi', 'Dear ' || $3, 'cancelled') returning id",
    tenantId,
    lead,
    name,
  );
  await run("update ai_email_queue set finished_at = '2026-01-15Z' where id = $1", archived);
  await run(
    "insert into email_deliveries (tenant_id, email_id, recipient, event, occurred_at) values ($1, $2, $3, 'delivered', '2026-01-01Z')",
    tenantId,
    mail,
    email.toLowerCase(),
  );
  await run(
    "insert into email_bounces (tenant_id, email_id, recipient, bounce_type, reason) values ($1, $2, $3, 'soft', $3)",
    tenantId,
    mail,
    email,
  );
  await run(
    "insert into webhook_events (tenant_id, provider, provider_event_id, payload, signature_ok, status, processed_at) values ($1, 'sendgrid', $2, jsonb_build_object('email', $3::text), true, 'completed', now())",
    tenantId,
    `mail-${tenantId}-${email}`,
    email,
  );
  await run(
    "insert into webhook_events (tenant_id, provider, provider_event_id, payload, signature_ok, status, processed_at) values ($1, 'twilio', $2, jsonb_build_object('From', $3::text), true, 'completed', now())",
    tenantId,
    `text-${tenantId}-${phone}`,
    phone,
  );
  await run("select brainops_internal.unsubscribe_token($1, $2)", tenantId, email);
  await run(
    "insert into contact_suppressions (tenant_id, address, reason) values ($1, $2, 'bounced')",
    tenantId,
    email,
  );
  await run(
    "insert into contact_suppressions (tenant_id, channel, address, reason) values ($1, 'sms', $2, 'unsubscribed')",
    tenantId,
    phone,
  );
  await run(
    "insert into contact_consents (tenant_id, channel, address, state) values ($1, 'email', $2, 'granted'), ($1, 'sms', $3, 'granted')",
    tenantId,
    email,
    phone,
  );
  const topic = await one(
    "insert into contact_topics (tenant_id, code, name) values ($1, 'news', 'News') on conflict (tenant_id, code) do update set name = 'News' returning id",
    tenantId,
  );
  await run(
    "insert into contact_topic_optouts (tenant_id, topic_id, address_key) values ($1, $2, lower($3))",
    tenantId,
    topic,
    email,
  );
  await run("insert into opt_in_requests (tenant_id, lead_id, address) values ($1, $2, $3)", tenantId, lead, email);

  const text = await one(
    "insert into ai_sms_queue (tenant_id, recipient, body, scheduled_for) values ($1, $2, 'Dear ' || $3, '2100-01-01Z') returning id",
    tenantId,
    phone,
    name,
  );
  await run(
    "insert into sms_deliveries (tenant_id, sms_id, recipient, event, occurred_at) values ($1, $2, $3, 'delivered', '2026-01-01Z')",
    tenantId,
    text,
    phone,
  );
  await run(
    "insert into sms_inbound (tenant_id, message_sid, from_number, to_number, body, kind, received_at) values ($1, $4, $2, '+15005550006', 'It is ' || $3, 'reply', '2026-01-01Z')",
    tenantId,
    phone,
    name,
    `SM-${tenantId}-${phone}`,
  );
  await run(
    "insert into sms_threads (tenant_id, number, last_at) values ($1, $2, '2026-01-01Z') on conflict do nothing",
    tenantId,
    phone,
  );

  await run(
    "insert into plans (tenant_id, code, name, amount, currency) values ($1, 'life', 'Life', 10, 'usd') on conflict do nothing",
    tenantId,
  );
  const request = await one(
    "insert into payment_requests (tenant_id, lead_id, plan_code, metadata, scheduled_for) values ($1, $2, 'life', jsonb_build_object('name', $3::text), '2100-01-01Z') returning id",
    tenantId,
    lead,
    name,
  );
  await run(
    "insert into payment_ledger (tenant_id, payment_request_id, kind, object_id, amount_minor, currency, livemode, occurred_at) values ($1, $2, 'payment', $3, 1000, 'usd', false, '2026-01-01Z')",
    tenantId,
    request,
    `pi_${request}`,
  );
  await run(
    "insert into stripe_objects (tenant_id, object_id, own_account, payment_request_id, key_generation) values ($1, $3, $4, $2, 0)",
    tenantId,
    request,
    `pi_${request}`,
    tenantId === db.tenantB,
  );
  // Tenant B has its own account; an event of the platform's account names no tenant.
  await run(
    "insert into webhook_events (provider, tenant_id, provider_event_id, payload, signature_ok, status, processed_at) values ('stripe', $4, $1, jsonb_build_object('data', jsonb_build_object('object', jsonb_build_object('id', $2::text, 'receipt_email', $3::text))), true, 'completed', now())",
    `${tenantId}-${email}`,
    `pi_${request}`,
    email,
    tenantId === db.tenantB ? tenantId : null,
  );

  await run("update revenue_leads set stage = 'won' where id = $1", lead);
  await run(
    "update ai_onboarding_steps set description = 'For ' || $2 where workflow_id = (select id from ai_onboarding_workflows where lead_id = $1)",
    lead,
    name,
  );
  await run(
    "select brainops.complete_onboarding_step(id, 'welcome_email') from ai_onboarding_workflows where lead_id = $1",
    lead,
  );
  await run(
    "select brainops.notify($1, 'About ' || $2, $3 || ' did not answer', $4)",
    tenantId,
    name,
    email,
    `about-${lead}`,
  );
  await run(
    "select brainops_internal.mail_notification(id) from tenant_notifications where idempotency_key = $1",
    `about-${lead}`,
  );
  await run(
    "insert into brainops.job_events (tenant_id, table_name, row_id, from_status, to_status, attempt, detail) values ($1, 'ai_email_queue', $2, 'processing', 'pending', 1, '550 ' || $3)",
    tenantId,
    mail,
    email,
  );
  return lead;
}
