// What the database reports. The examinations are independent: one that fails becomes a finding, and the others still
// run.
import type pg from "pg";
import { serverComplaint } from "../../db/migrate/index.ts";
import { codeOf, messageOf } from "../../errors.ts";
import { readStalls, textOfStall } from "../../telemetry/stalls.ts";
import { placeOf, withClient } from "../database.ts";
import { duration } from "../terminal.ts";
import { bad, off, ok, type Finding } from "./finding.ts";
import { logins, serverRights, sessions } from "./sessions.ts";
import { release, schema } from "./schema.ts";

type Examination = (client: pg.Client) => Promise<Finding | Finding[]>;

export async function examineDatabase(connectionString: string): Promise<Finding[]> {
  try {
    return await withClient(connectionString, "doctor", async (client) => {
      const findings: Finding[] = [await server(client, connectionString)];
      for (const [name, examine] of examinations) {
        findings.push(...[await examine(client).catch((error: unknown) => failed(name, error))].flat());
      }
      return findings;
    });
  } catch (error) {
    return [bad("DATABASE_URL", messageOf(error))];
  }
}

const examinations: readonly (readonly [name: string, examine: Examination])[] = [
  ["pgvector", pgvector],
  ["release", release],
  ["schema", schema],
  ["guard", guard],
  ["server rights", serverRights],
  ["logins", logins],
  ["ended sessions", sessions],
  ["rights", rights],
  ["clock", clock],
  ["workers", workers],
  ["tasks", tasks],
  ["stall", stall],
  ["queues", queues],
  ["pauses", pauses],
  ["breakers", breakers],
];

function failed(name: string, error: unknown): Finding {
  if (codeOf(error) === "42501") return off(name, "not visible to this login");
  if (["42P01", "3F000", "42883"].includes(codeOf(error) ?? ""))
    return bad(name, "the schema is missing or out of date");
  return bad(name, messageOf(error));
}

async function server(client: pg.Client, connectionString: string): Promise<Finding> {
  const { rows } = await client.query<{ version: string; built_in: boolean }>(
    `select current_setting('server_version') as version,
       coalesce(current_setting('brainops.embedded', true), '') = 'on' as built_in`,
  );
  const complaint = await serverComplaint(client);
  if (complaint !== null) return bad("DATABASE_URL", complaint);
  const kind = rows[0]?.built_in === true ? ", the built-in one" : "";
  return ok("DATABASE_URL", `${placeOf(connectionString)}: Postgres ${rows[0]?.version}${kind}`);
}

async function pgvector(client: pg.Client): Promise<Finding> {
  const { rows } = await client.query<{ available: string | null; installed: string | null }>(
    "select default_version as available, installed_version as installed from pg_available_extensions where name = 'vector'",
  );
  const version = rows[0]?.installed ?? rows[0]?.available;
  if (version === undefined || version === null) {
    return bad("pgvector", "this server does not have it; install pgvector 0.8 or newer");
  }
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (major === 0 && minor < 8) return bad("pgvector", `${version} is too old; install 0.8 or newer`);
  return ok("pgvector", `${version}${rows[0]?.installed === null ? ", not in use yet" : ""}`);
}

async function guard(client: pg.Client): Promise<Finding> {
  const { rows } = await client.query<{ table_name: string; reason: string }>(
    "select table_name::text, reason from brainops.unprotected_tables",
  );
  if (rows.length === 0) return ok("guard", "every table with a tenant_id has forced row level security");
  const sentences = rows.map((row) => `${row.table_name}: ${row.reason}`).join("; ");
  return bad("guard", `${sentences}; select brainops.protect_table('…')`);
}

async function rights(client: pg.Client): Promise<Finding> {
  const { rows } = await client.query<{ login: string; superuser: boolean; tenant: string | null; missing: string[] }>(
    `select
       session_user as login,
       r.rolsuper as superuser,
       case
         when pg_has_role(session_user, 'brainops_tenant', 'member')
           -- Which is a member of every tenant's login, for the session guard.
           and not pg_has_role(session_user, 'brainops_system', 'member')
         then session_user
       end as tenant,
       array(
         select role from unnest(array['brainops_system', 'brainops_service', 'brainops_worker']) as role
         where not pg_has_role(session_user, role, 'member')
       ) as missing
     from pg_roles as r
     where r.rolname = session_user`,
  );
  const row = rows[0];
  if (row === undefined) return bad("rights", "pg_roles does not contain the login");
  if (row.superuser) {
    return ok(
      "rights",
      `${row.login} is a superuser: fine for a trial and for migrations; give workers a login of their own`,
    );
  }
  if (row.missing.length === 0) return ok("rights", `${row.login} can run workers and the server`);
  if (row.tenant !== null)
    return off("rights", `${row.login} is a tenant's login: it sees its own rows, and runs no worker`);
  return off("rights", `${row.login} cannot run workers: grant ${row.missing.join(", ")} to ${row.login}`);
}

async function clock(client: pg.Client): Promise<Finding> {
  const before = Date.now();
  const { rows } = await client.query<{ now: Date }>("select clock_timestamp() as now");
  const skewMs = Math.round((before + Date.now()) / 2 - (rows[0]?.now.getTime() ?? 0));
  const detail = `this machine is ${Math.abs(skewMs)} ms ${skewMs < 0 ? "behind" : "ahead of"} Postgres`;
  // The worker's limit: beyond a second it runs no crontab.
  return Math.abs(skewMs) <= 1000 ? ok("clock", detail) : bad("clock", `${detail}; workers here run no crontab`);
}

async function workers(client: pg.Client): Promise<Finding> {
  const { rows } = await client.query<{ alive: number; others: number }>(
    `select count(*) filter (where state = 'alive')::int as alive, count(*) filter (where state <> 'alive')::int as others
     from brainops.workers`,
  );
  const { alive = 0, others = 0 } = rows[0] ?? {};
  const lost = others === 0 ? "" : `; ${others} without a liveness lock, about to be removed`;
  return alive === 0
    ? off("workers", `none alive${lost}; start one with \`brainops work\``)
    : ok("workers", `${alive} alive${lost}`);
}

async function tasks(client: pg.Client): Promise<Finding> {
  const { rows } = await client.query<{ table_name: string }>(
    `select table_name from brainops.job_tables as j
     where not exists (select from brainops.workers as w where w.state = 'alive' and j.task_identifier = any (w.tasks))
     order by table_name`,
  );
  if (rows.length === 0) return ok("tasks", "each job table has a worker that can run its rows");
  return off("tasks", `no live worker can run the rows of ${rows.map((row) => row.table_name).join(", ")}`);
}

async function stall(client: pg.Client): Promise<Finding[]> {
  const stalls = await readStalls(client);
  if (stalls.length === 0) return [ok("stall", "due rows are being claimed")];
  // Shown to admins only: it names other logins.
  const { rows: blockers } = await client.query<{ pid: number; login: string; blocked: string[] }>(
    `select b.pid, b.usename as login, array_agg(distinct a.application_name) as blocked
     from pg_stat_activity as a
     cross join unnest(pg_blocking_pids(a.pid)) as p (pid)
     inner join pg_stat_activity as b on b.pid = p.pid
     where a.application_name like 'brainops %' and a.pid in (select pid from pg_locks where not granted)
     group by b.pid, b.usename
     limit 5`,
  );
  const by = blockers.map(({ pid, login, blocked }) => `process ${pid} of ${login} blocks ${blocked.join(" and ")}`);
  const cause = by.length === 0 ? "" : `; ${by.join(", ")}`;
  return stalls.map((one) => bad("stall", `${textOfStall(one)}${cause}`));
}

// A row that has been due for this long, and is not paused, is stuck.
const LATE_S = 300;
// If no event settles an unconfirmed row within minutes, a person has to.
const UNCONFIRMED_S = 3600;

async function queues(client: pg.Client): Promise<Finding[]> {
  const { rows } = await client.query<{
    due: number;
    failed: number;
    failed_events: number;
    late_s: number | null;
    why: string | null;
  }>(
    `select
       coalesce(sum(due), 0)::int as due,
       coalesce(sum(failed) filter (where table_name <> 'webhook_events'), 0)::int as failed,
       coalesce(sum(failed) filter (where table_name = 'webhook_events'), 0)::int as failed_events,
       extract(epoch from max(oldest_due) filter (where brainops_internal.pause_reason(table_name, tenant_id) is null))::float8 as late_s,
       max(waiting_for) as why
     from brainops.queue_health`,
  );
  const { rows: lost } = await client.query<{ count: number; oldest_s: number | null }>(
    `select count(*)::int as count, extract(epoch from brainops.now() - min(started_at))::float8 as oldest_s
     from brainops.jobs where status = 'unconfirmed'`,
  );
  const {
    due = 0,
    failed: gaveUp = 0,
    failed_events: lostEvents = 0,
    late_s: lateS = null,
    why = null,
  } = rows[0] ?? {};
  const { count = 0, oldest_s: oldestS = null } = lost[0] ?? {};
  const since = lateS === null ? "" : `, the oldest for ${duration(lateS)}`;
  const detail = `${due} due${since}${why === null ? "" : ` (${why})`}`;
  const grave = oldestS !== null && oldestS > UNCONFIRMED_S;
  return [
    lateS !== null && lateS > LATE_S ? bad("due rows", detail) : ok("due rows", detail),
    grave
      ? bad(
          "unconfirmed rows",
          `${count}, the oldest for ${duration(oldestS)}: settle them with brainops.confirm(table, id, happened)`,
        )
      : ok("unconfirmed rows", String(count)),
    gaveUp === 0 ? ok("failed rows", "0") : off("failed rows", `${gaveUp}: see brainops.dead_letters`),
    lostEvents === 0
      ? ok("failed events", "0")
      : off(
          "failed events",
          `${lostEvents}: see last_error in webhook_events where status = 'failed'; setting it to pending processes one again`,
        ),
  ];
}

async function pauses(client: pg.Client): Promise<Finding[]> {
  const { rows } = await client.query<{ table_name: string; tenant: string | null; reason: string; paused_by: string }>(
    `select p.table_name, t.slug as tenant, p.reason, p.paused_by
     from brainops.pauses as p
     left join public.tenants as t on t.id = p.tenant_id
     order by p.paused_at`,
  );
  if (rows.length === 0) return [ok("pauses", "none")];
  return rows.map((row) =>
    off("pauses", `${row.table_name} of ${row.tenant ?? "every tenant"}, by ${row.paused_by}: ${row.reason}`),
  );
}

async function breakers(client: pg.Client): Promise<Finding[]> {
  const { rows } = await client.query<{
    account: string;
    state: string;
    last_error: string | null;
    retry_at: Date | null;
    opened_by: string | null;
  }>(
    "select account, state, last_error, retry_at, opened_by from brainops.breakers where state <> 'closed' order by account",
  );
  if (rows.length === 0) return [ok("breakers", "all closed")];
  return rows.map((row) =>
    bad(
      "breakers",
      `${row.account} is ${row.state}${row.opened_by === null ? "" : ` for tenant ${row.opened_by} alone`}, next try ${row.retry_at?.toISOString() ?? "soon"}: ${row.last_error ?? ""}`,
    ),
  );
}
