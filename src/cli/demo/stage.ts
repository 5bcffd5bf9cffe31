// Everything that the demo starts, and removes at its end: Postgres, the simulators, the HTTP server for their
// webhooks, tenants with logins, and workers as processes.
import { randomBytes } from "node:crypto";
import pg from "pg";
import { loadConfig, type Config } from "../../config.ts";
import { makeVerifier } from "../../db/embedded/scram.ts";
import { limits } from "../../db/limits.ts";
import { migrate } from "../../db/migrate/index.ts";
import { createPool, openClient } from "../../db/pool.ts";
import { startHttpServer } from "../../http/server.ts";
import { createLog } from "../../telemetry/log.ts";
import type { Cleanup } from "../cleanup.ts";
import { createDemoClock, type DemoClock } from "./month/clock.ts";
import { openPlace } from "./place.ts";
import type { Screen } from "./screen.ts";
import { freePort, startSimulators, type Simulators } from "../simulators.ts";
import { startWatch, type Watch } from "./watch.ts";
import { startWorkerProcess, type WorkerProcess } from "./workerProcess.ts";

/** A tenant's client: an ordinary connection as the tenant's login. */
export interface Seat {
  readonly slug: string;
  readonly id: string;
  /** Shows the statement, runs it, and shows the result. */
  sql<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  /** Runs the statement without showing it. */
  quietly<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  /** Shows and runs a statement that must be refused. Returns the SQLSTATE; null if it succeeded. */
  refused(text: string): Promise<string | null>;
}

export interface Stage {
  readonly screen: Screen;
  readonly simulators: Simulators;
  readonly clock: DemoClock;
  readonly watch: Watch;
  readonly summit: Seat;
  readonly harbor: Seat;
  readonly ridge: Seat;
  /** URL of an operator's login, which is a member of the engine's roles. */
  readonly operatorUrl: string;
  /** Runs a statement as the superuser without showing it. */
  query<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  startWorker(concurrency: number): Promise<WorkerProcess>;
  /** All workers that were started. */
  readonly workers: readonly WorkerProcess[];
}

const TENANTS = [
  ["summit", "Summit Roofing", "America/Denver"],
  ["harbor", "Harbor Dental", "Europe/London"],
  ["ridge", "Ridge Roofing", "America/Denver"],
] as const;

/** Starts everything. Registers each part with `cleanup` at once, so that a failure leaves nothing behind. */
export async function setStage(
  config: Config,
  database: string | undefined,
  screen: Screen,
  cleanup: Cleanup,
): Promise<Stage> {
  const logins: string[] = [];
  const place = await openPlace(config, database, screen);
  await cleanup.add(() => place.close(logins));
  screen.say(place.description);
  const { applied } = await migrate({ connectionString: place.url });
  screen.say(`schema: ${applied.length} migrations applied`);

  const admin = createPool({
    connectionString: place.url,
    max: 1,
    applicationName: "brainops demo",
    limits: limits.command,
  });
  await cleanup.add(() => admin.end());
  const makeLogin = async (name: string, make: (verifier: string) => Promise<unknown>): Promise<string> => {
    const password = randomBytes(24).toString("base64url");
    await make(makeVerifier(password));
    logins.push(name);
    const url = new URL(place.url);
    url.username = name;
    url.password = password;
    return url.href;
  };

  const seats: Seat[] = [];
  for (const [slug, name, zone] of TENANTS) {
    const login = `${slug}${place.suffix}`;
    const show = `select brainops.create_tenant('${slug}', '${name}', '${zone}');`;
    const id = await screen.statement("admin", show, async () => {
      const { rows } = await admin.query<{ id: string }>("select brainops.create_tenant($1, $2, $3) as id", [
        slug,
        name,
        zone,
      ]);
      return { value: rows[0]?.id ?? "", answer: rows[0]?.id ?? "" };
    });
    const url = await makeLogin(login, (verifier) =>
      screen.statement("admin", `select brainops.create_login('${slug}', '${login}', 'SCRAM-SHA-256$…');`, async () => {
        await admin.query("select brainops.create_login($1, $2, $3)", [slug, login, verifier]);
        return { value: null, answer: "created" };
      }),
    );
    const client = await openClient({
      connectionString: url,
      applicationName: `${slug}'s own client`,
      limits: limits.command,
    });
    await cleanup.add(() => client.end().catch(() => {}));
    seats.push(seatOf(slug, id, client, screen));
  }
  const workerName = `demo_worker${place.suffix}`;
  const workerUrl = await makeLogin(workerName, (verifier) =>
    admin.query(
      `create role ${workerName} login password ${pg.escapeLiteral(verifier)} in role brainops_system, brainops_service, brainops_worker`,
    ),
  );

  const watch = await startWatch(place.url, screen);
  await cleanup.add(() => watch.close());
  const clock = createDemoClock((text) => admin.query(text));
  const simulators = await startSimulators(cleanup, clock.now);
  const port = await freePort();
  const env = { ...simulators.env, PORT: String(port), PUBLIC_URL: `http://127.0.0.1:${port}` };
  const server = await startHttpServer({
    config: loadConfig(env),
    log: createLog({ level: "silent", human: false }),
    connectionString: workerUrl,
    now: clock.now,
  });
  await cleanup.add(() => server.close());
  simulators.setWebhooks(server.url);
  screen.say(`simulators for SendGrid, Twilio and Stripe; their webhooks go to ${server.url}`);

  const workers: WorkerProcess[] = [];
  const [summit, harbor, ridge] = seats;
  if (summit === undefined || harbor === undefined || ridge === undefined)
    throw new Error("three tenants were expected");
  return {
    screen,
    simulators,
    clock,
    watch,
    summit,
    harbor,
    ridge,
    operatorUrl: place.url,
    query: async (text, values = []) => (await admin.query(text, [...values])).rows,
    workers,
    startWorker: async (concurrency) => {
      const worker = startWorkerProcess({ ...env, DATABASE_URL: workerUrl }, concurrency);
      workers.push(worker);
      await cleanup.add(async () => {
        worker.kill();
        await worker.exited;
      });
      return worker;
    },
  };
}

function seatOf(slug: string, id: string, client: pg.Client, screen: Screen): Seat {
  return {
    slug,
    id,
    sql: (text, values = []) =>
      screen.statement(slug, `${text};`, async () => {
        const result = await client.query(text, [...values]);
        return { value: result.rows, answer: answerOf(result) };
      }),
    quietly: async (text, values = []) => (await client.query(text, [...values])).rows,
    refused: (text) =>
      screen.statement(slug, `${text};`, async () => {
        try {
          return { value: null, answer: answerOf(await client.query(text)), tone: "bad" };
        } catch (error) {
          if (!(error instanceof pg.DatabaseError)) throw error;
          return { value: error.code ?? "", answer: `ERROR: ${error.message}` };
        }
      }),
  };
}

/** The result as psql shows it: a single value, or the command's tag. */
function answerOf(result: pg.QueryResult): string {
  const row: unknown = result.rows[0];
  const values = typeof row === "object" && row !== null ? Object.values(row) : [];
  if (result.command === "SELECT" && values.length === 1 && result.rows.length === 1) return String(values[0]);
  const tag = result.command === "INSERT" ? "INSERT 0" : result.command;
  return result.rowCount === null || result.command === "SET" ? tag : `${tag} ${result.rowCount}`;
}
