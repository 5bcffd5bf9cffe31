import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { messageOf } from "../../../src/errors.ts";
import { isServer } from "../../support/database.ts";
import { onServer } from "../../support/sql.ts";
import { createFixture, files, type Fixture } from "./fixture.ts";

let world: Fixture;
beforeEach(async () => {
  if (isServer) world = await createFixture();
});
afterEach(() => world?.close());

const ALL = [
  "0001-things.sql",
  "functions (4 files)",
  "tables/things.sql",
  "views (2 files)",
  "after/0001-known.sql",
] as const;

const sizeOf = "functions/10-things/size.sql";
const edited = files[sizeOf]?.replace("brainops.bare_size(p_name)", "brainops.bare_size(p_name) + 100") ?? "";

/** Functions with their bodies, and the recorded files: a failed or killed migration must leave them unchanged. */
const state = (): Promise<object[]> =>
  world.ask(
    `select
       (select jsonb_object_agg(proname, prosrc) from pg_proc where pronamespace = 'brainops'::regnamespace) as functions,
       (select jsonb_object_agg(path, sha256) from brainops.migrations_repeatable) as recorded`,
  );

describe.skipIf(!isServer)("repeatable files (needs a server with several databases)", () => {
  it("are applied after the numbered ones and before reference data, which may call them", async () => {
    expect(await world.run()).toEqual({ applied: ALL });
    expect(await world.ask("select name, size from brainops.large inner join public.things using (name)")).toEqual([
      { name: "hammer", size: 6 },
    ]);
  });

  it("are applied once: a second migrate applies nothing", async () => {
    await world.run();
    expect(await world.run()).toEqual({ applied: [] });
  });

  it("are applied by set: after one function was edited, all functions and nothing else", async () => {
    await world.run();
    await world.write(sizeOf, edited);
    // This also restores a function that was changed by hand.
    await world.ask("create or replace function brainops.bare_size(p_name text) returns int return 0");
    expect(await world.run()).toEqual({ applied: ["functions (4 files)"] });
    expect(await world.ask("select brainops.size_of('saw') as size")).toEqual([{ size: 103 }]);
  });

  it("are compared without regard to line endings", async () => {
    await world.run();
    for (const [path, text] of Object.entries(files)) {
      if (/^(functions|tables|views)/.test(path)) await world.write(path, text.replaceAll("\n", "\r\n"));
    }
    expect(await world.run()).toEqual({ applied: [] });
  });

  it("drop retired signatures first, in the same transaction", async () => {
    await world.write("functions/10-things/old.sql", "create function brainops.old_size(text) returns int return 1;\n");
    await world.run();
    await world.remove("functions/10-things/old.sql");
    await world.write(
      "functions/10-things/new.sql",
      "create or replace function brainops.old_size(text) returns text return 'another type';\n",
    );
    expect(await world.run()).toEqual({ applied: ["functions (5 files)"] });
    expect(await world.ask("select brainops.old_size('x') as size")).toEqual([{ size: "another type" }]);
    expect(await world.ask("select path from brainops.migrations_repeatable where path like '%/old.sql'")).toEqual([]);
  });

  it("restore views that were dropped with a retired function", async () => {
    await world.run();
    await world.write(
      "functions/10-things/more.sql",
      "create function brainops.old_size(text) returns int return 1;\n",
    );
    await world.write(
      "views/30-more.sql",
      "drop view if exists brainops.more;\ncreate view brainops.more as select brainops.old_size('x') as size;\n",
    );
    await world.run();
    await world.write(
      "functions/retired.sql",
      "drop view if exists brainops.more;\ndrop function if exists brainops.old_size(text);\n",
    );
    expect(await world.run()).toEqual({ applied: ["functions (5 files)", "views (3 files)"] });
    expect(await world.ask("select size from brainops.more")).toEqual([{ size: 1 }]);
  });

  it("are applied one by one for tables, and all together for views", async () => {
    await world.write("tables/another.sql", "alter table public.things set (fillfactor = 90);\n");
    await world.run();
    await world.write("tables/another.sql", "alter table public.things set (fillfactor = 80);\n");
    expect(await world.run()).toEqual({ applied: ["tables/another.sql"] });
    await world.write(
      "views/10-sizes.sql",
      (files["views/10-sizes.sql"] ?? "").replace("select name, size", "select size, name"),
    );
    expect(await world.run()).toEqual({ applied: ["views (2 files)"] });
    expect(await world.ask("select name from brainops.large")).toEqual([{ name: "hammer" }]);
  });

  it("are forgotten when a table's file is deleted", async () => {
    await world.run();
    await world.remove("tables/things.sql");
    expect(await world.run()).toEqual({ applied: [] });
    expect(await world.ask("select path from brainops.migrations_repeatable where path like 'tables/%'")).toEqual([]);
  });

  it.each([
    ["functions", sizeOf],
    ["tables", "tables/things.sql"],
    ["views", "views/20-large.sql"],
  ])("name the file of %s that fails, and roll it back", async (_set, path) => {
    await world.run();
    const before = await state();
    await world.write(path, "create function brainops.half() returns int return 1;\nselect 1 / 0;\n");
    await expect(world.run()).rejects.toThrow(`${path}: division by zero`);
    expect(await state()).toEqual(before);
  });

  it.each([
    [
      "plpgsql",
      "begin return length((p_name); end",
      /^functions \(4 files\): brainops.size_of\(text\): mismatched parentheses/,
    ],
    [
      "sql",
      "select brainops.no_such_size(p_name)",
      /^functions \(4 files\): brainops.size_of\(text\): function .* does not exist/,
    ],
  ])(
    "refuse a body in %s that is broken, which creating the function does not show",
    async (language, body, problem) => {
      await world.run();
      const before = await state();
      await world.write(
        sizeOf,
        `create or replace function brainops.size_of(p_name text) returns int language ${language} stable as $$ ${body} $$;\n`,
      );
      await expect(world.run()).rejects.toThrow(problem);
      expect(await state()).toEqual(before);
    },
  );

  it("leave nothing partly applied if the migrator is killed", async () => {
    await world.run();
    const before = await state();
    await world.write(sizeOf, edited);
    await world.write("functions/20-bare/wait.sql", "lock table public.things in access exclusive mode;\n");
    await onServer(world.url, async (holder) => {
      await holder.query("begin; lock table public.things in access share mode");
      const running = world.run().then(() => "it succeeded", messageOf);
      // When the migrator waits, it has replaced size_of. The query runs outside the holder's transaction, which
      // would see only one snapshot of pg_stat_activity.
      const kill = `select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'brainops migrate' and wait_event_type = 'Lock'`;
      while ((await world.ask(kill)).length === 0) continue;
      expect(await running).toMatch(/wait.sql: .*terminat/);
      await holder.query("commit");
    });
    expect(await state()).toEqual(before);
    await world.remove("functions/20-bare/wait.sql");
    expect(await world.run()).toEqual({ applied: ["functions (4 files)"] });
    expect(await world.ask("select brainops.size_of('saw') as size")).toEqual([{ size: 103 }]);
  });

  it("wait for a locked table no longer than their lock_timeout, and are retried", async () => {
    await world.run();
    await world.write(
      "tables/things.sql",
      `set local lock_timeout = '50ms';\n${files["tables/things.sql"]?.replaceAll("a1_fill_size", "a2_fill_size")}`,
    );
    await onServer(world.url, async (holder) => {
      await holder.query("begin; lock table public.things in row exclusive mode");
      await expect(world.run({ lockRetries: 2 })).rejects.toThrow(/locked by others 2 times in a row/);
      await holder.query("commit");
    });
    expect(await world.run()).toEqual({ applied: ["tables/things.sql"] });
  });

  // Else Postgres ends the client's statement where the two wait for each other.
  it.each(["functions/20-bare/wait.sql", "tables/things.sql", "views/20-large.sql"])(
    "give up on a lock before a client that waits for them looks for a deadlock: %s",
    async (path) => {
      await world.run();
      await world.write(
        path,
        `${files[path] ?? ""}create table public.seen as
         select current_setting('lock_timeout')::interval < current_setting('deadlock_timeout')::interval as gives_up_first;\n`,
      );
      await world.run();
      expect(await world.ask("select * from public.seen")).toEqual([{ gives_up_first: true }]);
    },
  );

  it("succeed in four migrations at once, with every file applied once", async () => {
    const reports = await Promise.all(Array.from({ length: 4 }, () => world.run()));
    expect(reports.flatMap(({ applied }) => applied)).toEqual(ALL);
  });
});

describe.skipIf(!isServer)("a numbered file (needs a server with several databases)", () => {
  it("may take longer than idle_session_timeout, and the migrator keeps its lock", async () => {
    const [database] = await world.ask<{ name: string }>("select quote_ident(current_database()) as name");
    await world.ask(`alter database ${database?.name} set idle_session_timeout = '200ms'`);
    await world.write("0002-long.sql", "select pg_sleep(0.6);\n");
    expect(await world.run()).toMatchObject({ applied: expect.arrayContaining(["0002-long.sql"]) });
  });
});
