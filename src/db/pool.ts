// Connections to Postgres. Handles a case that node-postgres leaves open: a query that times out on a dead network
// leaves its client in the pool, which hands the same dead client out again (node-postgres #3399, #2973); so the client
// destroys its own socket.
import pg from "pg";

// bigint values (counts, amounts) arrive as numbers.
const int8 = 20;

/** A client that takes itself out of use when a query times out, instead of serving the next one. */
class SelfDestroyingClient extends pg.Client {
  constructor(config?: string | pg.ClientConfig) {
    super(config);
    this.on("error", () => {
      // Without a listener a lost connection would end the process; the pool drops the client.
    });
    const query = this.query.bind(this) as (...args: unknown[]) => unknown;
    const watch = (outcome: unknown): unknown => {
      if (outcome instanceof Promise) {
        outcome.catch((error: unknown) => this.#destroyIfTimedOut(error));
      }
      return outcome;
    };
    Object.defineProperty(this, "query", {
      value: (...args: unknown[]) => {
        const last = args.at(-1);
        if (typeof last === "function") {
          const callback = last as (error: unknown, ...rest: unknown[]) => void;
          args[args.length - 1] = (error: unknown, ...rest: unknown[]): void => {
            this.#destroyIfTimedOut(error);
            callback(error, ...rest);
          };
        }
        return watch(query(...args));
      },
    });
  }

  #destroyIfTimedOut(error: unknown): void {
    if (error instanceof Error && error.message === "Query read timeout") {
      const { connection } = this as unknown as { connection: { stream: { destroy(): void } } };
      connection.stream.destroy();
    }
  }
}

export interface PoolOptions {
  readonly connectionString: string;
  /** @default 10 */
  readonly max?: number;
  /** Shown in pg_stat_activity. */
  readonly applicationName: string;
  /** A query that takes longer fails, and its connection is closed. @default 60,000 ms */
  readonly queryTimeoutMs?: number;
  /** Role to become on each new connection. */
  readonly role?: string;
  /** Settings of each new connection. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Send statements of a transaction without waiting for each answer. @default false */
  readonly pipeline?: boolean;
}

/** A pool that closes a client after a timeout or a lost connection. End it with `pool.end()`. */
export function createPool(options: PoolOptions): pg.Pool {
  const pool = new pg.Pool({
    connectionString: options.connectionString,
    max: options.max ?? 10,
    application_name: options.applicationName,
    query_timeout: options.queryTimeoutMs ?? 60_000,
    connectionTimeoutMillis: 10_000,
    // Short, so that only few dead clients remain after a network route was lost.
    idleTimeoutMillis: 5_000,
    keepAlive: true,
    Client: SelfDestroyingClient,
    pipeline: options.pipeline ?? false,
    types: { getTypeParser: (oid, format) => (oid === int8 ? Number : pg.types.getTypeParser(oid, format)) },
    onConnect: async (client) => {
      if (options.role !== undefined) await client.query(`set role ${pg.escapeIdentifier(options.role)}`);
      for (const [name, value] of Object.entries(options.settings ?? {})) {
        await client.query("select set_config($1, $2, false)", [name, value]);
      }
    },
  } as pg.PoolConfig);
  pool.on("error", () => {
    // An idle connection was lost; the next query opens another.
  });
  // graphile-worker looks for this listener; the client's own one is in its constructor.
  pool.on("connect", () => {});
  return pool;
}

const CONNECTION_LOST = new Set([
  "57P01", // admin shutdown
  "57P02", // crash shutdown
  "57P03", // cannot connect now
  "57P05", // idle session timeout
  "25P03", // idle in transaction session timeout
  "53300", // too many connections
  "08000",
  "08003",
  "08006",
  "08001",
  "08004",
  "ECONNRESET",
  "ECONNREFUSED",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
]);

/** Whether Postgres was unreachable: the statement may be retried once it is back. */
export function isConnectionLost(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ("code" in error && typeof error.code === "string") return CONNECTION_LOST.has(error.code);
  if (error instanceof AggregateError) return error.errors.some(isConnectionLost);
  return /^(Connection terminated|Query read timeout|timeout exceeded when trying to connect|Client has encountered a connection error|Client was closed)/.test(
    error.message,
  );
}

const TRANSIENT = new Set([
  "40001", // serialization failure
  "40P01", // deadlock
  "25006", // read only: the old primary after a failover
  "53100", // disk full
  "53200", // out of memory
  "55P03", // lock timeout
  "57014", // statement timeout
]);

/** Whether the error is transient: the same transaction may succeed when it is retried. */
export function isTransient(error: unknown): boolean {
  if (isConnectionLost(error)) return true;
  return error instanceof Error && "code" in error && typeof error.code === "string" && TRANSIENT.has(error.code);
}
