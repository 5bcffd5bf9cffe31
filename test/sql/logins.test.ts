// brainops.create_login: no error shows the password, and it works for a login that is not a superuser.
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { onServer } from "../support/sql.ts";

const CANARY = "CANARY-password-1'; $$ %s";

let db: TestDatabase;
const dba = `t_dba_${process.pid}`;
const made = `t_made_${process.pid}`;

beforeAll(async () => {
  db = await createTestDatabase();
  await db.query(`create role ${dba} login createrole password 'a-password-of-tests' in role brainops_admin`);
  await db.query(`grant brainops_tenant to ${dba} with admin option`);
});

afterAll(async () => {
  await db.query(`drop role if exists ${made}`);
  // Before Postgres 16 dba granted nothing that depends on it.
  await db.query(`drop owned by ${dba}; drop role ${dba}`);
  await db.close();
});

function urlOf(login: string): string {
  const url = new URL(db.urlOf("admin"));
  url.username = login;
  url.password = "a-password-of-tests";
  return url.href;
}

const create = (url: string, tenant: string | null, login: string | null): Promise<unknown> =>
  onServer(url, (client) => client.query("select brainops.create_login($1, $2, $3)", [tenant, login, CANARY]));

/** The SQLSTATE of a call that must fail. No field of the error has the password. */
async function failure(url: string, tenant: string | null, login: string | null): Promise<string | undefined> {
  const error: unknown = await create(url, tenant, login).catch((reason: unknown) => reason);
  if (!(error instanceof pg.DatabaseError)) throw new Error("expected an error of Postgres", { cause: error });
  // message, detail, hint, where (the context), internalQuery and all else
  const fields = Object.getOwnPropertyNames(error).map((key) => String(Reflect.get(error, key)));
  expect(fields.join("\n")).not.toContain("CANARY");
  return error.code;
}

describe("an error of create_login", () => {
  const names: readonly (readonly [string, string | null, string])[] = [
    ["a role that exists", "brainops_tenant", "42710"],
    ["an empty name", "", "42602"],
    ["no name", null, "42602"],
    ["a name that is too long", "x".repeat(64), "42602"],
    ["a reserved name", "pg_mine", "42939"],
    ["another reserved name", "public", "42939"],
  ];
  it.each(names)("never has the password: %s", async (_name, login, code) => {
    for (const url of [db.url, urlOf(dba)]) expect(await failure(url, "tenant-a", login)).toBe(code);
    await failure(db.urlOf("admin"), "tenant-a", login);
  });

  it("never has the password: an unknown tenant, or a right that is missing", async () => {
    expect(await failure(db.url, "nobody", made)).toBe("OP007");
    expect(await failure(db.url, null, made)).toBe("OP007");
    for (const seat of ["admin", "tenantA", "anonymous"] as const)
      expect(await failure(db.urlOf(seat), "tenant-a", made)).toBe("42501");
  });
});

it("a login with CREATEROLE that is not a superuser creates logins whose sessions the guard may end", async () => {
  await create(urlOf(dba), "tenant-a", made);
  expect(await db.query("select pg_has_role('brainops_system', $1::name, 'usage') as guarded", [made])).toEqual([
    { guarded: true },
  ]);
  const url = new URL(db.url);
  url.username = made;
  url.password = CANARY;
  expect(await onServer(url.href, async (client) => (await client.query("select slug from tenants")).rows)).toEqual([
    { slug: "tenant-a" },
  ]);
});
