// The worker's liveness lock, whose key every role sees in pg_locks.
import type pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Worker } from "../../src/jobs/worker.ts";
import { createPoisonTable, insertPoison, poisonTasks } from "../faults/poison.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { startTestWorker } from "../support/worker.ts";

let db: TestDatabase;
let workers: Worker[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
  await createPoisonTable(db);
  await db.query("update brainops.job_tables set time_limit = '1 minute' where table_name = 'poison_rows'");
});

afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.stop(0)));
  workers = [];
});

afterAll(() => db.close());

interface Key {
  readonly classid: number;
  readonly objid: number;
  readonly pid: number;
}

const liveKeys =
  "select classid::bigint::int as classid, objid::bigint::int as objid, pid from pg_locks where locktype = 'advisory' and classid = 1112690512 and granted and database = (select oid from pg_database where datname = current_database())";

describe.skipIf(!isServer)("a worker's liveness lock (needs server processes)", () => {
  it("that a tenant takes over when the connection drops does not make the worker dead", async () => {
    workers = [await startTestWorker(db, null, { tasks: [poisonTasks] })];
    const [id = ""] = await insertPoison(db, ["wait"]);
    await db.until("select status = 'processing' from poison_rows where id = $1", [id]);
    const [first] = await db.query<{ id: string; number: number; backend_pid: number }>(
      "select id, number, backend_pid from brainops.worker_processes",
    );
    if (first === undefined) throw new Error("the worker is not registered");
    const watcher = await startTestWorker(db, null, { tasks: [poisonTasks] });
    workers.push(watcher);
    const [lockedBefore] = await db.query(
      "select count(*)::int as n from graphile_worker.jobs where locked_by is not null",
    );

    // As the attacker does: reads the key, queues behind it, and gets it the moment the connection drops.
    const tenant = await db.connect("tenantB");
    const { rows: keys } = await tenant.query<Key>(liveKeys);
    const key = keys.find(({ pid }) => pid === first.backend_pid);
    expect(key?.objid).toBe(first.number);
    const taken = tenant.query("select pg_advisory_lock($1, $2)", [key?.classid, key?.objid]);
    await db.until(
      "select exists (select from pg_locks where locktype = 'advisory' and objid = $1::oid and not granted)",
      [first.number],
    );
    await db.query("select pg_terminate_backend($1)", [first.backend_pid]);
    await taken;

    const alive = "select state = 'alive' as alive from brainops.workers where id = $1";
    await db.until(alive, [first.id], 3000);
    // The watcher looks each second, and needs 3 s to declare a worker dead.
    const [seen] = await db.query<{ at: Date }>("select now() as at");
    await db.until(
      "select last_seen_at > $2::timestamptz + interval '5 seconds' from brainops.worker_processes where id = $1",
      [watcher.id, seen?.at],
    );
    expect(await db.query(alive, [first.id])).toEqual([{ alive: true }]);
    expect(await db.query("select status, worker_id from poison_rows where id = $1", [id])).toEqual([
      { status: "processing", worker_id: first.id },
    ]);
    const [lockedAfter] = await db.query(
      "select count(*)::int as n from graphile_worker.jobs where locked_by is not null",
    );
    expect(lockedAfter).toEqual(lockedBefore);
    await tenant.end();
  }, 60_000);

  it("is found again under its new key by the attacker, to no more avail", async () => {
    workers = [await startTestWorker(db, null)];
    const tenant = await db.connect("tenantB");
    const numbers = new Set<number>();
    for (let round = 0; round < 3; round += 1) {
      await db.until("select bool_and(state = 'alive') from brainops.workers");
      const [row] = await db.query<{ number: number; backend_pid: number }>(
        "select number, backend_pid from brainops.worker_processes",
      );
      numbers.add(row?.number ?? 0);
      const taken = tenant.query("select pg_advisory_lock(1112690512, $1)", [row?.number]);
      await db.until(
        "select exists (select from pg_locks where locktype = 'advisory' and objid = $1::oid and not granted)",
        [row?.number],
      );
      await db.query("select pg_terminate_backend($1)", [row?.backend_pid]);
      await taken;
    }
    await db.until("select bool_and(state = 'alive') from brainops.workers");
    expect(numbers.size).toBe(3);
    await tenant.end();
  }, 60_000);
});

describe.skipIf(!isServer)("register_worker (needs server processes)", () => {
  const id = "00000000-0000-4000-8000-000000000009";
  const register = async (client: pg.Client): Promise<unknown> =>
    (await client.query("select brainops_internal.register_worker($1, 'host', 1, '{}') as registered", [id])).rows[0];

  it("takes another number and ends the connection before it, if Postgres still considers that one open", async () => {
    const [lost, next] = await Promise.all([db.connect("worker"), db.connect("worker")]);
    const ended = new Promise<void>((resolve) => lost.once("end", resolve));
    expect(await register(lost)).toEqual({ registered: true });
    const [before] = await db.query<{ number: number }>("select number from brainops.worker_processes where id = $1", [
      id,
    ]);
    expect(await register(next)).toEqual({ registered: true });
    await ended;
    const [after] = await db.query<{ number: number }>("select number from brainops.worker_processes where id = $1", [
      id,
    ]);
    expect(after?.number).not.toBe(before?.number);
    expect(await db.query("select state from brainops.workers where id = $1", [id])).toEqual([{ state: "alive" }]);
  });

  it("passes over a number that somebody else has locked", async () => {
    const [worker, tenant] = await Promise.all([db.connect("worker"), db.connect("tenantB")]);
    const draw = "select floor(random() * 2147483647)::int as number";
    await worker.query("select setseed(0.5)");
    const drawn: number[] = [];
    for (let n = 0; n < 3; n += 1) drawn.push((await worker.query<{ number: number }>(draw)).rows[0]?.number ?? 0);
    for (const number of drawn.slice(0, 2)) await tenant.query("select pg_advisory_lock(1112690512, $1)", [number]);
    await worker.query("select setseed(0.5)");
    expect(await register(worker)).toEqual({ registered: true });
    expect(await db.query("select number from brainops.worker_processes where id = $1", [id])).toEqual([
      { number: drawn[2] },
    ]);
    await worker.query("select brainops_internal.deregister_worker($1)", [id]);
    await Promise.all([worker.end(), tenant.end()]);
  });

  it("ends no backend that only has the pid of the connection before it", async () => {
    const [innocent, next] = await Promise.all([db.connect("worker"), db.connect("worker")]);
    const { rows } = await innocent.query<{ pid: number }>("select pg_backend_pid() as pid");
    await register(next);
    await db.query("update brainops.worker_processes set backend_pid = $2 where id = $1", [id, rows[0]?.pid]);
    expect(await register(next)).toEqual({ registered: true });
    expect((await innocent.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
    await next.query("select brainops_internal.deregister_worker($1)", [id]);
  });
});
