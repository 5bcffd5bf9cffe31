// What doctor reports of tenants' logins: what the session guard cannot do or has done, and what a superuser has to close.
import type pg from "pg";
import { bad, off, ok, type Finding } from "./finding.ts";

/** Rights of Postgres's own that migrate, without a superuser, could not revoke. */
export async function serverRights(client: pg.Client): Promise<Finding> {
  const { rows } = await client.query<{ object: string; kind: string }>(
    "select object, kind from brainops_internal.open_server_rights()",
  );
  if (rows.length === 0) return ok("server rights", "tenants cannot write large objects, nor lock pg_settings");
  const statements = rows.map(({ object, kind }) =>
    kind === "function" ? `revoke execute on function ${object} from public` : `revoke update on ${object} from public`,
  );
  return off("server rights", `tenants can fill the disk; as a superuser: ${statements.join("; ")}`);
}

/** Logins whose sessions the guard may not end, and logins that changed their own time limits. */
export async function logins(client: pg.Client): Promise<Finding[]> {
  const { rows } = await client.query<{ login: string; exists: boolean; guarded: boolean; limited: boolean }>(
    `select
       l.login,
       r.oid is not null as exists,
       coalesce(pg_has_role('brainops_system', r.oid, 'usage'), false) as guarded,
       coalesce(r.rolconfig @> array['statement_timeout=60s', 'idle_in_transaction_session_timeout=60s'], false)
         and r.rolconnlimit >= 0 as limited
     from brainops.tenant_logins as l
     left join pg_roles as r on r.rolname = l.login
     order by l.login`,
  );
  const findings = rows.flatMap(({ login, exists, guarded, limited }): Finding[] => {
    if (!exists) return [off("logins", `${login} does not exist; delete its row in brainops.tenant_logins`)];
    const changed = off(
      "logins",
      `${login} has other limits than brainops.create_login gives; the session guard still applies`,
    );
    const unguarded = bad(
      "logins",
      `the session guard cannot end sessions of ${login}; as its creator or a superuser: grant "${login}" to brainops_system`,
    );
    if (!guarded) return [unguarded];
    return limited ? [] : [changed];
  });
  return findings.length === 0 ? [ok("logins", `the session guard can end sessions of all ${rows.length}`)] : findings;
}

/** What the session guard did within a day. */
export async function sessions(client: pg.Client): Promise<Finding[]> {
  const { rows } = await client.query<{ login: string; reason: string; count: number; last: Date }>(
    `select login, reason, count(*)::int as count, max(at) as last
     from brainops.session_events where at > now() - interval '1 day'
     group by login, reason order by login, reason`,
  );
  if (rows.length === 0) return [ok("ended sessions", "none within a day")];
  return rows.map(({ login, reason, count, last }) =>
    off(
      "ended sessions",
      `${login}: ${count} within a day (${reason}), the last ${last.toISOString()}; see brainops.session_events`,
    ),
  );
}
