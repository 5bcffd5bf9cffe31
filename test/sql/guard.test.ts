// The guard, read back from the catalog, so that a table added later needs no test of its own.
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";
import { guardRules, type GuardRule } from "../support/guardRules.ts";

let db: TestDatabase;
let client: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  client = await db.connect("superuser");
});

afterAll(() => db.close());

async function problems({ query }: GuardRule): Promise<string[]> {
  const { rows } = await client.query<{ problem: string }>(query);
  return rows.map((row) => row.problem).toSorted();
}

describe.each(guardRules)("$rule", (rule) => {
  const excepted = Object.keys(rule.exceptions ?? {}).toSorted();

  it("holds everywhere, except for those that are named here", async () => {
    expect(await problems(rule)).toEqual(excepted);
  });

  it("detects a violation", async () => {
    await client.query("begin");
    try {
      await client.query(rule.breakIt);
      const found = await problems(rule);
      expect(found.length).toBeGreaterThan(excepted.length);
      expect(found).toEqual(expect.arrayContaining(excepted));
    } finally {
      await client.query("rollback");
    }
  });
});

describe("the database", () => {
  it("lets no client create temporary tables", async () => {
    // A clone does not get its template's grants, so the template is queried.
    const postgres = inject("postgres");
    const name = postgres.kind === "server" ? postgres.template : new URL(db.url).pathname.slice(1);
    const ask = "select has_database_privilege(role, $1, $2) as may from unnest($3::text[]) as role";
    const roles = ["brainops_tenant", "brainops_service", "brainops_worker"];
    const may = async (privilege: string): Promise<boolean[]> =>
      (await client.query<{ may: boolean }>(ask, [name, privilege, roles])).rows.map((row) => row.may);
    expect(await may("TEMP")).toEqual([false, false, false]);
    expect(await may("CREATE")).toEqual([false, false, false]);
    expect(await may("CONNECT")).toEqual([true, true, true]);
  });

  it("gives admins no way to write what the engine runs as SQL", async () => {
    await expect(db.as("admin", "update brainops.job_tables set gate = 'pg_sleep'")).rejects.toMatchObject({
      code: "42501",
    });
    await expect(
      db.as("admin", "update brainops.job_tables set archive_after = '31 days' returning table_name"),
    ).resolves.not.toHaveLength(0);
  });

  it("denies tenants the engine's own functions", async () => {
    const calls = [
      "select brainops_internal.claim('ai_email_queue', '{}', gen_random_uuid())",
      "select brainops_internal.settle('ai_email_queue', '{}')",
      "select brainops_internal.sweep()",
      "select brainops.pause('ai_email_queue')",
      "select brainops.create_tenant('mine', 'Mine')",
      "select brainops.create_login('tenant-b', 'mine', 'a-long-password')",
      "select brainops.protect_table('revenue_leads')",
      "select brainops_internal.pause_reason('ai_email_queue', gen_random_uuid())",
      "select brainops_internal.enqueue('ai_email_queue', '{}', '{}', '{}', '{}')",
      "select graphile_worker.add_job('email__send', '{}')",
      "select * from graphile_worker.jobs",
      "select * from brainops.tenant_logins",
      "select * from brainops.pauses",
      "select * from brainops.workers",
    ];
    for (const call of calls) expect([call, (await refusal(db.as("tenantA", call))).code]).toEqual([call, "42501"]);
  });
});
