// Schema brainops_internal is closed to tenants: what runs with their rights names nothing of it.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db?.close());

// Bodies look names up with the rights of whoever runs them. A function in begin atomic has an empty prosrc: it is
// bound when it is created.
const NAMING_INTERNAL = `
  select p.oid::regprocedure::text as function
  from pg_proc as p
  where not p.prosecdef
    and p.prosrc ~ 'brainops_internal\\.'
    and (
      p.pronamespace = 'brainops'::regnamespace and has_function_privilege('brainops_tenant', p.oid, 'execute')
      or exists (
        select from pg_trigger as t
        where t.tgfoid = p.oid and not t.tgisinternal
          and (
            has_table_privilege('brainops_tenant', t.tgrelid, 'insert, update, delete')
            or has_any_column_privilege('brainops_tenant', t.tgrelid, 'insert, update')
            -- By brainops.delete_rows.
            or has_table_privilege('brainops_service', t.tgrelid, 'delete')
          )
      )
    )
  order by 1`;

describe("brainops_internal", () => {
  it.each(["tenantA", "service", "anonymous"] as const)("is closed to %s", async (seat) => {
    const error = await refusal(db.as(seat, "select brainops_internal.normal_status('queued')"));
    expect([error.code, error.message]).toEqual(["42501", "permission denied for schema brainops_internal"]);
  });

  it.each(["worker", "admin"] as const)("is open to %s", async (seat) => {
    expect(await db.as(seat, "select brainops_internal.normal_status('queued') as status")).toEqual([
      { status: "pending" },
    ]);
  });

  it("is named by no trigger function and no interface function that runs with a tenant's rights", async () => {
    const named = async (): Promise<string[]> =>
      (await db.query<{ function: string }>(NAMING_INTERNAL)).map((row) => row.function);
    // A list of conditions as text, which export_person and forget run with the engine's rights.
    const texts = ["brainops.person_sources()"];
    expect(await named()).toEqual(texts);
    await db.query("alter function brainops_internal.before_job_insert() security invoker");
    expect(await named()).toEqual([...texts, "brainops_internal.before_job_insert()"]);
    await db.query("alter function brainops_internal.before_job_insert() security definer");
  });
});
