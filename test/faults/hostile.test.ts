// The hostile hour: one tenant attacks availability in every way that its SQL login allows, all at once, while another
// tenant sends ten mails per second through two workers. HOSTILE_SECONDS sets how long it takes (90 by default).
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { startStripeSimulator, type StripeSimulator } from "../../src/simulator/stripe/index.ts";
import { besiege } from "../support/attacks.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { sendgridEnv, startWorkerProcess, type WorkerProcess } from "../support/process.ts";
import { startTwilioSimulator, twilioEnvironment, type TwilioSimulator } from "../sms/support.ts";

const SECONDS = Number(process.env["HOSTILE_SECONDS"] ?? 90);
const MAILS_PER_SECOND = 10;
const HOLD_MS = 20_000;

let db: TestDatabase;
let sendgrid: SendgridSimulator;
let twilio: TwilioSimulator;
let stripe: StripeSimulator;
const workers: WorkerProcess[] = [];

beforeAll(async () => {
  [db, sendgrid, twilio, stripe] = await Promise.all([
    createTestDatabase(),
    startSendgridSimulator(),
    startTwilioSimulator(),
    startStripeSimulator(),
  ]);
  await db.query("insert into plans (code, name, amount) values ('starter', 'Starter', 10)");
});

afterAll(async () => {
  for (const worker of workers) worker.child.kill("SIGKILL");
  await Promise.all(workers.map((worker) => worker.exited));
  await Promise.all([sendgrid.close(), twilio.close(), stripe.close()]);
  await db.close();
});

/** Resident memory of a process in MB. */
async function residentMb(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
}

interface Sample {
  readonly backends: number;
  readonly memory: readonly number[];
}

async function sample(): Promise<Sample> {
  const [row] = await db.query<{ backends: number }>(
    `select count(*)::int as backends from pg_stat_activity
     where datname = current_database() and application_name like any (array['brainops%', 'graphile%'])`,
  );
  return {
    backends: row?.backends ?? 0,
    memory: await Promise.all(workers.map(({ pid }) => residentMb(pid))),
  };
}

const highest = (values: readonly number[]): number => values.reduce((most, value) => Math.max(most, value), 0);

describe.skipIf(!isServer || process.platform !== "linux")("the hostile hour (needs server processes)", () => {
  it(
    "leaves another tenant's mails on time, all workers alive, and connections and memory bounded",
    async () => {
      const environment = {
        ...sendgridEnv(sendgrid),
        ...twilioEnvironment(twilio),
        STRIPE_SECRET_KEY: stripe.secretKey,
        STRIPE_BASE_URL: stripe.url,
        LOG_LEVEL: "warn",
      };
      workers.push(
        await startWorkerProcess(db.urlOf("worker"), { ...environment, LOG_LEVEL: "info" }),
        await startWorkerProcess(db.urlOf("worker"), { ...environment, LOG_LEVEL: "info" }),
      );
      const victim = await db.connect("tenantA");
      const siege = besiege(db.urlOf("tenantB"), HOLD_MS);
      const samples: Sample[] = [];
      const began = performance.now();
      for (let tick = 1; tick <= SECONDS * MAILS_PER_SECOND; tick += 1) {
        await victim.query(
          "insert into ai_email_queue (recipient, subject, body) values ($1, 'Hello', '<p>Hi {{ name }}</p>')",
          [`person${tick}@example.com`],
        );
        if (tick % (MAILS_PER_SECOND * 2) === 0) samples.push(await sample());
        await sleep(Math.max(0, began + (tick * 1000) / MAILS_PER_SECOND - performance.now()));
      }
      await db.until(
        "select bool_and(status = 'completed') from ai_email_queue where tenant_id = $1",
        [db.tenantA],
        30_000,
      );
      await siege.stop();

      const [times] = await db.query<{ sent: number; p50: number; p95: number; slowest: number }>(
        `select count(*)::int as sent,
           percentile_cont(0.5) within group (order by extract(epoch from sent_at - created_at))::float8 as p50,
           percentile_cont(0.95) within group (order by extract(epoch from sent_at - created_at))::float8 as p95,
           max(extract(epoch from sent_at - created_at))::float8 as slowest
         from ai_email_queue where tenant_id = $1`,
        [db.tenantA],
      );
      const half = Math.floor(samples.length / 2);
      const memoryOf = (part: readonly Sample[]): number => highest(part.flatMap(({ memory }) => memory));
      const figures = {
        ...times,
        backends: highest(samples.map(({ backends }) => backends)),
        memory: [memoryOf(samples.slice(0, half)), memoryOf(samples.slice(half))],
        rounds: Object.fromEntries(siege.rounds),
      };
      process.stdout.write(`${JSON.stringify(figures)}\n`);

      expect(workers.map(({ child }) => child.exitCode ?? child.signalCode)).toEqual([null, null]);
      expect(times?.sent).toBe(SECONDS * MAILS_PER_SECOND);
      expect(times?.p95).toBeLessThan(5);
      // Per worker: 6 of the engine, 5 of graphile-worker and one that listens, 3 of tasks, 1 for liveness.
      expect(figures.backends).toBeLessThanOrEqual(2 * 16);
      // Flat: what the second half adds is noise of the garbage collector.
      expect(figures.memory[1]).toBeLessThan((figures.memory[0] ?? 0) * 1.5 + 50);
      expect(siege.rounds.size).toBeGreaterThan(8);
    },
    (SECONDS + 120) * 1000,
  );
});
