// The naming scheme of triggers (sql/_README.md): the name of a trigger decides when it fires.
import type pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

interface Trigger {
  readonly table: string;
  readonly name: string;
  readonly timing: "before" | "after" | "instead of";
}

/** The timing that each letter of the scheme stands for. */
const TIMINGS: ReadonlyMap<string, Trigger["timing"]> = new Map([
  ["a", "before"],
  ["b", "before"],
  ["c", "after"],
  ["d", "after"],
  ["z", "before"],
]);

// Bits of pg_trigger.tgtype: 2 is before, 64 is instead of.
const TRIGGERS = `
  select
    t.tgrelid::regclass::text as table,
    t.tgname as name,
    case when t.tgtype & 2 <> 0 then 'before' when t.tgtype & 64 <> 0 then 'instead of' else 'after' end as timing
  from pg_catalog.pg_trigger as t
  inner join pg_catalog.pg_class as c on c.oid = t.tgrelid
  where not t.tgisinternal and c.relnamespace <> 'graphile_worker'::regnamespace
  order by 1, 2
`;

let db: TestDatabase;
let client: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  client = await db.connect("superuser");
});

beforeEach(async () => {
  await client.query("begin");
});

afterEach(async () => {
  await client.query("rollback");
});

afterAll(() => db.close());

function isInScheme({ name, timing }: Trigger): boolean {
  const [, letter = ""] = /^([a-z])\d_[a-z][a-z0-9_]*$/.exec(name) ?? [];
  return TIMINGS.get(letter) === timing;
}

/** The triggers outside the scheme, as `table.name (timing)`. */
async function outsiders(): Promise<string[]> {
  const { rows } = await client.query<Trigger>(TRIGGERS);
  expect(rows.length).toBeGreaterThan(100);
  return rows.filter((row) => !isInScheme(row)).map(({ table, name, timing }) => `${table}.${name} (${timing})`);
}

describe("the name of a trigger", () => {
  it("has a letter for its timing, a digit for its place, and what it does", async () => {
    expect(await outsiders()).toEqual([]);
  });

  it.each([
    ["audit", "before"],
    ["a_audit", "before"],
    ["e0_audit", "before"],
    ["a0", "before"],
    ["a0_audit", "after"],
    ["b0_audit", "after"],
    ["z0_audit", "after"],
    ["c0_audit", "before"],
    ["d0_audit", "before"],
  ])("is not %s for a trigger %s an update", async (name, timing) => {
    await client.query(
      `create trigger ${name} ${timing} update on tenants for each row execute function brainops_internal.touch_updated_at()`,
    );
    expect(await outsiders()).toEqual([`tenants.${name} (${timing})`]);
  });

  it("decides the order of triggers with the same timing and level", async () => {
    await client.query(`
      create table public.fired (name text);
      create function public.note() returns trigger language plpgsql as
        $$ begin insert into public.fired values (tg_name); return new; end $$;
      create table public.things (id int);
      create trigger z0_last before insert on public.things for each row execute function public.note();
      create trigger a1_second before insert on public.things for each row execute function public.note();
      create trigger a0_first before insert on public.things for each row execute function public.note();
      create trigger c0_after after insert on public.things for each row execute function public.note();
      insert into public.things values (1);
    `);
    const { rows } = await client.query<{ name: string }>("select name from public.fired");
    expect(rows.map(({ name }) => name)).toEqual(["a0_first", "a1_second", "z0_last", "c0_after"]);
  });
});
