// Default privileges of the database, such as those of Supabase, give roles of other programs every right on what migrate
// creates: nothing is left of it.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { migrationsDirectory } from "../../../src/db/migrate/index.ts";
import { isServer } from "../../support/database.ts";
import { onServer } from "../../support/sql.ts";
import { createFixture, type Fixture } from "./fixture.ts";

const [anon, reports] = [`t_anon_${process.pid}`, `t_reports_${process.pid}`];

let world: Fixture;
const log: string[] = [];
const run = () => world.run({ directory: migrationsDirectory, log: (line) => log.push(line) });

describe.skipIf(!isServer)("a role of another program (server only: needs several databases)", () => {
  beforeAll(async () => {
    world = await createFixture();
    await world.ask(`create role ${anon} login`);
    await world.ask(`create role ${reports} in role brainops_admin`);
    for (const scope of ["in schema public ", ""]) {
      for (const kind of ["tables", "sequences", "functions"]) {
        await world.ask(`alter default privileges ${scope}grant all on ${kind} to ${anon}, ${reports}`);
      }
    }
    await world.ask(`alter default privileges grant all on schemas to ${anon}`);
    await run();
  });

  afterAll(async () => {
    const url = new URL(world.url);
    await world.close();
    url.pathname = "/postgres";
    await onServer(url.href, (client) => client.query(`drop role ${anon}, ${reports}`));
  });

  const held = (role: string): Promise<{ object: string }[]> =>
    world.ask(
      `select c.oid::regclass::text as object from pg_class as c cross join aclexplode(c.relacl) as a
       where a.grantee = $1::regrole and c.relnamespace::regnamespace::text in ('public', 'brainops', 'brainops_internal')
       union
       select c.attrelid::regclass || '.' || c.attname from pg_attribute as c cross join aclexplode(c.attacl) as a
       where a.grantee = $1::regrole
       union
       select p.oid::regprocedure::text from pg_proc as p cross join aclexplode(p.proacl) as a
       where a.grantee = $1::regrole and p.pronamespace::regnamespace::text in ('brainops', 'brainops_internal')
       union
       select n.nspname::text from pg_namespace as n cross join aclexplode(n.nspacl) as a
       where a.grantee = $1::regrole and n.nspname in ('brainops', 'brainops_internal')
       order by 1`,
      [role],
    );

  it("keeps no right on tables, views, sequences, functions and schemas", async () => {
    expect(await held(anon)).toEqual([]);
    expect(log.join("\n")).toContain(`revoked the rights of ${anon} on `);
  });

  it("keeps them as a member of brainops_admin", async () => {
    expect((await held(reports)).length).toBeGreaterThan(50);
  });

  it("loses what was granted since at the next migrate", async () => {
    await world.ask(
      `grant select on all tables in schema public, brainops to ${anon};
       grant select (email) on revenue_leads to ${anon};
       grant execute on all functions in schema brainops to public;
       grant select on payments_by_lead to public`,
    );
    await run();
    expect(await held(anon)).toEqual([]);
    expect(
      await world.ask(
        `select has_function_privilege($1, 'brainops.now()', 'execute') as calls, has_table_privilege($1, 'payments_by_lead', 'select') as reads`,
        [anon],
      ),
    ).toEqual([{ calls: false, reads: false }]);
  });

  it("keeps nothing on a table of somebody's own from protect_table on, unless it is granted afterwards", async () => {
    await world.ask("create table public.notes (id uuid primary key, tenant_id uuid not null, words text)");
    expect(await held(anon)).toEqual([{ object: "notes" }]);
    await world.ask("select brainops.protect_table('public.notes')");
    expect(await held(anon)).toEqual([]);
    await world.ask(`grant select on public.notes to ${anon}`);
    await run();
    expect(await held(anon)).toEqual([{ object: "notes" }]);
  });
});
