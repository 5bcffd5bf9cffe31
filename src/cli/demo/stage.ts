// Everything the demo starts, and how it is taken away again: Postgres, SendGrid's stand-in, the
// server for its webhooks, two tenants with logins of their own, workers as processes.
import { randomBytes } from "node:crypto";
import pg from "pg";
import { loadConfig, type Config } from "../../config.ts";
import { makeVerifier } from "../../db/embedded/scram.ts";
import { migrate } from "../../db/migrate.ts";
import { startHttpServer } from "../../http/server.ts";
import { startSendgridSimulator, type SendgridSimulator } from "../../simulator/sendgrid/index.ts";
import { createLog } from "../../telemetry/log.ts";
import type { Cleanup } from "./cleanup.ts";
import { openPlace } from "./place.ts";
import type { Screen } from "./screen.ts";
import { startWatch, type Watch } from "./watch.ts";
import { startWorkerProcess, type WorkerProcess } from "./workerProcess.ts";

/** A tenant's own client: an ordinary connection under the tenant's login. */
export interface Seat {
  readonly slug: string;
  readonly id: string;
  /** Shows the statement, runs it, and shows what came of it. */
  sql<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  /** Shows and runs a statement that must be refused; returns the SQLSTATE, or null where it went through. */
  refused(text: string): Promise<string | null>;
}

export interface Stage {
  readonly screen: Screen;
  readonly simulator: SendgridSimulator;
  readonly watch: Watch;
  readonly summit: Seat;
  readonly harbor: Seat;
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
  const simulator = await startSendgridSimulator();
  await cleanup.add(() => simulator.close());
  const sendgrid = {
    SENDGRID_API_KEY: "SG.simulator",
    SENDGRID_BASE_URL: simulator.url,
    SENDGRID_WEBHOOK_PUBLIC_KEY: simulator.publicKey,
    MAIL_FROM: "BrainOps demo <demo@brainops.example>",
  };
  const server = await startHttpServer({
    config: loadConfig({ PORT: "0", ...sendgrid }),
    log: createLog({ level: "silent", human: false }),
    connectionString: workerUrl,
  });
  await cleanup.add(() => server.close());
  simulator.setWebhook(new URL("/webhooks/sendgrid", server.url).href);
  screen.say(`a stand-in for SendGrid at ${simulator.url}; its events go to ${server.url}`);

  const workers: WorkerProcess[] = [];
  const [summit, harbor] = seats;
  if (summit === undefined || harbor === undefined) throw new Error("two tenants were expected");
  return {
    screen,
    simulator,
    watch,
    summit,
    harbor,
    query: async (text, values = []) => (await admin.query(text, [...values])).rows,
    workers,
    startWorker: async (concurrency) => {
      const env = { DATABASE_URL: workerUrl, PUBLIC_URL: server.url, ...sendgrid };
      const worker = startWorkerProcess(env, concurrency);
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
