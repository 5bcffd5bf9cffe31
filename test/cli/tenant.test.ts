import { afterAll, beforeAll, expect, test } from "vitest";
import { makeVerifier } from "../../src/db/embedded/scram.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { onServer } from "../support/sql.ts";
import { brainops } from "./run.ts";

let db: TestDatabase;
const made: string[] = [];
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(async () => {
  for (const login of made) await db.query(`drop owned by ${login}; drop role ${login}`);
  await db.close();
});

const tenant = (...args: string[]) => brainops(["tenant", ...args], { DATABASE_URL: db.url });
const loginName = (name: string): string => `t_cli_${name}_${process.pid}`;
const urlIn = (stdout: string): string => /^url +(\S+)$/m.exec(stdout)?.[1] ?? "";

async function whoIs(url: string): Promise<{ tenant: string | null; slugs: string[] }> {
  return onServer(url, async (client) => {
    const { rows } = await client.query<{ tenant: string | null; slugs: string[] }>(
      "select brainops.current_tenant_id() as tenant, array(select slug from tenants) as slugs",
    );
    return rows[0] ?? { tenant: null, slugs: [] };
  });
}

test("create prints the id, list shows it", async () => {
  const created = await tenant("create", "summit", "Summit Roofing", "--time-zone", "America/Denver");
  expect(created.code).toBe(0);
  const [row] = await db.query<{ id: string; name: string; time_zone: string }>(
    "select id, name, time_zone from tenants where slug = 'summit'",
  );
  expect(row).toMatchObject({ name: "Summit Roofing", time_zone: "America/Denver" });
  expect(created.stdout).toContain(row?.id);
  const listed = await tenant("list");
  expect(listed.stdout).toMatch(/^summit +Summit Roofing +America\/Denver +active/m);
  expect(listed.stdout).toContain("tenant-a");
});

test.for([
  [["tenant-a", "Again"], "tenant-a already exists"],
  [["Not A Slug", "Name"], "slug: expected"],
  [["mars", "Mars", "--time-zone", "Mars/Olympus"], "Mars/Olympus"],
  [["nameless", ""], "name: expected"],
] as const)("create %j is refused with a message", async ([args, text]) => {
  const { code, stdout, stderr } = await tenant("create", ...args);
  expect(code).toBe(1);
  expect(stdout).toBe("");
  expect(stderr).toContain(text);
});

test("a login connects with the printed URL, as its tenant", async () => {
  const name = loginName("made");
  const { code, stdout } = await tenant("login", "tenant-a", name);
  made.push(name);
  expect(code).toBe(0);
  const password = /^password +(\S+)$/m.exec(stdout)?.[1] ?? "";
  expect(password.length).toBeGreaterThanOrEqual(32);
  expect(urlIn(stdout)).toContain(password);
  expect(await whoIs(urlIn(stdout))).toEqual({ tenant: db.tenantA, slugs: ["tenant-a"] });
});

test("a password from stdin is never printed, and Postgres gets only its verifier", async () => {
  const name = loginName("stdin");
  const password = "a password, given on stdin: 100 % ~";
  const args = ["tenant", "login", "tenant-b", name, "--password-stdin"];
  const { code, stdout, stderr } = await brainops(args, { DATABASE_URL: db.url }, `${password}\n`);
  made.push(name);
  expect(code).toBe(0);
  expect(stdout + stderr).not.toContain(password);
  const url = new URL(urlIn(stdout));
  expect(url.password).toBe("");
  const verifier = await verifierOf(name);
  expect(verifier).toMatch(/^SCRAM-SHA-256\$4096:/);
  expect(makeVerifier(password, saltOf(verifier))).toBe(verifier);
  url.password = password;
  expect(await whoIs(url.href)).toEqual({ tenant: db.tenantB, slugs: ["tenant-b"] });
});

test("the verifier equals the one that Postgres derives from the password", async () => {
  const name = loginName("plain");
  await db.query(`set password_encryption = 'scram-sha-256'; create role ${name} password 'correct horse battery'`);
  made.push(name);
  const verifier = await verifierOf(name);
  expect(makeVerifier("correct horse battery", saltOf(verifier))).toBe(verifier);
});

async function verifierOf(role: string): Promise<string> {
  const rows = await db.query<{ rolpassword: string }>("select rolpassword from pg_authid where rolname = $1", [role]);
  return rows[0]?.rolpassword ?? "";
}

const saltOf = (verifier: string): Buffer => Buffer.from(/:([^$]+)\$/.exec(verifier)?.[1] ?? "", "base64");

test.for([
  ["too short", "short"],
  ["not ASCII", "pässwörter sind lang"],
  ["empty", ""],
])("a password that is %s is refused", async ([, password = ""]) => {
  const name = loginName("refused");
  const args = ["tenant", "login", "tenant-a", name, "--password-stdin"];
  const { code, stderr } = await brainops(args, { DATABASE_URL: db.url }, password);
  expect(code).toBe(1);
  expect(stderr).toContain("12 or more printable ASCII characters");
  expect(await db.query("select from pg_roles where rolname = $1", [name])).toHaveLength(0);
});

test.for([
  ["an unknown tenant", "no-such-tenant", "t_cli_nobody", "neither the slug nor the id"],
  ["an existing role", "tenant-a", "brainops_admin", "a role of this name already exists"],
  ["a reserved name", "tenant-a", "pg_reader", "begin with pg_ are reserved"],
] as const)("%s: refused with a message", async ([, slug, login, text]) => {
  const { code, stdout, stderr } = await tenant("login", slug, login);
  expect(code).toBe(1);
  expect(stdout).toBe("");
  expect(stderr).toContain(text);
});

test("default moves the mark, and keeps it if the tenant is unknown", async () => {
  const marked = async (): Promise<string[]> =>
    (await db.query<{ slug: string }>("select slug from tenants where is_default")).map(({ slug }) => slug);
  expect((await tenant("default", "tenant-a")).code).toBe(0);
  expect((await tenant("default", "tenant-b")).code).toBe(0);
  expect(await marked()).toEqual(["tenant-b"]);
  const unknown = await tenant("default", "no-such-tenant");
  expect(unknown.code).toBe(1);
  expect(await marked()).toEqual(["tenant-b"]);
});

test("a tenant's own login may not create logins", async () => {
  const args = ["tenant", "login", "tenant-b", loginName("thief")];
  const { code, stderr } = await brainops(args, { DATABASE_URL: db.urlOf("tenantA") });
  expect(code).toBe(1);
  expect(stderr).not.toBe("");
});
