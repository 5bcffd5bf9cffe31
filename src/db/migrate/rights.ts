// Rights that are set each time, whatever changed: default privileges of the database and other programs grant them
// again, and a later migrator may have rights that an earlier one lacked. What this migrator lacks is logged, and
// `brainops doctor` names it until somebody does it.
import { publicRelations } from "./foreignTables.ts";
import type { Migration } from "./types.ts";

// Missing from a sql/ that is not ours.
const NEEDED = ["revoke_strangers_everywhere", "close_server_rights", "join_logins"];

/** Closes what tenants and roles of other programs could reach, and lets the session guard end tenants' sessions. */
export async function settleRights({ client, directory, options }: Migration): Promise<void> {
  const { rows: missing } = await client.query(
    "select from unnest($1::text[]) as name where to_regproc('brainops_internal.' || name) is null",
    [NEEDED],
  );
  if (missing.length > 0) return;

  const { rows: strangers } = await client.query<{ role: string; objects: number }>(
    `select role, count(*)::int as objects from brainops_internal.revoke_strangers_everywhere($1) as role
     group by role order by role`,
    [await publicRelations(client, directory)],
  );
  for (const { role, objects } of strangers) options.log?.(`revoked the rights of ${role} on ${objects} objects`);

  const { rows: open } = await client.query<{ object: string }>(
    "select object from brainops_internal.close_server_rights() as object",
  );
  if (open.length > 0) {
    options.log?.(
      `a superuser has to revoke from public, in this database: ${open.map(({ object }) => object).join(", ")}`,
    );
  }

  const { rows: logins } = await client.query<{ login: string }>(
    "select login from brainops_internal.join_logins() as login",
  );
  for (const { login } of logins) {
    options.log?.(
      `the session guard cannot end sessions of ${login}: whoever created it has to grant it to brainops_system`,
    );
  }
}
