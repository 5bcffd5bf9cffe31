// The session guard: ends sessions of tenants' logins that stop other sessions (brainops_internal.guard_sessions). It runs
// on the connection of liveness, which uses nothing that a tenant can lock.
import type pg from "pg";
import type { Log } from "../telemetry/log.ts";

interface Ended {
  readonly login: string;
  readonly tenant_id: string;
  readonly pid: number;
  readonly reason: string;
  readonly lasted: string;
  readonly blocked: readonly string[];
}

/** Ends what has to end now, and logs the sessions that no other worker logged. Throws what the query throws. */
export async function guardSessions(client: pg.Client, log: Log): Promise<void> {
  const { rows } = await client.query<Ended>(
    `select login, tenant_id, pid, reason, justify_interval(lasted)::text as lasted, blocked
     from brainops_internal.guard_sessions()`,
  );
  for (const row of rows) log.warn(row, "ended a session of a tenant's login");
}
