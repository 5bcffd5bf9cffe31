// What tenant A learns when it names rows of tenant B. Triggers run before row level security refuses a row, and with
// the engine's rights. So for each statement: the answer is the one that it gets for a tenant that does not exist, and
// it waits for none of B's transactions.
import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { codeOf, messageOf } from "../../src/errors.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { seedBothTenants } from "../support/seeds.ts";

// $them: the id of tenant B, and of its rows that seedBothTenants inserts with that id.
const STATEMENTS = [
  "insert into revenue_leads (tenant_id, email) values ('$them', 'ann@example.com')",
  // Merged into B's lead, the row would violate a constraint of that lead.
  "insert into revenue_leads (tenant_id, email, score) values ('$them', 'ann@example.com', 1000)",
  "insert into revenue_leads (tenant_id, email, phone_e164) values ('$them', 'ann@example.com', 'unknown')",
  "insert into revenue_leads (tenant_id, email) values ('$them', 'ann@example.com') on conflict do nothing",
  "insert into lead_events (lead_id, event) values ('$them', 'page_visited')",
  "insert into lead_events (tenant_id, lead_id, event) values (null, '$them', 'page_visited')",
  "insert into lead_events (tenant_id, lead_id, event) values ('$them', '$them', 'page_visited')",
  "insert into lead_score_events (lead_id, reason, points) values ('$them', 'referred_by_customer', 5)",
  "insert into lead_tasks (lead_id, title) values ('$them', 'Call')",
  "insert into contact_consents (lead_id, channel, address, state) values ('$them', 'email', 'ann@example.com', 'granted')",
  "insert into contact_consents (tenant_id, channel, address, state) values ('$them', 'sms', '303 555 0100', 'granted')",
  "insert into contact_suppressions (tenant_id, address) values ('$them', 'ann@example.com') on conflict do nothing",
  "insert into ai_email_queue (recipient, subject, body) values ('$them', 'Hello', 'Hi')",
  "insert into ai_email_queue (lead_id, recipient, subject, body) values ('$them', 'ann@example.com', 'Hello', 'Hi')",
  "insert into ai_email_queue (broadcast_id, recipient) values ('$broadcast', 'ann@example.com')",
  "insert into ai_email_queue (tenant_id, broadcast_id, recipient) values ('$them', '$broadcast', 'ann@example.com')",
  "insert into ai_sms_queue (recipient, body) values ('$them', 'Hi')",
  "insert into ai_sms_queue (tenant_id, recipient, body) values ('$them', '303 555 0100', 'Hi')",
  "insert into ai_broadcasts (tenant_id, template, status) values ('$them', 'seed', 'active')",
  "insert into campaigns (tenant_id, code, name, status) values ('$them', 'seed', 'Seed', 'active')",
  "insert into campaign_steps (campaign_id, step_number, kind) values ('$them', 2, 'exit')",
  "insert into campaign_steps (tenant_id, campaign_id, step_number, kind) values ('$them', '$them', 2, 'exit')",
  "insert into campaign_rules (campaign_id, name, tiers) values ('$them', 'seed', '{hot}')",
  "insert into ai_campaign_templates (tenant_id, name, subject, body) values ('$them', 'seed', 'Hello', 'Hi')",
  "insert into ai_nurture_campaigns (lead_id, campaign_type) values ('$them', 'welcome')",
  "insert into ai_nurture_campaigns (tenant_id, lead_id, campaign_type) values ('$them', '$them', 'seed')",
  "insert into ai_nurture_campaigns (tenant_id, lead_id, campaign_type) values ('$them', '$them', 'welcome')",
  "insert into ai_campaign_touches (campaign_id, touch_type) values ('$them', 'email')",
  "insert into ai_campaign_touches (tenant_id, campaign_id, touch_type) values ('$them', '$them', 'email')",
  "insert into plans (lead_id, code, name, amount, currency) values ('$them', 'seed', 'Seed', 10, 'usd')",
  "insert into payment_requests (tenant_id, plan_code) values ('$them', 'seed')",
  "insert into payment_requests (lead_id, plan_code) values ('$them', 'seed')",
  "insert into ai_onboarding_workflows (lead_id) values ('$them')",
  "insert into ai_onboarding_workflows (tenant_id, lead_id) values ('$them', '$them')",
  "insert into ai_onboarding_steps (workflow_id, step_number, step_name) values ('$them', 2, 'seed')",
  "insert into ai_onboarding_steps (tenant_id, workflow_id, step_number, step_name) values ('$them', '$them', 2, 'seed')",
  "insert into tenant_notifications (lead_id, subject, body) values ('$them', 'Hello', 'Hi')",
  "update revenue_leads set tenant_id = '$them'",
  "update contact_suppressions set tenant_id = '$them'",
  "select brainops.address_zones('$them', '$them', 'ann@example.com')",
  "select brainops.broadcast_to_leads('$broadcast')",
  "select brainops.cancel('payment_requests', '$them')",
  "select brainops.capture_lead('$them', '{\"email\": \"ann@example.com\"}', 'form', '{}')",
  "select brainops.complete_onboarding_step('$them', 'seed')",
  "select brainops.consent_state('$them', 'email', 'ann@example.com')",
  "select brainops.contact_policy('$them', 'email')",
  "select brainops.enrol('$them', 'welcome')",
  "select brainops.exit_enrolment('$them', 'a test')",
  "select brainops.export_person('$them', 'ann@example.com')",
  "select brainops.forget('$them', 'ann@example.com')",
  "select brainops.import_leads('$them', '[]')",
  "select brainops.launch_problems('$them')",
  "select brainops.merge_leads('$them', '$them')",
  "select brainops.notify('$them', 'Hello', 'Hi')",
  "select brainops.pause_campaign('seed', '$them')",
  "select brainops.publish_campaign('seed', p_tenant => '$them')",
  "select brainops.record_reply('$them')",
  "select brainops.start_onboarding('$them')",
  "select brainops.tenant_country('$them')",
];

let db: TestDatabase;
let tenantA: pg.Client;
let broadcast: string;
beforeAll(async () => {
  db = await createTestDatabase();
  await seedBothTenants(db);
  tenantA = await db.connect("tenantA");
  await db.query(
    `update tenants set settings = '{"country": "DE", "postal_address": "1 Main St, Denver"}' where id = $1`,
    [db.tenantB],
  );
  const rows = await db.query<{ id: string }>("select id from ai_broadcasts where tenant_id = $1", [db.tenantB]);
  broadcast = rows[0]?.id ?? "";
});
afterAll(() => db?.close());

interface Answer {
  readonly code?: string;
  readonly message?: string;
  readonly rows?: string;
  readonly rowCount?: number | null;
}

/** What the client sees of a statement, without the ids that it named. It is rolled back. */
async function answer(client: pg.Client, statement: string, them: string, theirBroadcast: string): Promise<Answer> {
  const withoutIds = (text: string): string => text.replaceAll(them, "$them").replaceAll(theirBroadcast, "$broadcast");
  await client.query("begin");
  try {
    await client.query("set local lock_timeout = '200ms'");
    const sql = statement.replaceAll("$them", them).replaceAll("$broadcast", theirBroadcast);
    const { rows, rowCount } = await client.query<Record<string, unknown>>(sql);
    return { rowCount, rows: withoutIds(JSON.stringify(rows)) };
  } catch (error) {
    return { code: codeOf(error) ?? "", message: withoutIds(messageOf(error)) };
  } finally {
    await client.query("rollback");
  }
}

/** Statements whose answer shows whether tenant B exists, or has a row. */
async function revealing(client: pg.Client): Promise<unknown[]> {
  const found: unknown[] = [];
  for (const statement of STATEMENTS) {
    const forB = await answer(client, statement, db.tenantB, broadcast);
    const forNobody = await answer(client, statement, randomUUID(), randomUUID());
    if (!isDeepStrictEqual(forB, forNobody)) found.push({ statement, forB, forNobody });
  }
  return found;
}

describe("a row or call for another tenant", () => {
  it("reaches the triggers and functions: the statements name only columns that exist", async () => {
    const wrong: unknown[] = [];
    for (const statement of STATEMENTS) {
      const { code } = await answer(tenantA, statement, db.tenantB, broadcast);
      if (code !== undefined && /^42(?!501)/.test(code)) wrong.push({ statement, code });
    }
    expect(wrong).toEqual([]);
  });

  it("is answered as for a tenant that does not exist", async () => {
    expect(await revealing(tenantA)).toEqual([]);
  });

  it.skipIf(!isServer)("waits for none of that tenant's transactions (needs a server)", async () => {
    const theirs = await db.connect("superuser");
    await theirs.query("begin");
    for (const table of [
      "revenue_leads",
      "campaigns",
      "ai_broadcasts",
      "ai_nurture_campaigns",
      "plans",
      "payment_requests",
    ]) {
      await theirs.query(`select from ${table} where tenant_id = $1 for update`, [db.tenantB]);
    }
    await theirs.query("insert into brainops.lead_keys values ($1, 'email:bo@example.com', gen_random_uuid())", [
      db.tenantB,
    ]);
    await theirs.query("select brainops_internal.lock_keys($1, 'import', '{all}')", [db.tenantB]);
    const waits: string[] = [];
    for (const statement of [
      ...STATEMENTS,
      "insert into revenue_leads (tenant_id, email) values ('$them', 'bo@example.com')",
    ]) {
      const { code } = await answer(tenantA, statement, db.tenantB, broadcast);
      if (code === "55P03") waits.push(statement);
    }
    await theirs.query("rollback");
    expect(waits).toEqual([]);
  });

  it("is answered to a login without a tenant as for a tenant that does not exist", async () => {
    await db.query(`grant brainops_tenant to ${new URL(db.urlOf("anonymous")).username}`);
    expect(await revealing(await db.connect("anonymous"))).toEqual([]);
  });
});

describe("a mail that names an enrolment of another tenant", () => {
  it("is skipped as if the enrolment did not exist", async () => {
    const [enrolment] = await db.query<{ id: string }>(
      `insert into ai_nurture_campaigns (tenant_id, lead_id, campaign_type) values ($1, $1, 'welcome') returning id`,
      [db.tenantB],
    );
    await db.as(
      "tenantA",
      "insert into ai_email_queue (id, recipient, subject, body, enrolment_id) values ($1, 'cy@example.com', 'Hello', 'Hi', $2)",
      [db.tenantA, enrolment?.id],
    );
    const worker = await db.connect("worker");
    await worker.query("set role brainops_worker");
    await worker.query("select set_config('app.tenant_id', $1, false)", [db.tenantA]);
    const reasons = async (): Promise<string[]> =>
      (
        await worker.query<{ reason: string }>("select reason from brainops_internal.gate_email(array[$1::uuid])", [
          db.tenantA,
        ])
      ).rows.map(({ reason }) => reason);
    expect(await reasons()).toEqual(["left the campaign: the enrolment is gone"]); // held, because it is a draft
    await db.query("update ai_nurture_campaigns set status = 'exited', exit_reason = 'a secret' where id = $1", [
      enrolment?.id,
    ]);
    expect(await reasons()).toEqual(["left the campaign: the enrolment is gone"]);
  });
});
