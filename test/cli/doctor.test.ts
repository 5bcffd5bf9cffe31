import { afterAll, beforeAll, expect, test } from "vitest";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { startStripeSimulator, type StripeSimulator } from "../../src/simulator/stripe/index.ts";
import { startTwilioSimulator, type TwilioSimulator } from "../../src/simulator/twilio/index.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestWorker, testConfig } from "../support/worker.ts";
import { brainops, type Ran } from "./run.ts";

let db: TestDatabase;
let simulator: SendgridSimulator;
let twilio: TwilioSimulator;
let stripe: StripeSimulator;
beforeAll(async () => {
  db = await createTestDatabase();
  simulator = await startSendgridSimulator();
  twilio = await startTwilioSimulator();
  stripe = await startStripeSimulator();
});
afterAll(async () => {
  await simulator.close();
  await twilio.close();
  await stripe.close();
  await db.close();
});

const canary = "SG.canary-that-must-never-be-printed";

const providers = (): Record<string, string> => ({
  TWILIO_ACCOUNT_SID: twilio.accountSid,
  TWILIO_AUTH_TOKEN: canary,
  TWILIO_FROM: twilio.from,
  TWILIO_BASE_URL: twilio.url,
  STRIPE_SECRET_KEY: `sk_test_${canary}`,
  STRIPE_BASE_URL: stripe.url,
});

const healthy = (): Record<string, string> => ({
  DATABASE_URL: db.urlOf("worker"),
  SENDGRID_API_KEY: canary,
  SENDGRID_BASE_URL: simulator.url,
  SENDGRID_WEBHOOK_PUBLIC_KEY: simulator.publicKey,
  MAIL_FROM: "Test <test@sender.example>",
  ...providers(),
  PUBLIC_URL: "https://ops.example",
  METRICS_TOKEN: canary,
});

/** Name -> state, from the lines of the report. */
function statesOf({ stdout }: Ran): Record<string, string> {
  return Object.fromEntries(
    [...stdout.matchAll(/^(ok|off|bad) +(\S+(?: \S+)*?) {2,}/gm)].map(([, state = "", name = ""]) => [name, state]),
  );
}

function expectNoSecret({ stdout, stderr }: Ran): void {
  expect(stdout + stderr).not.toContain("canary");
  expect(stdout + stderr).not.toContain(new URL(db.urlOf("worker")).password);
}

test("a healthy environment: nothing is bad, exit code 0", async () => {
  const worker = await startTestWorker(db, simulator, { config: testConfig(simulator, providers()) });
  try {
    const ran = await brainops(["doctor"], { ...healthy(), DATABASE_URL: db.url });
    expect(ran.stdout).not.toMatch(/^bad /m);
    expect(ran.code).toBe(0);
    expect(ran.stderr).toBe("");
    expect(statesOf(ran)).toMatchObject({ DATABASE_URL: "ok", schema: "ok", guard: "ok", workers: "ok", tasks: "ok" });
    expect(statesOf(ran)).toMatchObject({
      SendGrid: "ok",
      Twilio: "ok",
      Stripe: "ok",
      SENDGRID_WEBHOOK_PUBLIC_KEY: "ok",
      PUBLIC_URL: "ok",
    });
    expectNoSecret(ran);
  } finally {
    await worker.stop();
  }
});

test("only the database is set: providers are off, exit code 0", async () => {
  const ran = await brainops(["doctor"], { DATABASE_URL: db.url });
  expect(ran.code).toBe(0);
  expect(statesOf(ran)).toMatchObject({ SendGrid: "off", MAIL_FROM: "off", PUBLIC_URL: "off", workers: "off" });
});

test("a broken environment: each fault on its line, no value of a secret, exit code 1", async () => {
  const ran = await brainops(["doctor"], {
    DATABASE_URL: "postgres://user:canary@127.0.0.1:1/db",
    SENDGRID_API_KEY: canary,
    SENDGRID_BASE_URL: "http://127.0.0.1:1",
    SENDGRID_WEBHOOK_PUBLIC_KEY: canary,
    MAIL_FROM: "canary",
    PUBLIC_URL: "http://ops.example",
    PORT: "canary",
  });
  expect(ran.code).toBe(1);
  expect(statesOf(ran)).toMatchObject({
    DATABASE_URL: "bad",
    SendGrid: "bad",
    SENDGRID_WEBHOOK_PUBLIC_KEY: "bad",
    PUBLIC_URL: "bad",
    PORT: "bad",
  });
  expect(ran.stdout).toMatch(/^bad +MAIL_FROM /m);
  expectNoSecret(ran);
});

test("without DATABASE_URL the rest is still checked", async () => {
  const ran = await brainops(["doctor"]);
  expect(ran.code).toBe(1);
  expect(statesOf(ran)).toMatchObject({ DATABASE_URL: "bad", Node: "ok", SendGrid: "off" });
});

test("--json prints the same report as JSON", async () => {
  const ran = await brainops(["doctor", "--json"], healthy());
  expect(JSON.parse(ran.stdout)).toMatchObject({
    ok: true,
    findings: expect.arrayContaining([{ name: "schema", state: expect.any(String), detail: expect.any(String) }]),
  });
  expectNoSecret(ran);
});

test("a tenant's login gets off for what it may not see", async () => {
  const ran = await brainops(["doctor"], { DATABASE_URL: db.urlOf("tenantA") });
  expect(ran.stdout).not.toMatch(/^bad /m);
  expect(statesOf(ran)).toMatchObject({ rights: "off", workers: "off", breakers: "off" });
});

test("problems in the database are found: guard, breaker, pause, late and lost rows, a failed event, an edited migration", async () => {
  await db.query("create table leaky (id uuid primary key, tenant_id uuid)");
  await db.query("select brainops_internal.hold_account('sendgrid', now() + interval '1 hour')");
  await db.query("select brainops.pause('ai_email_queue', 'tenant-b', null, 'holiday')");
  await db.query(
    `insert into ai_email_queue (tenant_id, recipient, subject, body, scheduled_for)
     values ($1, 'a@example.com', 's', 'b', now() - interval '1 hour')`,
    [db.tenantA],
  );
  await db.query(
    `insert into ai_email_queue (tenant_id, recipient, subject, body, idempotency_key) values ($1, 'b@example.com', 's', 'b', 'lost')`,
    [db.tenantA],
  );
  await db.query(
    `update ai_email_queue set status = 'processing', lease = gen_random_uuid(), started_at = now() - interval '2 hours'
     where idempotency_key = 'lost'`,
  );
  await db.query("update ai_email_queue set status = 'unconfirmed', lease = null where idempotency_key = 'lost'");
  await db.query(
    `insert into webhook_events (provider, provider_event_id, payload, signature_ok, status, processed_at)
     values ('stripe', 'evt_failed', '{}', true, 'failed', now())`,
  );
  await db.query("update brainops.migrations_applied set script = script || ' ' where name = '0001-tenants.sql'");

  const ran = await brainops(["doctor"], { DATABASE_URL: db.url });
  expect(ran.code).toBe(1);
  expect(statesOf(ran)).toMatchObject({
    guard: "bad",
    breakers: "bad",
    pauses: "off",
    "due rows": "bad",
    "unconfirmed rows": "bad",
    "failed rows": "ok",
    "failed events": "off",
    schema: "bad",
  });
  expect(ran.stdout).toContain("leaky");
  expect(ran.stdout).toContain("holiday");
  expect(ran.stdout).toContain("0001-tenants.sql");
});
