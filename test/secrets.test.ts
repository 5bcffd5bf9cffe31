// Secrets in errors: none is in a row, a log line or an output, whatever fails and whatever a provider answers. Every
// secret of these tests contains the word CANARY.
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { newTenantKey, seal, secretKeyId } from "../src/revenue/credentials/envelope.ts";
import { withoutSecrets } from "../src/secrets.ts";
import { createLog } from "../src/telemetry/log.ts";
import { brainops } from "./cli/run.ts";
import { createTestDatabase, type TestDatabase } from "./support/database.ts";
import { startTestWorker, testConfig } from "./support/worker.ts";

const SECRETS = /CANARY|Q0FOQVJZ/; // and the same in base64, as in a Basic Authorization header
const secretKey = randomBytes(32);

/** The database of the test that runs. */
let db: TestDatabase;
/** A server in the place of every provider. It repeats what it was sent, secrets and all. */
let echo: { url: string; close: () => void };
let answers: { status: number } | "disconnect" = { status: 400 };

beforeAll(async () => {
  const server = createServer((request, response) => {
    request.resume();
    if (answers === "disconnect") return void request.socket.destroy();
    const text = JSON.stringify({ headers: request.headers, url: request.url });
    response.writeHead(answers.status, { "content-type": "application/json", "x-echo": "CANARY" });
    response.end(
      JSON.stringify({
        errors: [{ message: text, field: text }],
        error: { message: text },
        message: text,
        code: 20_003,
      }),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  echo = { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close: () => server.close() };
});
afterAll(() => echo?.close());

const platform = () =>
  testConfig(null, {
    SENDGRID_API_KEY: "SG.CANARY-sendgrid",
    SENDGRID_BASE_URL: echo.url,
    MAIL_FROM: "Test <test@sender.example>",
    TWILIO_ACCOUNT_SID: `AC${"1".repeat(32)}`,
    TWILIO_AUTH_TOKEN: "CANARY-twilio",
    TWILIO_BASE_URL: echo.url,
    TWILIO_FROM: "+15005550006",
    STRIPE_SECRET_KEY: "sk_test_CANARY_stripe",
    STRIPE_BASE_URL: echo.url,
    SLACK_BASE_URL: echo.url,
    BRAINOPS_SECRET_KEY: secretKey.toString("base64"),
  });

async function seed(): Promise<void> {
  const wrapped = newTenantKey(secretKey, db.tenantB);
  await db.query(
    "insert into tenant_keys (tenant_id, wrapped_key, secret_key_id) values ($1, $2, $3) on conflict do nothing",
    [db.tenantB, wrapped, secretKeyId(secretKey)],
  );
  const own = {
    sendgrid: { api_key: "SG.CANARY-own-sendgrid" },
    twilio: { account_sid: `AC${"2".repeat(32)}`, auth_token: "CANARY-own-twilio", from: "+15005550007" },
    stripe: { secret_key: "sk_test_CANARY_own_stripe" },
    slack: { webhook_url: "https://hooks.slack.com/services/CANARY" },
  };
  for (const [provider, credential] of Object.entries(own)) {
    await db.query("insert into provider_credentials (tenant_id, provider, sealed) values ($1, $2, $3)", [
      db.tenantB,
      provider,
      seal(secretKey, wrapped, { tenantId: db.tenantB, provider, name: "default" }, credential),
    ]);
  }
}

const tables = ["ai_email_queue", "ai_sms_queue", "payment_requests", "tenant_notifications"] as const;

async function insertWork(): Promise<void> {
  for (const tenant of [db.tenantA, db.tenantB]) {
    await db.query(
      `insert into ai_email_queue (tenant_id, recipient, subject, body) values ($1, 'p@example.com', 's', 'b')`,
      [tenant],
    );
    await db.query(
      `insert into ai_sms_queue (tenant_id, recipient, body, metadata) values ($1, '+13035550100', 'b', '{"transactional": true, "type": "appointment"}')`,
      [tenant],
    );
    await db.query(
      `insert into plans (tenant_id, code, name, amount, currency) values ($1, 'p', 'P', 5, 'usd') on conflict do nothing`,
      [tenant],
    );
    await db.query(
      `with l as (insert into revenue_leads (tenant_id, contact_name, email) values ($1, 'x', gen_random_uuid() || '@x.example') returning id)
       insert into payment_requests (tenant_id, lead_id, plan_code) select $1, id, 'p' from l`,
      [tenant],
    );
  }
  await db.query("select brainops.notify($1, 's', 'b')", [db.tenantB]);
}

async function everythingWritten(): Promise<string> {
  const texts = await Promise.all(
    [...tables, "brainops.job_events", "brainops.pauses", "brainops.circuit_breakers", "webhook_events"].map((table) =>
      db.query<{ all: string | null }>(`select string_agg(to_jsonb(t)::text, ' ') as all from ${table} as t`),
    ),
  );
  return texts.map(([row]) => row?.all ?? "").join(" ");
}

describe("a provider's error", () => {
  it.each([400, 401, 404, 429, 500, "disconnect"] as const)(
    "%s, with the request repeated in its text",
    async (failure) => {
      answers = failure === "disconnect" ? failure : { status: failure };
      db = await createTestDatabase();
      await seed();
      const lines: string[] = [];
      const log = createLog({ level: "trace", human: false, destination: { write: (line) => void lines.push(line) } });
      const worker = await startTestWorker(db, null, { config: platform(), log });
      await insertWork();
      const seen = tables.map((table) => `select last_error is not null or status = 'failed' as done from ${table}`);
      await db.until(`select bool_and(done) from (${seen.join(" union all ")}) as t`);
      await worker.stop();
      const written = await everythingWritten();
      expect(written).toContain("SendGrid");
      expect(around(written)).toBe("");
      expect(around(lines.join(""))).toBe("");
      await db.close();
    },
  );
});

/** The text around the first secret; "" without one. */
function around(text: string): string {
  const at = text.search(SECRETS);
  return at < 0 ? "" : text.slice(Math.max(0, at - 300), at + 60);
}

describe("a command that fails", () => {
  const database = (user: string, place: string): string =>
    `postgres://${[user, "CANARY-password"].join(":")}@${place}`;
  const commands = [
    ["migrate"],
    ["doctor"],
    ["work"],
    ["status"],
    ["tenant", "list"],
    ["person", "export", "acme", "a@b.example"],
  ];

  it.each([
    ["a login that does not exist", database("nobody", "the.server/none")],
    ["no server", database("me", "127.0.0.1:1/db")],
    ["an unknown host", database("me", "nowhere.invalid/db")],
    ["a malformed port", database("me", "127.0.0.1:port/db")],
    ["a malformed escape", database("me", "127.0.0.1/%zz")],
    ["a space", database("me", "127.0.0.1 /db")],
    ["another scheme", database("me", "h/db").replace("postgres", "mysql")],
    [
      "a certificate that is missing",
      `${database("me", "127.0.0.1:1/db")}?sslmode=verify-full&sslrootcert=/none&password=CANARY`,
    ],
    ["options", `${database("me", "127.0.0.1:1/db")}?options=-c%20CANARY`],
  ])("does not print the password of DATABASE_URL: %s", async (_what, url) => {
    db = await createTestDatabase();
    const here = url.replace("the.server", new URL(db.url).host);
    for (const command of commands) {
      const { code, stdout, stderr } = await brainops(command, { DATABASE_URL: here, PATH: process.env["PATH"] ?? "" });
      expect(code).not.toBe(0);
      expect([command.join(" "), around(stdout + stderr)]).toEqual([command.join(" "), ""]);
    }
    await db.close();
  });

  it("does not print a variable that it cannot use", async () => {
    const names = [
      "DATABASE_URL",
      "PORT",
      "TRUSTED_PROXIES",
      "PUBLIC_URL",
      "SENDGRID_BASE_URL",
      "SENDGRID_WEBHOOK_PUBLIC_KEY",
      "MAIL_FROM",
      "TWILIO_ACCOUNT_SID",
      "TWILIO_BASE_URL",
      "TWILIO_FROM",
      "STRIPE_BASE_URL",
      "SLACK_BASE_URL",
      "SLACK_WEBHOOK_URL",
      "BRAINOPS_SECRET_KEY",
    ];
    const environment = Object.fromEntries(names.map((name) => [name, "CANARY value"]));
    for (const command of [["doctor"], ["serve"], ["work"], ["migrate"]]) {
      const { code, stdout, stderr } = await brainops(command, environment);
      expect(code).not.toBe(0);
      expect([command, around(stdout + stderr)]).toEqual([command, ""]);
    }
  });

  it("does not print a secret given on its standard input", async () => {
    db = await createTestDatabase();
    const env = { DATABASE_URL: db.url, BRAINOPS_SECRET_KEY: secretKey.toString("base64") };
    for (const [provider, credential] of [
      ["slack", '{"webhook_url": "https://elsewhere.example/CANARY"}'],
      ["twilio", '{"account_sid": "CANARY", "auth_token": "CANARY", "from": "CANARY"}'],
      ["stripe", '{"secret": "CANARY"}'],
      ["sendgrid", '{"api_key": CANARY}'],
      ["sendgrid", "CANARY"],
    ] as const) {
      const { code, stdout, stderr } = await brainops(
        ["tenant", "credential", "set", "tenant-b", provider],
        env,
        credential,
      );
      expect(code).not.toBe(0);
      expect(around(stdout + stderr)).toBe("");
    }
    await db.close();
  });
});

describe("a text of others", () => {
  it.each([
    ["Bearer SG.abc-DEF_1.xyz is wrong", "Bearer … is wrong"],
    ["key SG.abc.def!", "key SG.…!"],
    ["Invalid API Key: sk_live_51abc", "Invalid API Key: sk_live_…"],
    ["rk_test_1, whsec_abc+/=", "rk_test_…, whsec_…"],
    ['"authorization":"Basic QUM6dG9rZW4="', '"authorization":"Basic …"'],
    ["POST https://hooks.slack.com/services/T/B/x failed", "POST https://hooks.slack.com/… failed"],
    ["connect postgres://me:p@ss/w:ord@host:5432/db", "connect postgres://me:…@host:5432/db"],
    ["https://key:@host/", "https://key:…@host/"],
    [
      "see https://docs.example:8080/a and ask me@example.com",
      "see https://docs.example:8080/a and ask me@example.com",
    ],
  ])("%j is kept as %j", (text, kept) => {
    expect(withoutSecrets(text)).toBe(kept);
  });
});
