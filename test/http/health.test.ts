// healthz, readyz, metrics.
import { createServer, type AddressInfo, type Server } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { version } from "../../src/version.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { createEvent, createSigner, postEvents, startTestServer } from "./support.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});

afterAll(async () => {
  await db?.close();
});

const OUT_OF_REACH = "postgres://someone:hush@127.0.0.1:1/nowhere";

/** Accepts connections and never responds. */
async function createSilentServer(): Promise<{ url: string; server: Server }> {
  const server = createServer((socket) => void socket.on("error", () => {}));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `postgres://someone:hush@127.0.0.1:${(server.address() as AddressInfo).port}/x`, server };
}

describe("GET /healthz", () => {
  it("is 200 as long as the process runs, with or without Postgres", async () => {
    const server = await startTestServer(db, {}, { connectionString: OUT_OF_REACH });
    const response = await fetch(`${server.url}/healthz`);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ status: "ok" });
    await server.close();
  });
});

describe("GET /readyz", () => {
  it("is 200 if the database is migrated and reachable", async () => {
    const server = await startTestServer(db);
    const response = await fetch(`${server.url}/readyz`);
    expect(await response.json()).toEqual({ status: "ready" });
    expect(response.status).toBe(200);
    await server.close();
  });

  it.each([
    ["Postgres is unreachable", () => OUT_OF_REACH, "Postgres is unreachable"],
    [
      "the login lacks its role",
      () => db.urlOf("tenantA"),
      "the login of DATABASE_URL lacks the role brainops_system; grant it",
    ],
    [
      "the login has no privileges",
      () => db.urlOf("anonymous"),
      "the login of DATABASE_URL lacks the role brainops_system; grant it",
    ],
  ])("is 503 if %s, and reveals no names", async (_name, connectionString, reason) => {
    const server = await startTestServer(db, {}, { connectionString: connectionString() });
    const response = await fetch(`${server.url}/readyz`);
    expect(response.status).toBe(503);
    expect(await response.json()).toEqual({ status: "not ready", reasons: [reason] });
    await server.close();
  });

  it.skipIf(!isServer)("is 503 if the database is not migrated (needs a server with another database)", async () => {
    const url = new URL(db.url);
    url.pathname = "/template1";
    const server = await startTestServer(db, {}, { connectionString: url.href });
    const response = await fetch(`${server.url}/readyz`);
    expect(await response.json()).toEqual({
      status: "not ready",
      reasons: ["the database is not migrated; run brainops migrate"],
    });
    await server.close();
  });

  it.each([
    ["older than the database allows", "99.1.0", "99.0.0", /^this program is release .*needs 99\.0\.0 or newer/],
    ["newer than the database", "0.0.1", "0.0.0", /^the database has release 0\.0\.1, .*run brainops migrate$/],
    ["started before the first migration has succeeded", null, "0.0.0", /^the database is not migrated/],
  ])("is 503 if the program is %s", async (_name, release, oldestProgram, reason) => {
    const store = (values: readonly (string | null)[]): Promise<object[]> =>
      db.query("update brainops.release set release = $1, oldest_program = $2", values);
    await store([release, oldestProgram]);
    const server = await startTestServer(db);
    const response = await fetch(`${server.url}/readyz`);
    expect(response.status).toBe(503);
    expect(await response.json()).toEqual({ status: "not ready", reasons: [expect.stringMatching(reason)] });
    await store([version, "0.0.0"]);
    expect((await fetch(`${server.url}/readyz`)).status).toBe(200);
    await server.close();
  });

  it("is 503 within about a second if Postgres does not respond, for many requests at once", async () => {
    const silent = await createSilentServer();
    const server = await startTestServer(db, {}, { connectionString: silent.url });
    const start = performance.now();
    const answers = await Promise.all(Array.from({ length: 20 }, () => fetch(`${server.url}/readyz`)));
    expect(performance.now() - start).toBeLessThan(5000);
    for (const answer of answers) {
      expect(await answer.json()).toEqual({
        status: "not ready",
        reasons: ["Postgres did not answer within one second"],
      });
    }
    silent.server.close();
    await server.close();
  });

  it("is 503 with the worker's own reason if it cannot work", async () => {
    let health: { ok: boolean; reason?: string } = { ok: false, reason: "Postgres was lost a moment ago" };
    const server = await startTestServer(db, {}, { workerHealth: () => health });
    const response = await fetch(`${server.url}/readyz`);
    expect(response.status).toBe(503);
    expect(await response.json()).toEqual({ status: "not ready", reasons: ["worker: Postgres was lost a moment ago"] });
    health = { ok: true };
    expect((await fetch(`${server.url}/readyz`)).status).toBe(200);
    await server.close();
  });
});

describe("GET /metrics", () => {
  const token = "a-token-of-tests";
  const bearer = (given: string): RequestInit => ({ headers: { authorization: `Bearer ${given}` } });

  it("is 503 and names the variable if METRICS_TOKEN is not set, whatever is sent", async () => {
    const server = await startTestServer(db);
    for (const init of [{}, bearer(""), bearer("undefined")]) {
      const response = await fetch(`${server.url}/metrics`, init);
      expect(response.status).toBe(503);
      expect(await response.text()).toContain("METRICS_TOKEN is not set");
    }
    await server.close();
  });

  it("is 401 without the token, and the metrics with it", async () => {
    const signer = createSigner();
    const server = await startTestServer(db, { METRICS_TOKEN: token, SENDGRID_WEBHOOK_PUBLIC_KEY: signer.publicKey });
    const wrong: RequestInit[] = [
      {},
      bearer(`${token}x`),
      bearer(token.slice(1)),
      bearer(""),
      { headers: { authorization: token } },
      { headers: { authorization: `Basic ${btoa(`x:${token}`)}` } },
    ];
    for (const init of wrong) {
      const response = await fetch(`${server.url}/metrics`, init);
      expect(response.status).toBe(401);
      expect(response.headers.get("www-authenticate")).toBe("Bearer");
    }
    const event = createEvent();
    await postEvents(server, signer, [event, createEvent()]);
    await postEvents(server, signer, [event]);
    await postEvents(server, createSigner(), [event]);
    await db.as(
      "tenantA",
      "insert into ai_email_queue (recipient, subject, body) values ('ann@example.com', 'Hi', 'Hi')",
    );
    const response = await fetch(`${server.url}/metrics`, bearer(token));
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
    const text = await response.text();
    expect(text).toContain('brainops_webhook_events_total{provider="sendgrid",result="new"} 2');
    expect(text).toContain('brainops_webhook_events_total{provider="sendgrid",result="known"} 1');
    expect(text).toContain('brainops_webhook_events_total{provider="sendgrid",result="refused"} 1');
    expect(text).toContain('brainops_rows{table="ai_email_queue",status="pending"} 1');
    expect(text).toContain('brainops_oldest_due_seconds{table="ai_email_queue"}');
    expect(text).toContain("process_resident_memory_bytes");
    await server.close();
  });
});
