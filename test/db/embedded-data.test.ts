// The data folder of the built-in Postgres: kept through restarts and kills, one process at a time.
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startEmbedded } from "../../src/db/embedded/index.ts";

let root: string;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "brainops-embedded-"));
});

afterAll(async () => {
  await rm(root, { recursive: true, force: true });
});

async function ask(url: string, sql: string): Promise<unknown[]> {
  const client = new Client(url);
  client.on("error", () => undefined);
  await client.connect();
  const { rows } = await client.query(sql);
  await client.end();
  return rows as unknown[];
}

/** A separate process with a built-in Postgres on `dataDir`; it sends its URL. */
async function startProcess(dataDir: string): Promise<{ child: ChildProcess; url: string }> {
  const script = join(root, "start.mjs");
  const module = new URL("../../src/db/embedded/index.ts", import.meta.url);
  await writeFile(
    script,
    `import { startEmbedded } from ${JSON.stringify(module.href)};
     const db = await startEmbedded({ dataDir: process.argv[2] });
     process.send(db.url);`,
  );
  const child = fork(script, [dataDir], { execArgv: [], execPath: process.execPath });
  const [url] = (await once(child, "message")) as [string];
  return { child, url };
}

test("a killed process leaves its data, its password and no valid lock", { timeout: 60_000 }, async () => {
  const dataDir = join(root, "killed");
  const first = await startProcess(dataDir);
  await ask(first.url, "create table kept as select n from generate_series(1, 1000) as n");
  await expect(startEmbedded({ dataDir })).rejects.toThrow(`in use by process ${first.child.pid} on port`);
  expect(await ask(first.url, "select count(*)::int as n from kept")).toEqual([{ n: 1000 }]);

  first.child.kill("SIGKILL");
  await once(first.child, "exit");
  const contenders = await Promise.allSettled([startEmbedded({ dataDir }), startEmbedded({ dataDir })]);
  const [won] = contenders.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
  expect(contenders.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
  expect(await ask(won?.url ?? "", "select count(*)::int as n from kept")).toEqual([{ n: 1000 }]);
  expect(new URL(won?.url ?? "").password).toBe(new URL(first.url).password);
  expect((await stat(join(dataDir, "password"))).mode & 0o777).toBe(0o600);
  await won?.close();
  expect((await readdir(dataDir)).toSorted()).toEqual(["data", "password"]);
});

test("a first start that was interrupted is repeated", { timeout: 60_000 }, async () => {
  const dataDir = join(root, "cut");
  await mkdir(join(dataDir, "data"), { recursive: true });
  await writeFile(join(dataDir, "initializing"), "");
  await writeFile(join(dataDir, "data", "PG_VERSION"), "18\n");
  await using again = await startEmbedded({ dataDir });
  expect(await ask(again.url, "select 1 as one")).toEqual([{ one: 1 }]);
  expect(await readFile(join(dataDir, "lock.json"), "utf8")).toContain(`"port":${again.port}`);
});

test("after a crash the engine restarts on the same port, with the committed data", { timeout: 60_000 }, async () => {
  const warned = Promise.withResolvers<string>();
  await using db = await startEmbedded({
    dataDir: "memory",
    log: (level, message) => level === "warn" && warned.resolve(message),
  });
  await ask(db.url, "create table kept as select 1 as n");
  // PGlite has no conversion to LATIN1 and stops if it needs one.
  await expect(ask(db.url, "set client_encoding = 'LATIN1'; select chr(252)")).rejects.toThrow(/stopped in the middle/);
  expect(await warned.promise).toContain("restarting the built-in Postgres");
  await db.dump();
  expect(await ask(db.url, "select n from kept")).toEqual([{ n: 1 }]);
});
