import { cp, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { migrate, migrationsDirectory } from "../../src/db/migrate/index.ts";
import { takeLock } from "../../src/db/migrate/lock.ts";
import { isServer } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";
import { onServer } from "../support/sql.ts";

const provided = inject("postgres");

let directory: string;
let url: string;
let name: string;

beforeEach(async () => {
  if (provided.kind !== "server") return;
  directory = await mkdtemp(join(tmpdir(), "brainops-sql-"));
  await cp(migrationsDirectory, directory, { recursive: true });
  name = `brainops_migrate_${process.pid}_${Math.random().toString(36).slice(2, 8)}`;
  await onServer(provided.url, (client) => client.query(`create database ${name}`));
  const changed = new URL(provided.url);
  changed.pathname = `/${name}`;
  url = changed.href;
});

afterEach(async () => {
  if (provided.kind !== "server") return;
  await onServer(provided.url, (client) => client.query(`drop database if exists ${name} with (force)`));
  await rm(directory, { recursive: true, force: true });
});

const run = (more: object = {}): Promise<unknown> => migrate({ connectionString: url, directory, ...more });
const ask = <Row extends pg.QueryResultRow>(text: string): Promise<Row[]> =>
  onServer(url, async (client) => (await client.query<Row>(text)).rows);

async function waitUntil(query: string): Promise<void> {
  const deadline = Date.now() + 20_000;
  while ((await ask(query)).length === 0) {
    if (Date.now() > deadline) throw new Error(`did not come true: ${query}`);
  }
}

describe.skipIf(!isServer)("brainops migrate (needs a server with several databases)", () => {
  it("succeeds four times at once on a fresh database, with every file applied once", async () => {
    const reports = await Promise.all([migrate({ connectionString: url, directory }), run(), run(), run()]);
    expect(reports).toHaveLength(4);
    const rows = await ask(
      "select index, count(*)::int as n from brainops.migrations_applied group by index having count(*) <> 1",
    );
    expect(rows).toEqual([]);
  }, 60_000);

  it("applies only what is new, and does nothing the second time", async () => {
    await run();
    expect(await run()).toEqual({ applied: [] });
    await writeFile(join(directory, "0999-more.sql"), "create table public.more (id uuid primary key);\n");
    expect(await run()).toEqual({ applied: ["0999-more.sql"] });
  });

  it.each([
    ["edited", async () => writeFile(join(directory, "0003-leads.sql"), "select 1;\n"), /0003-leads/],
    [
      "renamed",
      async () => rename(join(directory, "0003-leads.sql"), join(directory, "0003-people.sql")),
      /0003-leads.sql was renamed to 0003-people.sql/,
    ],
    ["deleted", async () => rm(join(directory, "0003-leads.sql")), /0003-leads/],
    [
      "inserted before others",
      async () => writeFile(join(directory, "0000-first.sql"), "select 1;\n"),
      /0000-first.sql is new, but its number is below/,
    ],
  ])("names and refuses a file that was %s after it was applied", async (_how, change, message) => {
    await run();
    await change();
    await expect(run()).rejects.toThrow(message);
  });

  it("names the file that fails, keeps the files before it, and rolls it back", async () => {
    await writeFile(
      join(directory, "0998-bad.sql"),
      "create table public.half (id uuid primary key);\nselect 1 / 0;\n",
    );
    await expect(run()).rejects.toThrow(/0998-bad.sql: division by zero/);
    expect(
      await ask(
        "select to_regclass('public.half') is null as gone, to_regclass('public.ai_email_queue') is not null as kept",
      ),
    ).toEqual([{ gone: true, kept: true }]);
  });

  it("builds indexes of concurrent/ outside a transaction, and rebuilds an invalid one", async () => {
    await run();
    await ask("create table public.things (a int); insert into public.things values (1), (1)");
    // An interrupted build leaves an invalid index with that name.
    await onServer(url, (client) =>
      client.query("create unique index concurrently things_a on public.things (a)").catch(() => {}),
    );
    expect(await ask("select indisvalid from pg_index where indexrelid = 'things_a'::regclass")).toEqual([
      { indisvalid: false },
    ]);
    await writeFile(
      join(directory, "concurrent", "0001-things.sql"),
      "create index concurrently if not exists things_a on public.things (a);\n",
    );
    expect(await Promise.all([run(), run()])).toContainEqual({ applied: ["concurrent/0001-things.sql"] });
    expect(await ask("select indisvalid from pg_index where indexrelid = 'things_a'::regclass")).toEqual([
      { indisvalid: true },
    ]);
  }, 60_000);

  it("waits for another migrator only for as long as that is connected", async () => {
    await run();
    const other = new pg.Client({ connectionString: url });
    other.on("error", () => {});
    await other.connect();
    await takeLock(other, { connectionString: url }, async () => {});
    await expect(run({ lockWaitMs: 300 })).rejects.toThrow(
      /Another migrator \(server process \d+ of login \w+\) has been connected for too long/,
    );
    // It holds no transaction open, and so no snapshot and no lock of Postgres's.
    expect(
      await ask(
        `select state, backend_xid, backend_xmin from pg_stat_activity
         where pid = (select backend_pid from brainops.migrations_lock)`,
      ),
    ).toEqual([{ state: "idle", backend_xid: null, backend_xmin: null }]);
    // As if the process had been killed.
    await ask("select pg_terminate_backend(backend_pid) from brainops.migrations_lock");
    expect(await run({ lockWaitMs: 10_000 })).toEqual({ applied: [] });
  });

  it("does not take a client's backend with the number of a dead migrator for a migrator", async () => {
    await run();
    const login = `client_${process.pid}`;
    await ask(`create role ${login} login`);
    const clientUrl = new URL(url);
    clientUrl.username = login;
    try {
      await onServer(clientUrl.href, async (client) => {
        const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
        await ask(
          `update brainops.migrations_lock set backend_pid = ${rows[0]?.pid}, login_id = (select oid from pg_roles where rolname = current_user)`,
        );
        expect(await run({ lockWaitMs: 300 })).toEqual({ applied: [] });
        expect((await refusal(client.query("select from brainops.migrations_lock for key share"))).code).toBe("42501");
      });
    } finally {
      await ask(`drop role ${login}`);
    }
  });

  it("waits with an index that is being built, and neither waits for the other", async () => {
    await run();
    await ask("create table public.things (a int)");
    await writeFile(
      join(directory, "concurrent", "0001-things.sql"),
      "create index concurrently if not exists things_a on public.things (a);\n",
    );
    await onServer(url, async (reader) => {
      // The index waits for this transaction, and the second migrator for the first.
      await reader.query("begin; insert into public.things values (1)");
      const first = run({ lockRetries: 50 });
      await waitUntil(
        "select from pg_stat_activity where query like 'create index concurrently%' and wait_event_type = 'Lock'",
      );
      const second = run();
      await waitUntil(
        "select from pg_stat_activity where application_name = 'brainops migrate' and pid not in (select backend_pid from brainops.migrations_lock where backend_pid is not null) and datname = current_database()",
      );
      await reader.query("commit");
      expect(await Promise.all([first, second])).toEqual([
        { applied: ["concurrent/0001-things.sql"] },
        { applied: [] },
      ]);
    });
    expect(await ask("select indisvalid from pg_index where indexrelid = 'things_a'::regclass")).toEqual([
      { indisvalid: true },
    ]);
  }, 60_000);

  it("gives up on a locked table after its lock_timeout, and succeeds once it is free", async () => {
    await run();
    await writeFile(
      join(directory, "0999-alter.sql"),
      "set local lock_timeout = '100ms';\nalter table public.revenue_leads add column more text;\n",
    );
    await onServer(url, async (holder) => {
      await holder.query("begin; lock table public.revenue_leads in access share mode");
      await expect(run({ lockRetries: 2 })).rejects.toThrow(/locked by others 2 times in a row/);
      await holder.query("commit");
    });
    expect(await run()).toEqual({ applied: ["0999-alter.sql"] });
  });
});
