// Who may log in to the built-in Postgres, and that no login can leave its role.
import { Client, type ClientConfig } from "pg";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { startEmbedded, type Embedded } from "../../src/db/embedded/index.ts";

let db: Embedded;
let admin: Client;
const opened: Client[] = [];

beforeAll(async () => {
  db = await startEmbedded({ dataDir: "memory" });
  admin = new Client(db.url);
  await admin.connect();
  await admin.query(`
    create role tenant_a login password 'a''s "secret"';
    create role tenant_b login password 'b' connection limit 1;
    create role shared nologin;
    grant shared to tenant_a;
    create role silent login;
    create role expired login password 'x' valid until '2020-01-01';
    create role boss superuser login password 'boss';
    alter role tenant_a set search_path = 'a_schema';
    create table notes (owner name default current_user, body text);
    grant select, insert on notes to tenant_a, tenant_b;
    alter table notes enable row level security;
    create policy own on notes using (owner = current_user);
    create function as_owner() returns text language sql security definer as 'select current_user || session_user';
  `);
}, 60_000);

afterEach(async () => {
  await Promise.all(opened.splice(0).map((client) => client.end().catch(() => undefined)));
});

afterAll(async () => {
  await admin.end();
  await db.close();
});

async function login(user: string, password?: string, more: ClientConfig = {}): Promise<Client> {
  const client = new Client({ host: "127.0.0.1", port: db.port, database: "postgres", user, ...more });
  if (password !== undefined) Object.assign(client, { password });
  client.on("error", () => undefined);
  await client.connect();
  opened.push(client);
  return client;
}

const tenantA = (): Promise<Client> => login("tenant_a", `a's "secret"`);
const tenantB = (): Promise<Client> => login("tenant_b", "b");
const code = (expected: string): unknown => expect.objectContaining({ code: expected });

/** pg accepts queryMode, but its types do not have it. */
const extended = (text: string): { text: string } => Object.assign({ text }, { queryMode: "extended" });

const severalStatements = (sql: string): boolean => sql.startsWith("select 1;");

test("a role logs in only with the right password", async () => {
  await tenantA();
  await expect(login("tenant_a", "wrong")).rejects.toEqual(code("28P01"));
  await expect(login("nobody", "x")).rejects.toEqual(code("28P01"));
  await expect(login("silent", "x")).rejects.toEqual(code("28P01"));
  await expect(login("expired", "x")).rejects.toEqual(code("28P01"));
  await expect(login("postgres", "postgres")).rejects.toEqual(code("28P01"));
});

test("a role that may not log in, an unknown database and a role at its connection limit are refused", async () => {
  await admin.query("create role retired nologin password 'r'");
  await expect(login("retired", "r")).rejects.toEqual(code("28000"));
  await expect(login("tenant_b", "b", { database: "other" })).rejects.toEqual(code("3D000"));
  await tenantB();
  await expect(tenantB()).rejects.toEqual(code("53300"));
});

test("each of several connections has its own role and sees its own rows", async () => {
  const [a, b] = [await tenantA(), await tenantB()];
  await a.query("insert into public.notes (body) values ('from a')");
  await b.query("insert into notes (body) values ('from b')");
  const sql = "select current_user as role, session_user as login, body from public.notes";
  expect((await a.query(sql)).rows).toEqual([{ role: "tenant_a", login: "tenant_a", body: "from a" }]);
  expect((await b.query(sql)).rows).toEqual([{ role: "tenant_b", login: "tenant_b", body: "from b" }]);
  expect((await admin.query("select from notes")).rowCount).toBe(2);
  expect((await a.query("select public.as_owner() as roles")).rows).toEqual([{ roles: "postgrestenant_a" }]);
});

test("SET ROLE and the role's own settings stay with the connection", async () => {
  const [a, b] = [await tenantA(), await tenantB()];
  await a.query("set role shared");
  await b.query("select 1");
  expect((await a.query("select current_user as role")).rows).toEqual([{ role: "shared" }]);
  expect((await a.query("show search_path")).rows).toEqual([{ search_path: "a_schema" }]);
  expect((await b.query("show search_path")).rows).toEqual([{ search_path: '"$user", public' }]);
  await expect(b.query("set role shared")).rejects.toEqual(code("42501"));
  await a.query("reset role");
  expect((await a.query("select current_user as role")).rows).toEqual([{ role: "tenant_a" }]);
});

test.each([
  "set session authorization postgres",
  "SET SESSION/* */AUTHORIZATION 'postgres'",
  "set local session authorization postgres",
  'set session_authorization = "postgres"',
  "select 1; set session authorization boss; select 2",
  "set role postgres",
  "set role boss",
  "do $$ begin execute 'set session ' || 'authorization postgres'; end $$",
  "do $$ begin perform set_config('session_' || 'authorization', 'postgres', false); end $$",
  "select set_config('role', 'postgres', true)",
  "select set_config(U&'session\\005fauthorization', 'postgres', false)",
  "alter role tenant_b superuser",
  "create temporary table notes ()",
  "select * from pg_prepared_statements",
  "update pg_catalog.pg_authid set rolsuper = true",
  "select rolpassword from pg_authid",
  "copy notes to program 'id'",
])("a tenant cannot become another role: %s", async (sql) => {
  const b = await tenantB();
  await expect(b.query(sql)).rejects.toEqual(code("42501"));
  await expect(b.query(extended(sql))).rejects.toEqual(code(severalStatements(sql) ? "42601" : "42501"));
  await admin.query("select 1");
  const who = "select current_user as role, session_user as login, current_setting('is_superuser') as super";
  expect((await b.query(who)).rows).toEqual([{ role: "tenant_b", login: "tenant_b", super: "off" }]);
});

test.each([
  "reset session authorization",
  "set session authorization default",
  "reset all",
  "discard all",
  "reset role",
])("%s returns a tenant to its own role", async (sql) => {
  const b = await tenantB();
  await b.query(sql);
  const { rows } = await b.query("select current_user as role, session_user as login");
  expect(rows).toEqual([{ role: "tenant_b", login: "tenant_b" }]);
});

test("a superuser may become another role, and keeps it while others run", async () => {
  const boss = await login("boss", "boss");
  await boss.query("set session authorization tenant_a");
  await admin.query("select 1");
  expect((await boss.query("select session_user as login")).rows).toEqual([{ login: "tenant_a" }]);
  await boss.query("set session authorization boss");
  expect((await boss.query("select session_user as login")).rows).toEqual([{ login: "boss" }]);
});

test("a superuser's setting applies to its own connection only", async () => {
  const b = await tenantB();
  await admin.query("set session_replication_role = replica");
  expect((await b.query("show session_replication_role")).rows).toEqual([{ session_replication_role: "origin" }]);
  expect((await admin.query("show session_replication_role")).rows).toEqual([{ session_replication_role: "replica" }]);
  await admin.query("reset session_replication_role");
});

test("a dropped role ends its own connections, and no others", async () => {
  await admin.query("create role gone login password 'g'");
  const gone = await login("gone", "g");
  await admin.query("drop role gone");
  await expect(gone.query("select 1")).rejects.toEqual(code("57P01"));
  expect((await admin.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
});

test("a SQL function is called with the id of a connection that ends", async () => {
  await admin.query(`
    create schema brainops;
    create schema brainops_internal;
    create table brainops.ended (id text);
    create function brainops_internal.embedded_connection_closed(id text) returns void language sql as
    $$ insert into brainops.ended values (id); notify ended; $$;
    listen ended;
  `);
  const b = await tenantB();
  const { rows } = await b.query<{ id: string }>("select current_setting('brainops.connection_id') as id");
  const notified = new Promise((resolve) => admin.once("notification", resolve));
  await b.end();
  await notified;
  expect((await admin.query("select id from brainops.ended")).rows).toEqual(rows);
});
