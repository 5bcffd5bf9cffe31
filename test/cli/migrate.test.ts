import { afterAll, beforeAll, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { brainops } from "./run.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.close());

test("a database that is up to date: nothing to do, exit code 0", async () => {
  const { code, stdout } = await brainops(["migrate"], { DATABASE_URL: db.url });
  expect(stdout).toContain("up to date");
  expect(code).toBe(0);
});

test("a file that differs from what was applied: exit code 1 names it", async () => {
  await db.query("update brainops.migrations_applied set script = script || ' ' where name = '0001-tenants.sql'");
  const { code, stdout, stderr } = await brainops(["migrate"], { DATABASE_URL: db.url });
  expect(code).toBe(1);
  expect(stdout).toBe("");
  expect(stderr).toContain("0001-tenants.sql");
});
