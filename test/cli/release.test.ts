// What the command line does if the program and the database do not fit: exit codes 65 and 78.
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from "vitest";
import { version } from "../../src/version.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { onServer } from "../support/sql.ts";
import { brainops } from "./run.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.close());

const storeRelease = (release: string, oldestProgram: string): Promise<object[]> =>
  db.query("update brainops.release set release = $1, oldest_program = $2", [release, oldestProgram]);
afterEach(() => storeRelease(version, "0.0.0"));

test.each([["work"], ["serve"]])(
  "%s: a program that is older than the database allows: exit code 65",
  async (command) => {
    await storeRelease("99.1.0", "99.0.0");
    const { code, stdout, stderr } = await brainops([command], { DATABASE_URL: db.urlOf("worker"), PORT: "0" });
    expect(code).toBe(65);
    expect(stdout).toBe("");
    expect(stderr).toContain(`this program is release ${version}, and the database needs 99.0.0 or newer`);
  },
);

test("up: the same, after its migration", async () => {
  await storeRelease(version, "99.0.0");
  const { code, stderr } = await brainops(["up"], { DATABASE_URL: db.url, PORT: "0" });
  expect(code).toBe(65);
  expect(stderr).toContain("the database needs 99.0.0 or newer");
});

test("migrate: a release that is lower than the database's: exit code 65", async () => {
  await storeRelease("99.0.0", "0.0.0");
  const { code, stdout, stderr } = await brainops(["migrate"], { DATABASE_URL: db.url });
  expect(code).toBe(65);
  expect(stdout).toBe("");
  expect(stderr).toContain("Run brainops migrate from release 99.0.0 or newer");
});

test("work: a database of a lower release: exit code 1 asks for a migration", async () => {
  await storeRelease("0.0.1", "0.0.0");
  const { code, stderr } = await brainops(["work"], { DATABASE_URL: db.urlOf("worker") });
  expect(code).toBe(1);
  expect(stderr).toContain("the database has release 0.0.1");
  expect(stderr).toContain("run brainops migrate");
});

test("doctor: reports the release of the database, and whether this program fits", async () => {
  const healthy = await brainops(["doctor"], { DATABASE_URL: db.url });
  expect(healthy.stdout).toMatch(
    new RegExp(`^ok +release +${version}; programs of release 0.0.0 or newer may use it$`, "m"),
  );
  await storeRelease("99.1.0", "99.0.0");
  const ran = await brainops(["doctor"], { DATABASE_URL: db.url });
  expect(ran.code).toBe(1);
  expect(ran.stdout).toMatch(/^bad +release .*needs 99\.0\.0 or newer/m);
  expect(ran.stdout).toMatch(/^off +schema +migrated by release 99\.1\.0/m);
});

test("doctor: names each file that differs, and each object that no file creates", async () => {
  await db.query(`insert into brainops.migrations_repeatable (path, sha256, release, applied_at)
    values ('functions/99-old/gone.sql', 'x', '0.0.1', now()), ('views/99-gone.sql', 'x', '0.0.1', now())`);
  await db.query("create function brainops.left_behind(p_id uuid, p_n int) returns int return 1");
  await db.query("create view brainops.left_over as select 1 as n");
  const { code, stdout } = await brainops(["doctor"], { DATABASE_URL: db.url });
  expect(code).toBe(1);
  for (const line of [
    "functions/99-old/gone.sql is gone",
    "views/99-gone.sql is gone",
    "function brainops.left_behind(uuid, integer) is not in sql/",
    "view brainops.left_over is not in sql/",
  ]) {
    expect(stdout).toMatch(new RegExp(`^bad +schema +${RegExp.escape(line)}`, "m"));
  }
  await db.query("delete from brainops.migrations_repeatable where release = '0.0.1'");
  await db.query("drop function brainops.left_behind; drop view brainops.left_over");
});

describe.skipIf(!isServer)("a database of another application (needs a server with several databases)", () => {
  const provided = inject("postgres");
  const name = `brainops_foreign_${process.pid}`;
  const server = provided.kind === "server" ? provided.url : "";
  const url = server === "" ? "" : Object.assign(new URL(server), { pathname: `/${name}` }).href;

  beforeAll(async () => {
    await onServer(server, (client) => client.query(`create database ${name}`));
    await onServer(url, (client) =>
      client.query("create table ai_agents (id int); create table ai_email_queue (id int)"),
    );
  });
  afterAll(() => onServer(server, (client) => client.query(`drop database ${name} with (force)`)));

  test.each([["migrate"], ["up"]])("%s: exit code 78 lists its tables", async (command) => {
    const { code, stdout, stderr } = await brainops([command], { DATABASE_URL: url, PORT: "0" });
    expect(code).toBe(78);
    expect(stdout).toBe("");
    expect(stderr).toContain("  public.ai_agents\n  public.ai_email_queue\n");
  });
});
