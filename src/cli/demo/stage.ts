// Everything the demo starts, and how it is taken away again: Postgres, the outside world's
// stand-ins, the server for their webhooks, tenants with logins of their own, workers as processes.
import { randomBytes } from "node:crypto";
import pg from "pg";
import { loadConfig, type Config } from "../../config.ts";
import { makeVerifier } from "../../db/embedded/scram.ts";
import { migrate } from "../../db/migrate/index.ts";
import { startHttpServer } from "../../http/server.ts";
import { createLog } from "../../telemetry/log.ts";
import type { Cleanup } from "../cleanup.ts";
import { createDemoClock, type DemoClock } from "./month/clock.ts";
import { openPlace } from "./place.ts";
import type { Screen } from "./screen.ts";
import { freePort, startStandIns, type StandIns } from "../standIns.ts";
import { startWatch, type Watch } from "./watch.ts";
import { startWorkerProcess, type WorkerProcess } from "./workerProcess.ts";

/** A tenant's own client: an ordinary connection under the tenant's login. */
export interface Seat {
  readonly slug: string;
  readonly id: string;
  /** Shows the statement, runs it, and shows what came of it. */
  sql<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  /** Runs it without a word: for what is told in another way. */
  quietly<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  /** Shows and runs a statement that must be refused; returns the SQLSTATE, or null where it went through. */
  refused(text: string): Promise<string | null>;
}

export interface Stage {
  readonly screen: Screen;
  readonly world: StandIns;
  readonly clock: DemoClock;
  readonly watch: Watch;
  readonly summit: Seat;
  readonly harbor: Seat;
  readonly ridge: Seat;
  /** A login that is a member of the engine's roles, as the CLI's is. */
  readonly operatorUrl: string;
  /** One statement as the superuser, not shown: for the figures at the end. */
  query<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  startWorker(concurrency: number): Promise<WorkerProcess>;
  /** All that were started, for their last words. */
  readonly workers: readonly WorkerProcess[];
}

/** Sets the stage. `cleanup` gets what takes each thing away, even when this throws on the way. */
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

  const admin = new pg.Pool({ connectionString: place.url, max: 1, application_name: "brainops demo" });
  admin.on("error", () => {});
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
        return { value: null, answer: "made" };
      }),
    );
    const client = new pg.Client({ connectionString: url, application_name: `${slug}'s own client` });
    client.on("error", () => {});
    await client.connect();
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
  const world = await startStandIns(cleanup, clock.now);
  const port = await freePort();
  const env = { ...world.env, PORT: String(port), PUBLIC_URL: `http://127.0.0.1:${port}` };
  const server = await startHttpServer({
    config: loadConfig(env),
    log: createLog({ level: "silent", human: false }),
    connectionString: workerUrl,
    now: clock.now,
  });
  await cleanup.add(() => server.close());
  world.report(server.url);
  screen.say(`stand-ins for SendGrid, Twilio and Stripe; their webhooks go to ${server.url}`);

  const workers: WorkerProcess[] = [];
  const [summit, harbor, ridge] = seats;
  if (summit === undefined || harbor === undefined || ridge === undefined)
    throw new Error("three tenants were expected");
  return {
    screen,
    world,
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

const TENANTS = [
  ["summit", "Summit Roofing", "America/Denver"],
  ["harbor", "Harbor Dental", "Europe/London"],
  ["ridge", "Ridge Roofing", "America/Denver"],
] as const;

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

/** As psql: a single value by itself, else the command's tag. */
function answerOf(result: pg.QueryResult): string {
  const row: unknown = result.rows[0];
  const values = typeof row === "object" && row !== null ? Object.values(row) : [];
  if (result.command === "SELECT" && values.length === 1 && result.rows.length === 1) return String(values[0]);
  const tag = result.command === "INSERT" ? "INSERT 0" : result.command;
  return result.rowCount === null || result.command === "SET" ? tag : `${tag} ${result.rowCount}`;
}
