// Connections to Postgres. Handles a case that node-postgres leaves open: a query that times out on a dead network
// leaves its client in the pool, which hands the same dead client out again (node-postgres #3399, #2973); so the client
// destroys its own socket.
import pg from "pg";
import { codeOf } from "../errors.ts";
import { limits, settingsOf, type Limits } from "./limits.ts";

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
      configurable: true,
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

function clientWith(around: NonNullable<PoolOptions["around"]>): typeof pg.Client {
  return class extends SelfDestroyingClient {
    constructor(config?: string | pg.ClientConfig) {
      super(config);
      const query = this.query.bind(this) as (...args: unknown[]) => unknown;
      Object.defineProperty(this, "query", {
        value: (...args: unknown[]) =>
          typeof args.at(-1) === "function"
            ? query(...args)
            : around(args[0], () => query(...args) as Promise<pg.QueryResult>),
      });
    }
  };
}

export interface ConnectionOptions {
  readonly connectionString: string;
  /** Shown in pg_stat_activity. */
  readonly applicationName: string;
  /** @default limits.task */
  readonly limits?: Limits;
  /** Settings of each new connection. */
  readonly settings?: Readonly<Record<string, string>>;
}

export interface PoolOptions extends ConnectionOptions {
  /** @default 10 */
  readonly max?: number;
  /** Role to become on each new connection. */
  readonly role?: string;
  /** Send statements of a transaction without waiting for each answer. @default false */
  readonly pipeline?: boolean;
  /** Sends a query that came without a callback, and may answer in place of Postgres. @default (_query, send) => send() */
  readonly around?: (query: unknown, send: () => Promise<pg.QueryResult>) => Promise<pg.QueryResult>;
}

/** A pool that closes a client after a timeout or a lost connection. End it with `pool.end()`. */
export function createPool(options: PoolOptions): pg.Pool {
  const { pipeline = false, around } = options;
  const settings = { ...settingsOf(options.limits ?? limits.task, pipeline), ...options.settings };
  const pool = new pg.Pool({
    ...configOf(options),
    max: options.max ?? 10,
    connectionTimeoutMillis: 10_000,
    // Short, so that only few dead clients remain after a network route was lost.
    idleTimeoutMillis: 5_000,
    Client: around === undefined ? SelfDestroyingClient : clientWith(around),
    pipeline,
    types: { getTypeParser: (oid, format) => (oid === int8 ? Number : pg.types.getTypeParser(oid, format)) },
    onConnect: async (client) => {
      if (options.role !== undefined) await client.query(`set role ${pg.escapeIdentifier(options.role)}`);
      await apply(client, settings);
    },
  } as pg.PoolConfig);
  pool.on("error", () => {
    // An idle connection was lost; the next query opens another.
  });
  // graphile-worker looks for this listener; the client's own one is in its constructor.
  pool.on("connect", () => {});
  return pool;
}

/** Opens one connection. Throws node-postgres's error if that takes longer than 5 s. End it with `client.end()`. */
export async function openClient(options: ConnectionOptions): Promise<pg.Client> {
  const client = new SelfDestroyingClient({ ...configOf(options), connectionTimeoutMillis: 5000 });
  try {
    await client.connect();
    await apply(client, { ...settingsOf(options.limits ?? limits.task), ...options.settings });
    return client;
  } catch (error) {
    await client.end().catch(() => {});
    throw error;
  }
}

function configOf({
  connectionString,
  applicationName,
  limits: { queryMs } = limits.task,
}: ConnectionOptions): pg.ClientConfig {
  return {
    connectionString,
    application_name: applicationName,
    ...(queryMs > 0 && { query_timeout: queryMs }),
    keepAlive: true,
  };
}

// Set after connecting, not as startup parameters: poolers such as PgBouncer refuse those that they do not know. The
// role is set before, because a login may have limits of its own, which begin with its session.
async function apply(client: pg.ClientBase, settings: Readonly<Record<string, string>>): Promise<void> {
  const set = (some: Readonly<Record<string, string>>): Promise<unknown> =>
    client.query(
      `select set_config(name, value, false)
       from unnest($1::text[], $2::text[]) as s (name, value)
       where current_setting(name, true) is not null`,
      [Object.keys(some), Object.values(some)],
    );
  try {
    await set(settings);
  } catch (error) {
    // Servers on some systems cannot watch their clients' sockets, and refuse any other value than 0.
    if (codeOf(error) !== "22023") throw error;
    await set({ ...settings, client_connection_check_interval: "0" });
  }
}

const CONNECTION_LOST = new Set([
  "57P01", // admin shutdown
  "57P02", // crash shutdown
  "57P03", // cannot connect now
  "57P05", // idle session timeout
  "25P03", // idle in transaction session timeout
  "25P04", // transaction timeout
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

/**
 * Whether a statement ran into the server's time limit for locks or for statements. Its transaction was rolled back.
 */
export function isTimeLimit(error: unknown): boolean {
  const code = codeOf(error);
  return code === "55P03" || code === "57014";
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
