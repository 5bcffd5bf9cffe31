// The built-in Postgres: PGlite behind the Postgres wire protocol, on loopback. README.md describes its design and
// its limits.
import { Worker } from "node:worker_threads";
import type { AuthMethod } from "./authenticate.ts";
import type { Log } from "./server.ts";
import type { Report, Request, ThreadOptions } from "./thread.ts";

export interface EmbeddedOptions {
  /** Folder for the data, created if missing; "memory" keeps the data in memory until close. */
  readonly dataDir: string;
  /** A dump() to start from. Refused if dataDir already contains data. */
  readonly loadDataDir?: Blob;
  /** TCP port on 127.0.0.1. @default 0, any free one */
  readonly port?: number;
  /** "trust" requires no password, for tests. @default "scram" */
  readonly auth?: AuthMethod;
  /** A connection that is idle in a transaction for longer is terminated, because all others wait for it. @default 30_000 */
  readonly idleInTransactionMs?: number;
  /** @default 100 */
  readonly maxConnections?: number;
  readonly log?: Log;
}

export interface Embedded extends AsyncDisposable {
  /** Connection URL of the superuser, password included. */
  readonly url: string;
  readonly port: number;
  /** The data as a tar archive, for loadDataDir. Waits for open transactions. */
  dump(): Promise<Blob>;
  /** Terminates all connections, rolls back open transactions, and stops Postgres. */
  close(): Promise<void>;
}

/** Postgres limits recursion to 2 MB of its own stack; V8 uses several times as much of the thread's stack for that. */
const STACK_MB = 64;

/** Starts the built-in Postgres in a worker thread and resolves when it accepts connections. Restarts it after a crash. */
export async function startEmbedded(options: EmbeddedOptions): Promise<Embedded> {
  const log = options.log ?? (() => undefined);
  const first: ThreadOptions = {
    dataDir: options.dataDir === "memory" ? null : options.dataDir,
    loadDataDir: options.loadDataDir ?? null,
    password: null,
    port: options.port ?? 0,
    auth: options.auth ?? "scram",
    idleInTransactionMs: options.idleInTransactionMs ?? 30_000,
    maxConnections: options.maxConnections ?? 100,
  };
  const begin = async (thread: ThreadOptions): Promise<Running> => {
    const running = await Running.start(thread, log);
    // Like Postgres after the crash of a server process: restarts on the same port and recovers from its WAL.
    running.onCrash = (data) => {
      if (closing !== null) return;
      log("warn", "restarting the built-in Postgres");
      const password = decodeURIComponent(new URL(running.url).password);
      const loadDataDir = data === null ? null : new Blob([data]);
      current = begin({ ...thread, port: running.port, password, loadDataDir });
      current.catch((error: unknown) => log("error", `the built-in Postgres could not be restarted: ${String(error)}`));
    };
    return running;
  };
  let closing: Promise<void> | null = null;
  let current = begin(first);
  const { url, port } = await current;

  const dump = async (): Promise<Blob> => {
    const data = await (await current).ask("dump");
    return new Blob(data === null ? [] : [data]);
  };
  const close = (): Promise<void> => (closing ??= current.then((running) => running.close()));
  return { url, port, dump, close, [Symbol.asyncDispose]: close };
}

/** A worker thread that has reported ready. */
class Running {
  url = "";
  port = 0;
  onCrash: (data: ArrayBuffer | null) => void = () => undefined;
  readonly #worker: Worker;
  readonly #asked = new Map<number, PromiseWithResolvers<ArrayBuffer | null>>();
  #lastId = 0;

  private constructor(worker: Worker) {
    this.#worker = worker;
  }

  static async start(options: ThreadOptions, log: Log): Promise<Running> {
    // The extension of this file: .ts from the sources, .js from dist/.
    const entry = import.meta.url.endsWith(".ts") ? "./thread.ts" : "./thread.js";
    const worker = new Worker(new URL(entry, import.meta.url), {
      workerData: options,
      resourceLimits: { stackSizeMb: STACK_MB },
    });
    const running = new Running(worker);
    const ready = Promise.withResolvers<void>();
    worker.on("message", (report: Report) => {
      if (report.kind === "log") log(report.level, report.message);
      else if (report.kind === "failed") ready.reject(new Error(report.message));
      else if (report.kind === "ready") {
        running.url = report.url;
        running.port = report.port;
        ready.resolve();
      } else running.#onReport(report);
    });
    worker.on("error", (error) => {
      log("error", `the thread of the built-in Postgres failed: ${String(error)}`);
      ready.reject(error);
    });
    worker.on("exit", () => {
      ready.reject(new Error("the thread of the built-in Postgres ended before it was ready"));
      for (const { reject } of running.#asked.values()) reject(new Error("the built-in Postgres is not running"));
    });
    await ready.promise;
    return running;
  }

  async ask(ask: Request["ask"]): Promise<ArrayBuffer | null> {
    const id = ++this.#lastId;
    const answer = Promise.withResolvers<ArrayBuffer | null>();
    this.#asked.set(id, answer);
    this.#worker.postMessage({ id, ask } satisfies Request, []);
    return await answer.promise.finally(() => this.#asked.delete(id));
  }

  /** Stops the thread. Also works after a crash, when the thread does not answer. */
  async close(): Promise<void> {
    await this.ask("close").catch(() => undefined);
    await this.#worker.terminate();
  }

  #onReport(report: Extract<Report, { kind: "done" | "refused" | "crashed" }>): void {
    if (report.kind === "crashed") void this.#worker.terminate().then(() => this.onCrash(report.data));
    else if (report.kind === "done") this.#asked.get(report.id)?.resolve(report.data);
    else this.#asked.get(report.id)?.reject(new Error(report.message));
  }
}
