// One home: every function, view, table and trigger of ours is defined in exactly one file of sql/, which is found by
// its name, and holds its comment, owner and rights as well.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { catalogObjects } from "../../src/db/migrate/catalog.ts";
import { definitionsIn } from "../../src/db/migrate/definitions.ts";
import { migrationsDirectory, sqlFiles } from "../../src/db/migrate/files.ts";
import { findOrphans } from "../../src/db/migrate/orphans.ts";
import { withoutComments } from "../../src/db/migrate/sqlText.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

interface SqlText {
  readonly path: string;
  readonly text: string;
}

let db: TestDatabase;
let files: readonly SqlText[];

beforeAll(async () => {
  db = await createTestDatabase();
  files = (await sqlFiles(migrationsDirectory)).map(({ path, text }) => ({ path, text: withoutComments(text) }));
});
afterAll(() => db?.close());

const pathsThat = (matches: (text: string) => boolean): string[] =>
  files.filter(({ text }) => matches(text)).map(({ path }) => path);

describe("every object of ours", () => {
  it("is created by one file, and none is in the database without one", async () => {
    const homes = Map.groupBy(
      files.flatMap(({ path, text }) => definitionsIn(text).map((object) => ({ path, object }))),
      ({ object }) => object,
    );
    const several = [...homes].filter(([, found]) => found.length > 1).map(([object, found]) => ({ object, found }));
    expect(several).toEqual([]);

    const client = await db.connect("superuser");
    const objects = await catalogObjects(client);
    expect(objects.length).toBeGreaterThan(500);
    expect(
      findOrphans(
        files.map(({ text }) => text),
        objects,
      ),
    ).toEqual([]);
    // A table, and the views of schema public.
    const relations = await db.query<{ name: string; kind: string }>(
      `select c.oid::regclass::text as name, case c.relkind when 'v' then 'view' else 'table' end as kind
       from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
       where c.relkind in ('r', 'p', 'v') and not c.relispartition and n.nspname in ('public', 'brainops')
         and c.relname !~ 'migrations|^release$' and c.oid <> 'brainops.jobs'::regclass
         and not exists (select from pg_depend as d where d.objid = c.oid and d.deptype = 'e')`,
    );
    for (const { name, kind } of relations) {
      const qualified = name.includes(".") ? name : `public.${name}`;
      const creates = new RegExp(
        String.raw`\bcreate (?:or replace |unlogged )?${kind} ${qualified.replace(".", "[.]")}\s`,
      );
      const [path = "", ...others] = pathsThat((text) => creates.test(text));
      expect([name, others]).toEqual([name, []]);
      const home = kind === "view" ? new RegExp(`^views/${name.split(".").at(-1)}[.]sql$`) : /^\d{4}-/;
      expect([name, path, home.test(path)]).toEqual([name, path, true]);
    }
  });

  it("a function has its comment, owner and rights in its file, and nothing of it is altered elsewhere", async () => {
    const functions = await db.query<{ name: string; owner: string }>(
      `select distinct p.oid::regproc::text as name, p.proowner::regrole::text as owner
       from pg_proc as p where p.pronamespace::regnamespace::text in ('brainops', 'brainops_internal')`,
    );
    for (const { name, owner } of functions) {
      const called = name.replace(".", "[.]");
      const [home = ""] = pathsThat((text) =>
        new RegExp(String.raw`\bcreate (?:or replace )?function ${called}\(`).test(text),
      );
      const comments = pathsThat((text) => new RegExp(String.raw`\bcomment on function\s+${called}\b`).test(text));
      const owners = pathsThat((text) =>
        new RegExp(String.raw`\balter function\s+${called}\([^;]*?owner to`).test(text),
      );
      const rights = pathsThat((text) =>
        new RegExp(String.raw`^(?:grant|revoke) execute\s+on function[^;]*?\b${called}\(`, "m").test(text),
      );
      expect([name, comments]).toEqual([name, [home]]);
      expect([name, owner === "brainops_system" ? owners : [home]]).toEqual([name, [home]]);
      expect([name, rights]).toEqual([name, [home]]);
    }
    expect(pathsThat((text) => /^alter function [^;]*\)\s+(?!owner to)/m.test(text))).toEqual([]);
  });

  it("a table's guard, rights and triggers are in the file of its name", () => {
    const misplaced = files.flatMap(({ path, text }) =>
      [
        ...text.matchAll(/^create or replace trigger \w+[^;]*?\bon ((?:public|brainops)\.\w+)/gm),
        ...text.matchAll(/^(?:grant|revoke) (?!execute|usage)[^;]*?\bon ((?:public|brainops)\.\w+)/gm),
        ...text.matchAll(/\b(?:protect_table|guard_table|define_job_table)\(\s*'((?:public|brainops)\.\w+)'/g),
      ]
        .map(([, table = ""]) => ({ path, table }))
        .filter(({ table }) => !["tables", "views"].some((folder) => path === `${folder}/${table.split(".")[1]}.sql`)),
    );
    expect(misplaced).toEqual([]);
  });
});

describe("files of sql/", () => {
  it("are short: none above 500 lines, half of those with functions below 220", async () => {
    const lines = (await sqlFiles(migrationsDirectory)).map(({ path, text }) => ({
      path,
      lines: text.split("\n").length,
    }));
    expect(lines.filter((file) => file.lines > 500)).toEqual([]);
    const sizes = lines.filter(({ path }) => path.startsWith("functions/")).map((file) => file.lines);
    expect(sizes.toSorted((a, b) => a - b)[Math.floor(sizes.length / 2)]).toBeLessThan(220);
  });
});
