// The server as a whole: what it serves to whom, how it responds to anything else, how it starts and stops.
import { connect, type Socket } from "node:net";
import { fastify } from "fastify";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { guardRoutes } from "../../src/http/access.ts";
import type { HttpServer } from "../../src/http/server.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { testConfig } from "../support/worker.ts";
import { createEvent, createSigner, postEvents, startTestServer } from "./support.ts";

const signer = createSigner();
let db: TestDatabase;
let server: HttpServer;

beforeAll(async () => {
  db = await createTestDatabase();
  server = await startTestServer(db, {
    METRICS_TOKEN: "token",
    SENDGRID_WEBHOOK_PUBLIC_KEY: signer.publicKey,
    TWILIO_AUTH_TOKEN: "token",
    STRIPE_WEBHOOK_SECRET: "whsec_invented",
  });
});

afterAll(async () => {
  await server?.close();
  await db?.close();
});

/** Every route, and its response to a caller without credentials. A new route must be added here. */
const inventory: Record<string, number> = {
  "GET /healthz": 200,
  "HEAD /healthz": 200,
  "GET /readyz": 200,
  "HEAD /readyz": 200,
  "GET /metrics": 401,
  "HEAD /metrics": 401,
  "GET /unsubscribe/:token": 404,
  "HEAD /unsubscribe/:token": 404,
  "POST /unsubscribe/:token": 404,
  "GET /preferences/:token": 404,
  "HEAD /preferences/:token": 404,
  "POST /preferences/:token": 404,
  "GET /confirm/:token": 404,
  "HEAD /confirm/:token": 404,
  "POST /confirm/:token": 404,
  "POST /forms/:endpoint(^[0-9a-f]{64}$)": 401,
  "POST /webhooks/sendgrid": 401,
  "POST /webhooks/sendgrid/:endpoint(^[0-9a-f]{64}$)": 401,
  "POST /webhooks/stripe": 401,
  "POST /webhooks/stripe/:endpoint(^[0-9a-f]{64}$)": 401,
  "POST /webhooks/twilio/status": 401,
  "POST /webhooks/twilio/status/:endpoint(^[0-9a-f]{64}$)": 401,
  "POST /webhooks/twilio/inbound": 401,
  "POST /webhooks/twilio/inbound/:endpoint(^[0-9a-f]{64}$)": 401,
};

/** The route with values for its parameters. */
const withParameters = (url: string): string =>
  url.replace(/:(?:endpoint|token\(\^).*$/, "0".repeat(64)).replace(/:\w+/, "abc");

describe("routes", () => {
  it("are all listed, and respond to a caller without credentials as listed", async () => {
    const served = server.routes.map(({ method, url }) => `${method} ${url}`);
    expect(served.toSorted()).toEqual(Object.keys(inventory).toSorted());
    for (const { method, url } of server.routes) {
      const response = await fetch(server.url + withParameters(url), { method });
      expect(response.status, `${method} ${url}`).toBe(inventory[`${method} ${url}`]);
    }
  });

  it("are public only if they must be", () => {
    const open = server.routes.filter(({ access }) => access === "public").map(({ url }) => url);
    expect([...new Set(open)].toSorted()).toEqual([
      "/confirm/:token",
      "/healthz",
      "/preferences/:token",
      "/readyz",
      "/unsubscribe/:token",
    ]);
  });

  it("can't be registered without saying who may call them", () => {
    const app = fastify();
    guardRoutes(app, testConfig(null));
    expect(() => app.get("/secrets", async () => "all of them")).toThrow(
      "Route GET /secrets does not say who may call it",
    );
  });
});

describe("anything else", () => {
  it.each([
    "/",
    "/admin",
    "/webhooks",
    "/webhooks/sendgrid/",
    "/unsubscribe",
    "/metrics/x",
    "/.env",
    "//healthz",
    "/forms/abc",
  ])("%s is 404 in JSON", async (path) => {
    const response = await fetch(server.url + path);
    expect(response.status).toBe(404);
    expect(await response.json()).toEqual({ error: "There is nothing here." });
  });

  it("with a method that the path does not support is 405 with Allow; OPTIONS returns only Allow", async () => {
    for (const [method, path, allow] of [
      ["GET", "/webhooks/sendgrid", "POST, OPTIONS"],
      ["DELETE", "/unsubscribe/abc", "GET, HEAD, POST, OPTIONS"],
      ["POST", "/healthz", "GET, HEAD, OPTIONS"],
      ["GET", `/forms/${"0".repeat(64)}`, "POST, OPTIONS"],
      ["PUT", `/webhooks/twilio/inbound/${"0".repeat(64)}`, "POST, OPTIONS"],
    ] as const) {
      const response = await fetch(server.url + path, { method });
      expect(response.status, `${method} ${path}`).toBe(405);
      expect(sorted(response.headers.get("allow"))).toEqual(sorted(allow));
      const options = await fetch(server.url + path, { method: "OPTIONS" });
      expect(options.status).toBe(204);
      expect(sorted(options.headers.get("allow"))).toEqual(sorted(allow));
      expect(options.headers.has("access-control-allow-origin")).toBe(false);
    }
  });

  it("that cannot be parsed is 400, and reveals nothing", async () => {
    for (const path of ["/%zz", "/unsubscribe/%E0%A4%A"]) {
      const response = await fetch(server.url + path);
      expect(response.status).toBe(400);
      expect(await response.json()).toEqual({ error: "The request can't be read." });
    }
    expect(await sendRaw("GARBAGE\r\n\r\n")).toMatch(/^HTTP\/1\.1 400 /);
    expect(await sendRaw(`GET /healthz HTTP/1.1\r\nHost: x\r\nX: ${"x".repeat(20_000)}\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 431 /,
    );
  });

  it("is never cached or sniffed, and sends no referrer", async () => {
    for (const path of ["/", "/healthz", "/metrics"]) {
      const { headers } = await fetch(server.url + path);
      expect(headers.get("cache-control")).toBe("no-store");
      expect(headers.get("x-content-type-options")).toBe("nosniff");
      expect(headers.get("referrer-policy")).toBe("no-referrer");
      expect(headers.has("x-powered-by")).toBe(false);
    }
  });
});

describe("a server error", () => {
  const secrets = /hush|127\.0\.0\.1|someone|nowhere|select |at .*:\d+|node_modules|brainops\./;

  it("is 503 with Retry-After if Postgres is unreachable", async () => {
    const cut = await startTestServer(
      db,
      {
        METRICS_TOKEN: "token",
        SENDGRID_WEBHOOK_PUBLIC_KEY: signer.publicKey,
        TWILIO_AUTH_TOKEN: "token",
        STRIPE_WEBHOOK_SECRET: "whsec_invented",
      },
      { connectionString: "postgres://someone:hush@127.0.0.1:1/nowhere" },
    );
    const answers = [
      await postEvents(cut, signer, [createEvent()]),
      await fetch(`${cut.url}/metrics`, { headers: { authorization: "Bearer token" } }),
    ];
    for (const answer of answers) {
      expect(answer.status).toBe(503);
      expect(answer.headers.get("retry-after")).toBe("30");
      expect(await answer.text()).not.toMatch(secrets);
    }
    await cut.close();
  });

  it("is 500 without details if Postgres refuses", async () => {
    const lines: string[] = [];
    const watched = pino({ level: "trace" }, { write: (line: string) => void lines.push(line) });
    const refused = await startTestServer(
      db,
      {
        METRICS_TOKEN: "token",
        SENDGRID_WEBHOOK_PUBLIC_KEY: signer.publicKey,
        TWILIO_AUTH_TOKEN: "token",
        STRIPE_WEBHOOK_SECRET: "whsec_invented",
      },
      { connectionString: db.urlOf("tenantA"), log: watched },
    );
    const answers = [
      await postEvents(refused, signer, [createEvent({ email: "secret-person@example.com" })]),
      await fetch(`${refused.url}/unsubscribe/${"0".repeat(64)}`, { method: "POST" }),
    ];
    for (const answer of answers) {
      expect(answer.status).toBe(500);
      expect(await answer.text()).not.toMatch(secrets);
    }
    expect(lines.join("")).toContain('"code":"42501"');
    expect(lines.join("")).not.toMatch(/secret-person|0{64}/);
    await refused.close();
  });
});

describe("a client that disconnects", () => {
  it("is not logged as a failure of Postgres", async () => {
    const lines: string[] = [];
    const watched = pino({ level: "trace" }, { write: (line: string) => void lines.push(line) });
    const left = await startTestServer(db, {}, { log: watched });
    const socket = await openSocket(left.url);
    socket.write("POST /unsubscribe/abc HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
    // The response shows that the part of the request above has been read.
    await fetch(`${left.url}/healthz`);
    socket.destroy();
    await left.close();
    expect(lines.join("")).not.toContain("Postgres");
  });
});

describe("start and stop", () => {
  it.skipIf(!isServer)(
    "a stop lets a request in flight finish, and is not delayed by idle connections (needs server processes)",
    async () => {
      const ending = await startTestServer(db, { SENDGRID_WEBHOOK_PUBLIC_KEY: signer.publicKey });
      const blocker = await db.connect("superuser");
      await blocker.query("begin; lock table webhook_events in access exclusive mode");
      await (await fetch(`${ending.url}/healthz`)).text(); // leaves a keep-alive connection behind
      const idle = await openSocket(ending.url);
      const inFlight = postEvents(ending, signer, [createEvent()]);
      await db.until(
        "select count(*) > 0 from pg_stat_activity where application_name = 'brainops http' and wait_event_type = 'Lock' and datname = current_database()",
      );
      const start = performance.now();
      const closed = Promise.all([ending.close(), ending.close()]);
      await blocker.query("commit");
      const response = await inFlight;
      expect(response.status).toBe(200);
      expect(await response.json()).toEqual({ recorded: 1 });
      await closed;
      expect(performance.now() - start).toBeLessThan(5000);
      await expect(fetch(`${ending.url}/healthz`)).rejects.toThrow("fetch failed");
      idle.destroy();
      await db.until(
        "select count(*) = 0 from pg_stat_activity where application_name = 'brainops http' and query ~ 'record_webhook' and state = 'active' and datname = current_database()",
      );
    },
  );

  it("a start on a port in use is an error, and leaves no connection", async () => {
    await expect(startTestServer(db, { PORT: new URL(server.url).port })).rejects.toMatchObject({ code: "EADDRINUSE" });
  });
});

function sorted(list: string | null): string[] {
  return (list ?? "").split(", ").toSorted();
}

function openSocket(url: string): Promise<Socket> {
  const { port, hostname } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => resolve(socket));
    socket.on("error", reject);
  });
}

async function sendRaw(text: string): Promise<string> {
  const socket = await openSocket(server.url);
  return new Promise((resolve) => {
    socket.once("data", (data) => {
      resolve(data.toString());
      socket.destroy();
    });
    socket.write(text);
  });
}
