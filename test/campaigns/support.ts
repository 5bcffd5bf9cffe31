// Campaigns without a worker process: a fixed clock, campaigns from lists of steps, and touches claimed,
// performed and settled one by one, as a worker does, or as one that dies in between.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { asWorker } from "../support/jobs.ts";
import type { TestDatabase } from "../support/database.ts";

/** What a launch requires: a postal address for both tenants, and a web server. */
export async function makeLaunchable(db: TestDatabase): Promise<void> {
  await db.query('update tenants set settings = settings || \'{"postal_address": "1 Main Street"}\'');
  await db.query("select brainops.announce_public_url('https://ops.example')");
}

/** Fixes brainops.now(); the returned function sets it. Cheaper than a new function each time. */
export async function fixedClock(db: TestDatabase): Promise<(at: Date) => Promise<void>> {
  await db.query("create table brainops.test_clock as select pg_catalog.now() as at");
  await db.query("grant select on brainops.test_clock to public");
  await db.query(
    "create or replace function brainops.now() returns timestamptz language sql stable as $$ select at from brainops.test_clock $$",
  );
  return async (at) => {
    await db.query("update brainops.test_clock set at = $1", [at]);
  };
}

export interface StepColumns {
  readonly step_number: number;
  readonly step_key?: string;
  readonly kind: string;
  readonly template?: string | null;
  readonly delay?: string;
  readonly delay_from?: "previous" | "enrolment";
  readonly next_step?: number | null;
  readonly config?: Readonly<Record<string, unknown>>;
}

/** The config of a wait_for. */
export function waitingFor(event: string, received: number, timedOut: number): Readonly<Record<string, unknown>> {
  // oxlint-disable-next-line unicorn/no-thenable -- the step's own name for it
  return { event, then: received, else: timedOut };
}

/** Writes the next version of a campaign as the tenant, and publishes it. */
export async function publish(
  client: pg.Client,
  code: string,
  steps: readonly StepColumns[],
  move = false,
): Promise<number> {
  await client.query(
    `insert into campaign_steps (campaign_id, step_number, step_key, kind, template, delay, delay_from, next_step, config)
     select c.id, s.step_number, coalesce(s.step_key, s.step_number::text), s.kind, s.template, coalesce(s.delay, '0'),
       coalesce(s.delay_from, 'previous'), s.next_step, coalesce(s.config, '{}')
     from campaigns as c
     cross join jsonb_to_recordset($2) as s (step_number int, step_key text, kind text, template text, delay interval,
       delay_from text, next_step int, config jsonb)
     where c.code = $1`,
    [code, JSON.stringify(steps)],
  );
  const { rows } = await client.query<{ version: number }>("select brainops.publish_campaign($1, $2) as version", [
    code,
    move,
  ]);
  return rows[0]?.version ?? 0;
}

/** Creates the templates "mail" and "text" and a campaign of the steps, and launches it. */
export async function launch(
  client: pg.Client,
  code: string,
  steps: readonly StepColumns[],
  columns: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  await client.query(
    `insert into ai_campaign_templates (name, channel, subject, body)
     select * from (values ('mail', 'email', 'Hello {{ first_name }}', 'Hi'), ('text', 'sms', null, 'Hi {{ first_name }}'))
       as t (name, channel, subject, body)
     where not exists (select from ai_campaign_templates where name = 'mail')`,
  );
  const names = ["code", "name", ...Object.keys(columns)];
  await client.query(
    `insert into campaigns (${names.join(", ")}) values (${names.map((_, index) => `$${index + 1}`).join(", ")})`,
    [code, code, ...Object.values(columns)],
  );
  await publish(client, code, steps);
  await client.query("update campaigns set status = 'active' where code = $1", [code]);
}

let people = 0;

/** A lead with an address and a number of its own; returns its id. */
export async function newLead(client: pg.Client, columns: Readonly<Record<string, unknown>> = {}): Promise<string> {
  people += 1;
  const row: Record<string, unknown> = {
    contact_name: "Ann Lee",
    email: `ann${people}@example.com`,
    phone: `+1303555${String(people).padStart(4, "0")}`,
    ...columns,
  };
  const names = Object.keys(row);
  const { rows } = await client.query<{ id: string }>(
    `insert into revenue_leads (${names.join(", ")}) values (${names.map((_, index) => `$${index + 1}`).join(", ")}) returning id`,
    Object.values(row),
  );
  return rows[0]?.id ?? "";
}

export async function enrol(client: pg.Client, leadId: string, code: string): Promise<string> {
  const { rows } = await client.query<{ id: string }>("select brainops.enrol($1, $2) as id", [leadId, code]);
  return rows[0]?.id ?? "";
}

export interface ClaimedTouch {
  readonly id: string;
  readonly lease: string;
}

/** Claims an enrolment's due touches. */
export async function claimTouches(client: pg.Client, tenantId: string, enrolmentId: string): Promise<ClaimedTouch[]> {
  return asWorker(client, tenantId, async () => {
    const { rows } = await client.query<ClaimedTouch>(
      `select id, lease from brainops_internal.claim('ai_campaign_touches',
         array(select id from ai_campaign_touches where campaign_id = $1 and status = 'pending'), $2)
       where outcome = 'go'`,
      [enrolmentId, randomUUID()],
    );
    return rows;
  });
}

export interface Performed {
  readonly outcome: "completed" | "skip" | "fail" | "defer";
  readonly reason: string | null;
  readonly run_at: Date | null;
}

export async function perform(client: pg.Client, tenantId: string, touch: ClaimedTouch): Promise<Performed> {
  return asWorker(client, tenantId, async () => {
    const { rows } = await client.query<Performed>("select * from brainops_internal.perform_touch($1, $2)", [
      touch.id,
      touch.lease,
    ]);
    const [answer] = rows;
    if (answer === undefined) throw new Error("perform_touch returned no row");
    return answer;
  });
}

/** Writes the outcome, if the lease still holds. */
export async function settle(
  client: pg.Client,
  tenantId: string,
  touch: ClaimedTouch,
  { outcome, reason, run_at }: Performed,
): Promise<void> {
  await asWorker(client, tenantId, () =>
    client.query(
      "select brainops_internal.settle('ai_campaign_touches', array[row($1, $2, $3, $4, $5, null)::brainops.settlement])",
      [touch.id, touch.lease, outcome, run_at, reason],
    ),
  );
}

/** Performs an enrolment's due touches until none is due. */
export async function workOff(client: pg.Client, tenantId: string, enrolmentId: string): Promise<void> {
  for (let round = 0; round < 50; round += 1) {
    const touches = await claimTouches(client, tenantId, enrolmentId);
    if (touches.length === 0) return;
    for (const touch of touches) await settle(client, tenantId, touch, await perform(client, tenantId, touch));
  }
  throw new Error("the enrolment still has due touches");
}

export interface Enrolment {
  readonly status: string;
  readonly exit_reason: string | null;
  readonly next_touch_date: Date | null;
  readonly touch_count: number;
  readonly version: number;
}

export async function enrolmentOf(db: TestDatabase, id: string): Promise<Enrolment> {
  const [row] = await db.query<Record<keyof Enrolment, never>>(
    "select status, exit_reason, next_touch_date, touch_count, version from ai_nurture_campaigns where id = $1",
    [id],
  );
  if (row === undefined) throw new Error(`no enrolment ${id}`);
  return row;
}

export interface Touch {
  readonly id: string;
  readonly step_key: string | null;
  readonly status: string;
  readonly due_at: Date;
  readonly scheduled_for: Date;
  readonly performed_at: Date | null;
  readonly outcome: string | null;
  readonly next_key: string | null;
  readonly woken_at: Date | null;
  readonly variant: string | null;
  readonly version: number | null;
  readonly last_error: string | null;
  readonly skip_reason: string | null;
}

/** The touches of an enrolment in the order in which they were reached. */
export async function touchesOf(db: TestDatabase, enrolmentId: string): Promise<Touch[]> {
  return db.query<Record<keyof Touch, never>>(
    `select id, step_key, status, due_at, scheduled_for, performed_at, outcome, next_key, woken_at, variant, version, last_error, skip_reason
     from ai_campaign_touches where campaign_id = $1 order by performed_at nulls last, due_at, step_number`,
    [enrolmentId],
  );
}

/** Messages of an enrolment: the step that created each, and the queue row. */
export async function messagesOf(
  db: TestDatabase,
  enrolmentId: string,
): Promise<{ step_key: string; channel: string; status: string; at: Date; reason: string | null }[]> {
  return db.query(
    `select t.step_key, q.channel, q.status, q.scheduled_for as at, coalesce(q.skip_reason, q.last_error) as reason
     from (
       select 'email' as channel, touch_id, status, scheduled_for, skip_reason, last_error from ai_email_queue
       union all
       select 'sms', touch_id, status, scheduled_for, skip_reason, last_error from ai_sms_queue
     ) as q
     inner join ai_campaign_touches as t on t.id = q.touch_id
     where t.campaign_id = $1
     order by t.performed_at, t.due_at, t.step_number`,
    [enrolmentId],
  );
}
