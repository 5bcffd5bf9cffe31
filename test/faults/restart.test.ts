import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { restartPostgres, sendgridEnv, startWorkerProcess, type WorkerProcess } from "../support/process.ts";

const provided = inject("postgres");
const restart = provided.kind === "server" ? provided.restart : null;

let db: TestDatabase;
let simulator: SendgridSimulator;
let worker: WorkerProcess | undefined;

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator()]);
});

afterAll(async () => {
  worker?.child.kill("SIGKILL");
  await simulator.close();
  await db.close();
});

/** Clients that insert mails one after the other, through restarts, and collect the ids that were committed. */
function startLoad(url: string): { stop: () => Promise<string[]> } {
  const committed: string[] = [];
  const stopped = new AbortController();
  const loop = async (): Promise<void> => {
    let client: pg.Client | null = null;
    while (!stopped.signal.aborted) {
      try {
        if (client === null) {
          client = new pg.Client({ connectionString: url });
          client.on("error", () => {});
          await client.connect();
        }
        const { rows } = await client.query<{ id: string }>(
          "insert into ai_email_queue (recipient, subject, body) values ('load@example.com', 'Hello', '<p>Hi</p>') returning id",
        );
        committed.push(rows[0]?.id ?? "");
      } catch {
        client = null;
        await sleep(20); // the server is restarting
      }
    }
    await client?.end();
  };
  const loops = [loop(), loop()];
  return {
    stop: async () => {
      stopped.abort();
      await Promise.all(loops);
      return committed;
    },
  };
}

describe.skipIf(restart === null)("Postgres restarted under load (needs a server that tests may restart)", () => {
  it("five times in immediate mode: the same worker process continues, and no row is lost or stuck", async () => {
    if (restart === null) throw new Error("unreachable");
    worker = await startWorkerProcess(db.urlOf("worker"), sendgridEnv(simulator));
    const load = startLoad(db.urlOf("tenantA"));
    let accepted = 0;
    for (let round = 0; round < 5; round += 1) {
      // Work resumes by itself after each restart.
      const target = accepted + 200;
      await simulator.waitFor((stats) => stats.accepted >= target, 30_000);
      accepted = simulator.stats.accepted;
      await restartPostgres(restart, "immediate");
    }
    await simulator.waitFor((stats) => stats.accepted >= accepted + 200, 30_000);
    const committed = await load.stop();
    await db.until(
      "select not exists (select from ai_email_queue where status in ('pending', 'processing')) as nothing_left",
      [],
      90_000,
    );
    const rows = await db.query<{ id: string; status: string }>("select id, status from ai_email_queue");
    const statuses = new Map(rows.map(({ id, status }) => [id, status]));
    expect(committed.filter((id) => !["completed", "unconfirmed"].includes(statuses.get(id) ?? "lost"))).toEqual([]);
    expect(simulator.duplicates()).toEqual([]);
    expect(worker.child.exitCode).toBeNull();
    await db.until(
      "select not exists (select from graphile_worker.jobs where locked_at is not null) as no_lock_left",
      [],
      60_000,
    );
    worker.child.kill("SIGTERM");
    expect(await worker.exited).toBe(0);
  }, 240_000);
});
