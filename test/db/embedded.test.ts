// The wire protocol of the built-in Postgres: with several real clients at once, and with raw messages if their order
// matters.
import { execFile } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { promisify } from "node:util";
import { Logger, run, runMigrations } from "graphile-worker";
import { Client, Pool, type ClientConfig, type Notification } from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { startEmbedded, type Embedded } from "../../src/db/embedded/index.ts";
import { FairLock } from "../../src/db/embedded/lock.ts";
import { encode, errorFields, FrameReader, int32, query, sync, typeOf } from "../../src/db/embedded/messages.ts";

const execute = promisify(execFile);
const hasPsql = await execute("psql", ["--version"]).then(
  () => true,
  () => false,
);

let db: Embedded;
const opened: Client[] = [];

beforeAll(async () => {
  db = await startEmbedded({ dataDir: "memory", auth: "trust", idleInTransactionMs: 400 });
}, 60_000);

afterEach(async () => {
  await Promise.all(opened.splice(0).map((each) => each.end().catch(() => undefined)));
});

afterAll(async () => {
  await db.close();
});

async function client(options: ClientConfig = {}): Promise<Client> {
  const made = new Client({ host: "127.0.0.1", port: db.port, user: "postgres", database: "postgres", ...options });
  made.on("error", () => undefined);
  await made.connect();
  opened.push(made);
  return made;
}

async function scalar(from: Client, sql: string, values: unknown[] = []): Promise<unknown> {
  const { rows } = await from.query<unknown[]>({ text: sql, values, rowMode: "array" });
  return rows[0]?.[0];
}

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

describe("batches", () => {
  test("two transactions do not mix: the second waits for the first", async () => {
    const [one, two] = [await client(), await client()];
    await one.query("create table turns (who text)");
    await one.query("begin");
    await one.query("insert into turns values ('one')");
    const waiting = two.query("insert into turns values ('two')");
    await one.query("insert into turns values ('one again')");
    await one.query("rollback");
    await waiting;
    expect((await one.query("select who from turns")).rows).toEqual([{ who: "two" }]);
  });

  test("the lock is granted in the order of requests", async () => {
    const lock = new FairLock();
    const order: number[] = [];
    const first = await lock.acquire();
    const cancelled = new AbortController();
    const waiting = [1, 2, 3].map((n) => lock.run(async () => void order.push(n)));
    const given = lock.acquire(cancelled.signal);
    cancelled.abort(new Error("given up"));
    await expect(given).rejects.toThrow("given up");
    waiting.push(lock.run(async () => void order.push(4)));
    first();
    first();
    await Promise.all(waiting);
    expect(order).toEqual([1, 2, 3, 4]);
  });

  test("an error skips the rest of the batch, and the connection stays usable", async () => {
    const one = await client();
    await expect(one.query("select $1::int / 0", [1])).rejects.toEqual(code("22012"));
    expect(await scalar(one, "select 1")).toBe(1);
    await expect(one.query("select 1; select 1 / 0; create table never ()")).rejects.toEqual(code("22012"));
    expect(await scalar(one, "select to_regclass('never')")).toBeNull();
  });

  test("infinite recursion is an error, not a crash", async () => {
    const one = await client();
    await one.query(
      "create function forever(n int) returns int language plpgsql as 'begin return forever(n + 1); end'",
    );
    await expect(one.query("select forever(1)")).rejects.toEqual(code("54001"));
    expect(await scalar(one, "select 1")).toBe(1);
  });

  test("a large result and a large parameter arrive whole", async () => {
    const one = await client();
    const text = "é".repeat(3_000_000);
    expect(await scalar(one, "select $1::text", [text])).toBe(text);
    const { rows } = await one.query("select n, repeat('x', 100) from generate_series(1, 50000) as n");
    expect(rows).toHaveLength(50_000);
  });

  test("a waiting query can be cancelled", async () => {
    const holder = await client();
    await using raw = await RawClient.login();
    await holder.query("begin");
    raw.send(query("select 1"));
    const answer = raw.until("Z").then(errorOf);
    // Repeated until it takes effect: a cancel that arrives before the query does nothing, as in Postgres.
    let outcome: string | null | undefined = null;
    while (outcome === null) outcome = await Promise.race([answer, cancel(raw).then(() => null)]);
    expect(outcome).toBe("57014");
    await holder.query("rollback");
    raw.send(query("select 1"));
    expect(types(await raw.until("Z"))).toBe("TDCZ");
  });

  test("an idle transaction is ended, and other connections continue", async () => {
    const [idle, other] = [await client(), await client()];
    const ended = once(idle, "error");
    await idle.query("begin; create table abandoned ()");
    const waiting = scalar(other, "select to_regclass('abandoned')");
    expect((await ended)[0]).toEqual(code("25P03"));
    expect(await waiting).toBeNull();
  });

  test("the transaction of a killed client is rolled back", async () => {
    const [other, raw] = [await client(), await RawClient.login()];
    raw.send(query("begin; create table killed ()"));
    await raw.until("Z");
    const waiting = scalar(other, "select to_regclass('killed')");
    raw.reset();
    expect(await waiting).toBeNull();
  });

  test("malformed messages affect only their own connection", async () => {
    const one = await client();
    await using raw = await RawClient.login();
    for (const broken of [
      encode("B", "no zero"),
      encode("P", "x"),
      encode("D", "?x\0"),
      encode("Q", "select 1"),
      encode("F"),
    ]) {
      raw.send(broken, ...("QF".includes(typeOf(broken)) ? [] : [sync]));
      expect(errorOf(await raw.until("Z"))).toMatch(/^(?:08P01|26000|34000)$/);
    }
    raw.send(Buffer.from([1, 0, 0, 0, 4]));
    expect(errorOf(await raw.until("E"))).toBe("08P01");
    await using huge = await RawClient.login();
    huge.send(Buffer.concat([Buffer.from("Q"), int32(2 ** 30)]));
    expect(errorOf(await huge.until("E"))).toBe("08P01");
    expect(await scalar(one, "select 1")).toBe(1);
  });
});

describe("prepared statements", () => {
  test("the same name on two connections is two statements", async () => {
    const [one, two] = [await client(), await client()];
    for (let round = 0; round < 2; round++) {
      expect((await one.query({ name: "same", text: "select 'one' as who" })).rows).toEqual([{ who: "one" }]);
      expect((await two.query({ name: "same", text: "select 'two' as who" })).rows).toEqual([{ who: "two" }]);
    }
  });

  test("names that differ only after 63 bytes are two statements", async () => {
    await using one = await RawClient.login();
    const name = "n".repeat(80);
    one.send(parse(`${name}1`, "select 1"), parse(`${name}2`, "select 2"), bind(`${name}1`), executePortal, sync);
    expect(types(await one.until("Z"))).toBe("112DCZ");
  });

  test("the unnamed statement survives the batches of others", async () => {
    await using one = await RawClient.login();
    await using two = await RawClient.login();
    one.send(parse("", "select 'one'"), sync);
    expect(types(await one.until("Z"))).toBe("1Z");
    two.send(parse("", "select 'two'"), sync);
    await two.until("Z");
    one.send(bind(""), executePortal, sync);
    const answer = await one.until("Z");
    expect(types(answer)).toBe("2DCZ");
    expect(answer[1]?.toString()).toContain("one");
    two.send(describeStatement(""), bind(""), executePortal, sync);
    expect(types(await two.until("Z"))).toBe("tT2DCZ");
  });

  test("a simple query drops the unnamed statement, as in Postgres", async () => {
    await using one = await RawClient.login();
    one.send(parse("", "select 1"), sync, query("select 2"), bind(""), sync);
    await one.until("Z");
    await one.until("Z");
    expect(errorOf(await one.until("Z"))).toBe("26000");
  });

  test("Flush responds at once and keeps the session until Sync", async () => {
    const other = await client();
    await using one = await RawClient.login();
    one.send(parse("s", "select 1"), describeStatement("s"), encode("H"));
    expect(types(await one.until("T"))).toBe("1tT");
    let ran = false;
    const waiting = other.query("select 1").then(() => (ran = true));
    one.send(bind("s"), executePortal, encode("H"));
    expect(types(await one.until("C"))).toBe("2DC");
    expect(ran).toBe(false);
    one.send(sync);
    await one.until("Z");
    await waiting;
  });

  test("DISCARD ALL, DEALLOCATE ALL and DEALLOCATE of one connection do not affect the others", async () => {
    const one = await client({ application_name: "one" });
    const prepared = { name: "kept", text: "select current_setting('application_name') as name" };
    await one.query(prepared);
    for (const sql of ["discard all", "deallocate all", "deallocate kept"]) {
      const other = await client();
      await other.query({ name: "kept", text: "select 2" });
      await other.query(sql);
      expect((await one.query(prepared)).rows).toEqual([{ name: "one" }]);
      await expect(other.query({ name: "kept", text: "select 2" })).rejects.toEqual(code("26000"));
    }
    const two = await client();
    const id = await scalar(two, "select current_setting('brainops.connection_id')");
    await two.query("discard all");
    expect(await scalar(two, "select current_setting('brainops.connection_id')")).toBe(id);
  });

  test("a statement that failed to parse can be parsed again with its name", async () => {
    await using one = await RawClient.login();
    one.send(parse("p", "selec 1"), sync);
    expect(errorOf(await one.until("Z"))).toBe("42601");
    one.send(parse("p", "select 1"), sync, bind("p"), executePortal, sync);
    expect(types(await one.until("Z"))).toBe("1Z");
    expect(types(await one.until("Z"))).toBe("2DCZ");
  });
});

describe("settings", () => {
  test("each connection keeps its own, including custom ones and those set in functions", async () => {
    const [one, two] = [await client(), await client()];
    await one.query(`
      create function hide() returns void language plpgsql as
      $$ begin perform set_config('hidden.' || 'tenant', 'one', false); end $$
    `);
    await one.query(
      "select hide(); set app.tenant_id = 'one'; set search_path = pg_catalog; set timezone = 'Asia/Tokyo'",
    );
    await two.query("set app.tenant_id = 'two'");
    const settings = `
      select
        coalesce(current_setting('hidden.tenant', true), '') as hidden, current_setting('app.tenant_id', true) as tenant,
        current_setting('search_path') as path, current_setting('timezone') as zone
    `;
    const mine = { hidden: "one", tenant: "one", path: "pg_catalog", zone: "Asia/Tokyo" };
    expect((await one.query(settings)).rows).toEqual([mine]);
    expect((await two.query(settings)).rows).toMatchObject([{ hidden: "", tenant: "two", path: '"$user", public' }]);
    expect((await one.query(settings)).rows).toEqual([mine]);
    expect(await scalar(await client(), "select nullif(current_setting('app.tenant_id', true), '')")).toBeNull();
  });

  test("SET LOCAL and a rolled back SET are undone", async () => {
    const [one, two] = [await client(), await client()];
    await one.query("begin; set local app.local = '1'; set app.rolled = '1'; rollback");
    await two.query("select 1");
    expect(
      await scalar(one, "select concat(current_setting('app.local', true), current_setting('app.rolled', true))"),
    ).toBe("");
  });

  test("a quote and a backslash survive a switch of connections, with any standard_conforming_strings", async () => {
    const [one, two] = [await client(), await client()];
    const value = String.raw`it's a \ "thing" ü`;
    await one.query("select set_config('app.text', $1, false)", [value]);
    await one.query("set standard_conforming_strings = off");
    await two.query("select 1");
    expect(await scalar(one, "select current_setting('app.text')")).toBe(value);
  });

  test("an encoding that PGlite cannot convert ends the connection that requests it", async () => {
    const [one, two] = [await client(), await client()];
    await expect(one.query("set client_encoding = 'LATIN1'")).rejects.toEqual(code("0A000"));
    await expect(RawClient.login("client_encoding\0LATIN1\0")).rejects.toThrow("ended after E");
    expect(await scalar(two, "select 'ü'")).toBe("ü");
  });

  test("RESET restores the settings of the startup message", async () => {
    const one = await client({ options: "-c app.tenant_id=t1 -c work_mem=5MB", application_name: "starter" });
    const all =
      "select current_setting('app.tenant_id') || current_setting('work_mem') || current_setting('application_name')";
    expect(await scalar(one, all)).toBe("t15MBstarter");
    await one.query("set app.tenant_id = 't2'");
    await one.query("reset all");
    expect(await scalar(one, all)).toBe("t15MBstarter");
    await expect(client({ options: "-c no_such_setting=1" })).rejects.toEqual(code("42704"));
  });

  test("a client is notified of its own changed parameters only", async () => {
    const [one, two] = [await RawClient.login(), await client()];
    one.send(query("set timezone = 'Asia/Tokyo'"));
    expect(types(await one.until("Z"))).toBe("CSZ");
    await two.query("select 1");
    one.send(query("select 1"));
    expect(types(await one.until("Z"))).toBe("TDCZ");
    one.close();
  });
});

describe("LISTEN", () => {
  const channels = async (from: Client, sql: string): Promise<string[]> => {
    const received: string[] = [];
    from.on("notification", (message: Notification) => received.push(`${message.channel}:${message.payload ?? ""}`));
    await from.query(sql);
    return received;
  };

  test("a notification reaches all listeners, after the commit", async () => {
    const [one, two, sender] = [await client(), await client(), await client()];
    const received = [await channels(one, 'listen "a:b"; listen c'), await channels(two, "listen C")];
    await sender.query("begin; notify c, '1'");
    const arrived = once(two, "notification");
    await sender.query(`select pg_notify('a:b', '2')`);
    expect(received).toEqual([[], []]);
    await sender.query("commit");
    await arrived;
    await one.query("select 1");
    expect(received).toEqual([["c:1", "a:b:2"], ["c:1"]]);
  });

  test("LISTEN takes effect at its commit; UNLISTEN and a disconnect do not affect other listeners", async () => {
    const [one, two, three, sender] = [await client(), await client(), await client(), await client()];
    const received = await channels(one, "listen z");
    const left = await channels(two, "begin; listen z; rollback");
    await three.query("listen z");
    await three.end();
    await two.query("listen y");
    await two.query("unlisten *");
    await sender.query("notify z, '1'");
    await one.query("select 1");
    await two.query("select 1");
    expect([received, left]).toEqual([["z:1"], []]);
    expect(await scalar(sender, "select array_agg(c) from pg_listening_channels() as c")).toEqual(["z"]);
  });

  test("a client receives its own notifications", async () => {
    const one = await client();
    const received = await channels(one, "listen own");
    await one.query("notify own, 'x'");
    expect(received).toEqual(["own:x"]);
  });
});

describe("COPY", () => {
  test.skipIf(!hasPsql)("psql copies in and out, in a transaction and outside", async () => {
    const script = [
      "create table copied (a int, b text);",
      "copy copied from stdin;",
      "1\tx",
      "\\.",
      "begin;",
      "copy copied from stdin;",
      "2\ty",
      "\\.",
      "rollback;",
      "copy copied (a) from stdin;",
      "wrong",
      "\\.",
      "copy copied to stdout;",
    ].join("\n");
    const { stdout, stderr } = await psql(script);
    expect(stdout).toBe("CREATE TABLE\nCOPY 1\nBEGIN\nCOPY 1\nROLLBACK\n1\tx\n");
    expect(stderr).toContain('invalid input syntax for type integer: "wrong"');
  });

  test("COPY FROM STDIN that cannot receive data is refused, not fatal", async () => {
    const one = await client();
    await one.query("create table uncopied (a int)");
    await expect(one.query("copy uncopied from stdin")).rejects.toEqual(code("57014"));
    await using raw = await RawClient.login();
    raw.send(parse("", "copy uncopied from stdin"), bind(""), executePortal, sync);
    expect(errorOf(await raw.until("Z"))).toBe("0A000");
    raw.send(query("select 1; copy uncopied from stdin"));
    expect(errorOf(await raw.until("Z"))).toBe("0A000");
    expect(await scalar(one, "select 1")).toBe(1);
  });
});

describe("clients", () => {
  test("graphile-worker runs jobs while others insert and query", async () => {
    const logger = new Logger(() => () => undefined);
    const total = 60;
    await runMigrations({ connectionString: db.url, logger });
    const done = Promise.withResolvers<void>();
    const seen = new Set<number>();
    const taskList = {
      count: async (payload: unknown): Promise<void> => {
        if (typeof payload === "object" && payload !== null && "n" in payload) seen.add(Number(payload.n));
        if (seen.size === total) done.resolve();
      },
    };
    const runner = await run({ connectionString: db.url, concurrency: 3, noHandleSignals: true, logger, taskList });
    const pool = new Pool({ connectionString: db.url, max: 3 });
    const insert = "select graphile_worker.add_job('count', json_build_object('n', $1::int))";
    await Promise.all(Array.from({ length: total }, (_, n) => pool.query(insert, [n])));
    await done.promise;
    await pool.end();
    await runner.stop();
    expect(seen.size).toBe(total);
  });

  test.skipIf(!hasPsql)("psql describes a table", async () => {
    const { stdout } = await psql("create table described (id int primary key);\n\\d described\n\\conninfo");
    expect(stdout).toContain("described_pkey");
    expect(stdout).toContain('as user "postgres"');
  });

  test("the extension vector is available", async () => {
    const one = await client();
    await one.query("create extension vector");
    expect(await scalar(one, "select '[1,2]'::vector <-> '[4,6]'::vector")).toBe(5);
  });

  test("a dump can start another instance", async () => {
    const one = await client();
    await one.query("create table dumped as select 42 as n");
    await using copy = await startEmbedded({ dataDir: "memory", auth: "trust", loadDataDir: await db.dump() });
    const there = new Client(copy.url);
    await there.connect();
    expect(await scalar(there, "select n from dumped")).toBe(42);
    await there.end();
  });
});

/** psql with a script on its input. */
async function psql(script: string): Promise<{ stdout: string; stderr: string }> {
  const running = execute("psql", [db.url, "--no-psqlrc"]);
  running.child.stdin?.end(script);
  return await running;
}

const parse = (name: string, sql: string): Buffer => encode("P", `${name}\0${sql}\0\0\0`);
const bind = (statement: string): Buffer => encode("B", `\0${statement}\0\0\0\0\0\0\0`);
const describeStatement = (name: string): Buffer => encode("D", `S${name}\0`);
const executePortal = encode("E", "\0", int32(0));
const types = (answer: readonly Buffer[]): string => answer.map(typeOf).join("");

function errorOf(answer: readonly Buffer[]): string | undefined {
  const error = answer.find((frame) => typeOf(frame) === "E");
  return error === undefined ? undefined : errorFields(error).code;
}

async function cancel(target: RawClient): Promise<void> {
  const socket = connect(db.port, "127.0.0.1");
  socket.write(int32(16, 80_877_102, target.pid, target.secret));
  socket.resume();
  await once(socket, "close");
}

/** A client that sends exactly the given frames. */
class RawClient implements AsyncDisposable {
  pid = 0;
  secret = 0;
  readonly #socket: Socket;
  readonly #reader = new FrameReader();
  #arrived = Promise.withResolvers<void>();

  private constructor(socket: Socket) {
    this.#socket = socket;
    const wake = (): void => {
      this.#arrived.resolve();
      this.#arrived = Promise.withResolvers();
    };
    socket.on("data", (chunk: Buffer) => {
      this.#reader.push(chunk);
      wake();
    });
    socket.on("error", () => undefined);
    socket.on("close", wake);
  }

  /** `settings` are name and value, each with its terminating zero. */
  static async login(settings = ""): Promise<RawClient> {
    const raw = new RawClient(connect(db.port, "127.0.0.1"));
    const body = Buffer.from(`user\0postgres\0${settings}\0`);
    raw.send(Buffer.concat([int32(body.length + 8, 196_608), body]));
    const key = (await raw.until("Z")).find((frame) => typeOf(frame) === "K");
    raw.pid = key?.readInt32BE(5) ?? 0;
    raw.secret = key?.readInt32BE(9) ?? 0;
    return raw;
  }

  send(...frames: readonly Buffer[]): void {
    this.#socket.write(Buffer.concat(frames));
  }

  /** The frames up to the next one of `type`. */
  async until(type: string): Promise<Buffer[]> {
    const answer: Buffer[] = [];
    for (;;) {
      const frame = this.#reader.next(true, 2 ** 30);
      if (frame === null) {
        if (this.#socket.destroyed) throw new Error(`the connection ended after ${types(answer)}`);
        await this.#arrived.promise;
        continue;
      }
      answer.push(frame);
      if (typeOf(frame) === type) return answer;
    }
  }

  reset(): void {
    this.#socket.resetAndDestroy();
  }

  close(): void {
    this.#socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}
