// Time limits of our connections to Postgres, in one place. Each connection has limits of the server that are shorter
// than the client's own: lock < statement < query. So the server always ends a statement first, and answers. If the
// client gave up first, it would close its socket while the server's backend went on waiting, and each retry would add
// another backend.

export interface Limits {
  /** lock_timeout: how long a statement waits for one lock. */
  readonly lockMs: number;
  /** statement_timeout. 0: none. */
  readonly statementMs: number;
  /** How long the client waits for an answer, until it takes the connection for dead. 0: without end. */
  readonly queryMs: number;
  /** idle_in_transaction_session_timeout. 0: none. */
  readonly idleInTransactionMs: number;
}

export const limits = {
  /**
   * The engine's statements take milliseconds. The lock limit is longer than deadlock_timeout (1 s by default), so that
   * a deadlock is reported as one.
   */
  engine: { lockMs: 2000, statementMs: 6000, queryMs: 8000, idleInTransactionMs: 8000 },
  /** graphile-worker's own statements. They share few connections, so none waits long for a lock. */
  runner: { lockMs: 500, statementMs: 6000, queryMs: 8000, idleInTransactionMs: 8000 },
  /** Tasks: maintenance, events, scores. They work in steps, each of which has to stay below this. */
  task: { lockMs: 2000, statementMs: 50_000, queryMs: 60_000, idleInTransactionMs: 60_000 },
  liveness: { lockMs: 2000, statementMs: 8000, queryMs: 10_000, idleInTransactionMs: 10_000 },
  http: { lockMs: 2000, statementMs: 8000, queryMs: 10_000, idleInTransactionMs: 10_000 },
  /** The check of the release at the start. */
  start: { lockMs: 2000, statementMs: 4000, queryMs: 5000, idleInTransactionMs: 5000 },
  /** Questions of a health check: no answer is an answer, too. */
  probe: { lockMs: 300, statementMs: 800, queryMs: 1000, idleInTransactionMs: 1000 },
  /** Commands that a person waits for. */
  command: { lockMs: 10_000, statementMs: 55_000, queryMs: 60_000, idleInTransactionMs: 60_000 },
  /** Migrations: an index may take hours to build, and one migrator waits while another connection works. */
  migration: { lockMs: 5000, statementMs: 0, queryMs: 0, idleInTransactionMs: 0 },
} as const satisfies Record<string, Limits>;

// How often a backend that runs or waits looks whether its client is still there. So that of a killed process ends,
// too, and one whose client gave up although the server's limits are shorter (a lost network route).
const CONNECTION_CHECK_MS = 1000;
// The statements of a pipelined transaction are sent together; each may take up to its limit, and the client waits for
// all of them. Postgres 17 and later end the transaction before the client gives up.
const BEFORE_CLIENT_MS = 500;

/** Settings of a connection with these limits, by name. Settings that the server does not have are left out when set. */
export function settingsOf(of: Limits, pipeline = false): Record<string, string> {
  const { lockMs, statementMs, queryMs, idleInTransactionMs } = of;
  return {
    lock_timeout: String(lockMs),
    statement_timeout: String(statementMs),
    idle_in_transaction_session_timeout: String(idleInTransactionMs),
    client_connection_check_interval: String(CONNECTION_CHECK_MS),
    transaction_timeout: pipeline && queryMs > 0 ? String(queryMs - BEFORE_CLIENT_MS) : "0",
  };
}
