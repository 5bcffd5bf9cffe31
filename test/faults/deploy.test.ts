// A deployment replaces the functions that workers of the previous release are calling.
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { sqlFiles } from "../../src/db/migrate/files.ts";
import { migrate, migrationsDirectory } from "../../src/db/migrate/index.ts";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { sendgridEnv, startWorkerProcess, type WorkerProcess } from "../support/process.ts";

let db: TestDatabase;
let simulator: SendgridSimulator;
let directory: string;
const workers: WorkerProcess[] = [];

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator({ seed: 3 })]);
  directory = await mkdtemp(join(tmpdir(), "brainops-sql-"));
  await cp(migrationsDirectory, directory, { recursive: true });
});

afterAll(async () => {
  for (const worker of workers) worker.child.kill("SIGKILL");
  await simulator.close();
  await db.close();
  await rm(directory, { recursive: true, force: true });
});

async function startOne(): Promise<WorkerProcess> {
  const worker = await startWorkerProcess(db.urlOf("worker"), sendgridEnv(simulator));
  workers.push(worker);
  return worker;
}

const CALLED = ["claim", "settle", "settle_completed"] as const;

/** Replaces the head of a function's definition, up to its arguments, and adds `after` to its file. */
async function editDefinition(name: string, edit: (head: string) => string, after = ""): Promise<void> {
  const definition = new RegExp(`create or replace function brainops\\w*\\.${name}\\s*\\(`);
  const homes = (await sqlFiles(directory, "functions")).filter(({ text }) => definition.test(text));
  expect(homes.map(({ path }) => path)).toHaveLength(1);
  const [{ path, text }] = homes as [(typeof homes)[0]];
  await writeFile(join(directory, path), text.replace(definition, edit) + after);
}

interface Signature {
  readonly name: string;
  /** With the types of its arguments. */
  readonly signature: string;
  readonly args: string;
  readonly names: string[];
  readonly result: string;
}

async function signatureOf(name: string): Promise<Signature> {
  const rows = await db.query<Signature>(
    `select p.pronamespace::regnamespace || '.' || p.proname as name,
       format('%s.%s(%s)', p.pronamespace::regnamespace, p.proname, pg_get_function_identity_arguments(p.oid)) as signature,
       pg_get_function_arguments(p.oid) as args, p.proargnames[1:p.pronargs] as names, pg_get_function_result(p.oid) as result
     from pg_proc as p where p.proname = $1 and p.pronamespace::regnamespace::text like 'brainops%'`,
    [name],
  );
  expect(rows).toHaveLength(1);
  return rows[0] as Signature;
}

/** A deployment that changes text only. */
async function comment(): Promise<void> {
  for (const name of CALLED) await editDefinition(name, (head) => `-- deployed\n${head}`);
}

/**
 * A deployment that drops the functions that the workers call, adds a column to the results of claim and settle, and
 * changes the type of settle's status. This invalidates statements that the workers have prepared.
 */
async function changeResults(): Promise<void> {
  const retired = join(directory, "functions/retired.sql");
  let drops = await readFile(retired, "utf8").catch(() => "");
  for (const called of CALLED) {
    const { name, signature, args, names, result } = await signatureOf(called);
    drops += `drop function if exists ${signature};\n`;
    if (!result.startsWith("TABLE(")) continue;
    await editDefinition(
      called,
      () => `create or replace function ${name}(${args})
        returns ${result.slice(0, -1).replace("status text", "status varchar")}, deployed boolean)
        language sql set search_path = ''
        as $$ select f.*, true from ${name}_before(${names.join(", ")}) as f $$;
        create or replace function ${name}_before(`,
      // migrate leaves public no right to our functions.
      `\ngrant execute on function ${signature.replace(name, `${name}_before`)} to brainops_worker;\n`,
    );
  }
  await writeFile(retired, drops);
}

describe.skipIf(!isServer)("a deployment under load (needs server processes)", () => {
  it("replaces functions twice while one old worker keeps working and another one is restarted: every mail is sent once, none is unconfirmed", async () => {
    simulator.faults.add({ kind: "slow", delayMs: 20, probability: 0.5 });
    const [stays, restarts] = await Promise.all([startOne(), startOne()]);
    let inserted = 0;
    const state = { deploying: true };
    const load = (async (): Promise<void> => {
      while (state.deploying) {
        await db.as(
          "tenantA",
          "insert into ai_email_queue (recipient, subject, body) select 'p' || i || '@example.com', 'Hello', '<p>Hi</p>' from generate_series($1::int, $2::int) as i",
          [inserted + 1, inserted + 20],
        );
        inserted += 20;
        await simulator.waitFor((stats) => stats.messages >= inserted - 60, 60_000);
      }
    })();
    load.catch(() => {
      // Awaited below.
    });
    const underLoad = (): Promise<unknown> => {
      const before = inserted;
      return simulator.waitFor((stats) => stats.messages >= before + 60, 60_000);
    };
    const deploy = (): Promise<unknown> => migrate({ connectionString: db.url, directory });

    await underLoad();
    await comment();
    expect(await deploy()).toEqual({ applied: [expect.stringMatching(/^functions \(\d+ files\)$/)] });
    await underLoad();
    await changeResults();
    restarts.child.kill("SIGTERM");
    expect(await deploy()).toEqual({ applied: [expect.stringMatching(/^functions \(\d+ files\)$/)] });
    expect(await restarts.exited).toBe(0);
    const again = await startOne();
    await underLoad();
    state.deploying = false;
    await load;

    await db.until("select bool_and(status = 'completed') from ai_email_queue", [], 60_000);
    expect(await db.query("select from brainops.job_events where to_status = 'unconfirmed'")).toEqual([]);
    expect(simulator.duplicates()).toEqual([]);
    expect(simulator.messages).toHaveLength(inserted);
    expect((await signatureOf("settle")).result).toMatch(/deployed boolean\)$/);
    expect(stays.child.exitCode).toBeNull();
    for (const worker of [stays, again]) worker.child.kill("SIGTERM");
    expect(await Promise.all([stays.exited, again.exited])).toEqual([0, 0]);
  }, 240_000);
});
