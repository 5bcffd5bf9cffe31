// PGlite's one session, and the connection whose state it has. Every call requires the lock.
import { PGlite } from "@electric-sql/pglite";
import { vector } from "@electric-sql/pglite-pgvector";
import { readAnswer, rowsOf, type Answer, type Notification } from "./answer.ts";
import { Backend, type WasmModule } from "./backend.ts";
import { FairLock } from "./lock.ts";
import { closeStatement, copyFail, FatalError, int32, PROTOCOL_3_0, query, sync } from "./messages.ts";
import { Session, stateOf, switchQuery } from "./session.ts";

export interface EngineOptions {
  /** Folder of the data, or null to keep it in memory. */
  readonly folder: string | null;
  readonly loadDataDir: Blob | null;
}

/**
 * PGlite's own start parameters, but without search_path=public (keeps Postgres' default) and without -O, which would
 * allow changes to system tables.
 */
const SETTINGS = [
  "exit_on_error=false",
  "log_checkpoints=false",
  "io_method=sync",
  "max_worker_processes=0",
  "max_parallel_workers=0",
  "max_parallel_workers_per_gather=0",
  "max_parallel_maintenance_workers=0",
];
const START_PARAMETERS = ["--single", "-F", "-j", ...SETTINGS.flatMap((setting) => ["-c", setting])];

/** Postgres stopped in the middle of a batch (out of stack or memory), so its state can't be trusted any more. */
export class EngineCrash extends Error {
  override name = "EngineCrash";
}

const SUPERUSER = { name: "postgres", oid: 10, superuser: true };
const NONE: ReadonlySet<number> = new Set();

export class Engine {
  readonly lock = new FairLock();
  readonly #pglite: PGlite;
  readonly #system = new Session(0, SUPERUSER);
  #backend: Backend | null = null;
  /** The connection whose state the session has; null if unknown. */
  #current: Session | null = null;
  /** The last ParameterStatus of every parameter. */
  readonly #reports = new Map<string, string>();

  #broken = false;
  /** Receives the notifications of the server's own queries. */
  onNotification: (notification: Notification) => void = () => undefined;

  private constructor(pglite: PGlite) {
    this.#pglite = pglite;
  }

  static async open(options: EngineOptions): Promise<Engine> {
    const engine = new Engine(
      await PGlite.create({
        ...(options.folder === null ? {} : { dataDir: options.folder }),
        ...(options.loadDataDir === null ? {} : { loadDataDir: options.loadDataDir }),
        extensions: { vector },
        startParams: START_PARAMETERS,
      }),
    );
    // Without a StartupMessage Postgres reports no ParameterStatus.
    const body = Buffer.from("user\0postgres\0database\0postgres\0\0");
    engine.#learn(readAnswer(await engine.exec(Buffer.concat([int32(body.length + 8, PROTOCOL_3_0), body])), NONE));
    const probe = async (sql: string): Promise<string | null> => (await engine.run([query(sql)])).error?.code ?? null;
    engine.#backend = await Backend.find(wasmModule(engine.#pglite), probe);
    await engine.activate(engine.#system);
    return engine;
  }

  /** Runs messages unchanged, in the session's present state, and returns the complete response. */
  async exec(messages: Buffer): Promise<Buffer> {
    if (this.#broken) throw new EngineCrash("Postgres has crashed");
    const chunks: Buffer[] = [];
    await this.#pglite.execProtocolRawStream(messages, {
      syncToFs: false,
      // Copied, because the next call overwrites the memory.
      onRawData: (chunk) => void chunks.push(Buffer.from(chunk)),
    });
    return Buffer.concat(chunks);
  }

  /**
   * Runs one batch of the active connection. Appends a CopyFail, which Postgres ignores except in a COPY FROM STDIN:
   * PGlite exits if COPY finds no data, and none can be sent before the call returns. Throws EngineCrash.
   */
  async run(batch: readonly Buffer[], repeats = NONE): Promise<Answer> {
    const last = batch.at(-1);
    const isSync = last?.[0] === SYNC;
    const raw = await this.exec(Buffer.concat(isSync ? [...batch.slice(0, -1), copyFail, last] : [...batch, copyFail]));
    const answer = readAnswer(raw, repeats);
    this.#learn(answer);
    if ((isSync || last?.[0] === QUERY) && answer.status === null) {
      this.#broken = true;
      throw new EngineCrash("Postgres stopped in the middle of a batch");
    }
    return answer;
  }

  /** Switches the session to the state of `session`. Its client must then be sent the changes in reports(). */
  async activate(session: Session): Promise<void> {
    if (this.#current === session) return;
    const backend = this.#backend;
    if (backend === null) throw new Error("the engine is not open yet");
    const settings = backend.sessionSettings();
    if (this.#current !== null) {
      this.#current.save(settings);
      this.#current.statements.unnamedLost();
    }
    this.#current = null;
    backend.authenticateAs(SUPERUSER.oid);
    const live = stateOf(settings);
    // Postgres reads queries in the client's encoding, and the query below is UTF-8.
    if (live.settings.has("client_encoding")) await this.run([query("reset client_encoding")]);
    const target = session.target();
    const { error } = await this.run([query(switchQuery(live, target))]);
    const { login } = session;
    const isLogin = target.authorization !== login.name || backend.sessionUser() === login.oid;
    if (error !== null || !isLogin) {
      throw new FatalError("57P01", "terminating connection: its session can't be restored", {
        detail: error === null ? `role "${login.name}" was dropped and re-created` : `${error.code}: ${error.message}`,
      });
    }
    backend.authenticateAs(login.oid);
    this.#current = session;
  }

  /** Forces the next activate() to restore the session, after the active connection ran RESET or DISCARD. */
  invalidate(): void {
    const session = this.#current;
    if (session === null || this.#backend === null) return;
    session.save(this.#backend.sessionSettings());
    this.#current = null;
  }

  /** The active connection's present settings. */
  settings(): ReadonlyMap<string, string> {
    return stateOf(this.#backend?.sessionSettings() ?? new Map<string, string>()).settings;
  }

  /** Whether Postgres has crashed; then every call throws EngineCrash. */
  get broken(): boolean {
    return this.#broken;
  }

  /** The last ParameterStatus of every parameter. */
  reports(): ReadonlyMap<string, string> {
    return this.#reports;
  }

  /** Runs a query of the server as the superuser. Throws a FatalError with Postgres' error. */
  async system(sql: string): Promise<(string | null)[][]> {
    await this.activate(this.#system);
    return await this.ask(sql);
  }

  /** Runs a query of the server in the active connection's session. Throws a FatalError with Postgres' error. */
  async ask(sql: string): Promise<(string | null)[][]> {
    this.#current?.statements.unnamedLost();
    const { raw, error, parts } = await this.run([query(sql)]);
    for (const part of parts) if (!Buffer.isBuffer(part)) this.onNotification(part);
    if (error !== null) throw new FatalError(error.code, error.message);
    return rowsOf(raw);
  }

  /** Closes the prepared statements of a connection that ended, and rolls back its transaction. */
  async abandon(session: Session): Promise<void> {
    const { status } = await this.run([...session.statements.names().map(closeStatement), sync]);
    if (status !== "I") await this.run([query("rollback")]);
  }

  async dump(): Promise<Blob> {
    // Without a checkpoint, the instance that loads the dump would first replay the WAL.
    await this.system("checkpoint");
    return await this.#pglite.dumpDataDir("none");
  }

  /** The files of a crashed Postgres, unchanged. */
  async salvage(): Promise<Blob> {
    return await this.#pglite.dumpDataDir("none");
  }

  async close(): Promise<void> {
    await this.#pglite.close();
  }

  #learn(answer: Answer): void {
    for (const [name, value] of answer.reports) this.#reports.set(name, value);
  }
}

const SYNC = "S".charCodeAt(0);
const QUERY = "Q".charCodeAt(0);

/** PGlite's module; its types declare only a part of its exports. */
function wasmModule(pglite: PGlite): WasmModule {
  const module: object = pglite.Module;
  if ("HEAPU8" in module && "_GetConfigOption" in module) return module as WasmModule;
  throw new Error("This build of PGlite does not export what BrainOps needs to keep connections apart.");
}
