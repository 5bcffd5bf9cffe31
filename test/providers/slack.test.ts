// A tenant's Slack: which URLs are called, and what the tenant sees of the answer.
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { newTenantKey, seal, secretKeyId } from "../../src/revenue/credentials/envelope.ts";
import { saveCredential } from "../../src/revenue/credentials/store.ts";
import { startSlackSimulator, type SlackSimulator } from "../../src/simulator/slack/index.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { onServer } from "../support/sql.ts";
import { startTestWorker, testConfig } from "../support/worker.ts";

const CANARY = "INTERNAL-CANARY role=admin token=abc";
const secretKey = randomBytes(32);
const secrets = { BRAINOPS_SECRET_KEY: secretKey.toString("base64") };

let db: TestDatabase;
let slack: SlackSimulator;
let internal: { url: string; requests: number; close: () => void };

beforeAll(async () => {
  [db, slack] = await Promise.all([createTestDatabase(), startSlackSimulator()]);
  const server = createServer((_request, response) => {
    internal.requests++;
    response.writeHead(404).end(CANARY);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  internal = {
    url: `http://localhost:${(server.address() as AddressInfo).port}/latest/meta-data/`,
    requests: 0,
    close: () => server.close(),
  };
});
afterAll(async () => {
  internal?.close();
  await slack?.close();
  await db?.close();
});
beforeEach(() =>
  db.query("delete from tenant_notifications; delete from provider_credentials; delete from tenant_keys"),
);

const place = () => ({ tenantId: db.tenantA, provider: "slack" }) as const;

async function notify(): Promise<void> {
  await db.query("select brainops.notify($1, 'Hello', 'there', $2)", [db.tenantA, "slack"]);
}

describe("a Slack credential", () => {
  it("is stored for Slack's own hosts only", async () => {
    const save = (webhook_url: string) =>
      onServer(db.url, (client) =>
        saveCredential(client, { BRAINOPS_SECRET_KEY: secretKey }, place(), { webhook_url }),
      );
    for (const url of [
      internal.url,
      "http://169.254.169.254/latest/meta-data/",
      "https://internal.example/hooks.slack.com/",
      "https://hooks.slack.com:8080/services/T/B/x",
      "https://me:pw@hooks.slack.com/services/T/B/x",
    ]) {
      const refused = save(url);
      await expect(refused).rejects.toMatchObject({ code: "OP037" });
      await expect(refused).rejects.toThrow(/expected https:\/\/hooks\.slack\.com\/services/);
    }
    expect(await db.query("select from provider_credentials")).toEqual([]);
    await save(slack.webhookUrl);
    expect(await db.query("select from provider_credentials")).toHaveLength(1);
  });

  it("that names another host, stored by an older release, is not called", async () => {
    const wrapped = newTenantKey(secretKey, db.tenantA);
    const scope = { ...place(), name: "default" };
    await db.query("insert into tenant_keys (tenant_id, wrapped_key, secret_key_id) values ($1, $2, $3)", [
      db.tenantA,
      wrapped,
      secretKeyId(secretKey),
    ]);
    await db.query("insert into provider_credentials (tenant_id, provider, sealed) values ($1, 'slack', $2)", [
      db.tenantA,
      seal(secretKey, wrapped, scope, { webhook_url: internal.url }),
    ]);
    const worker = await startTestWorker(db, null, { config: testConfig(null, secrets) });
    await notify();
    await db.until("select last_error is not null from tenant_notifications");
    await worker.stop();
    expect(internal.requests).toBe(0);
    const [row] = await db.as("tenantA", "select last_error from tenant_notifications");
    expect(row?.["last_error"]).toMatch(/^waiting: slack: .*expected https:\/\/hooks\.slack\.com/s);
    expect(row?.["last_error"]).not.toContain("CANARY");
  });
});

describe("Slack's answer", () => {
  it.each([
    [403, "action_prohibited", "waiting: Slack answered 403: action_prohibited;"],
    [404, CANARY, "waiting: Slack answered 404;"],
    [403, "<html>role=admin</html>", "waiting: Slack answered 403;"],
    [307, "", "waiting: Slack answered 307;"],
    [500, CANARY, "Slack answered 500"],
  ])("%d %j is shown to the tenant as its status, with a code of Slack's", async (status, body, expected) => {
    const config = testConfig(null, { ...secrets, SLACK_BASE_URL: slack.url });
    await onServer(db.url, (client) => saveCredential(client, config, place(), { webhook_url: slack.webhookUrl }));
    slack.fail({ status, body });
    const worker = await startTestWorker(db, null, { config });
    await notify();
    await db.until("select last_error is not null from tenant_notifications");
    await worker.stop();
    const [row] = await db.as("tenantA", "select last_error from tenant_notifications");
    expect(String(row?.["last_error"]).slice(0, expected.length)).toBe(expected);
    expect(row?.["last_error"]).not.toMatch(/CANARY|admin/);
  });
});
