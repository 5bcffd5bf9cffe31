// Checks the Postgres version: row level security must have no known security bugs.
import type pg from "pg";
import { MigrationError } from "./types.ts";

export async function refuseOldServer(client: pg.Client): Promise<void> {
  const complaint = await serverComplaint(client);
  if (complaint !== null) throw new MigrationError(complaint);
}

/** Why this server can't be used, or null. */
export async function serverComplaint(client: pg.Client): Promise<string | null> {
  const { rows } = await client.query<{ number: number; version: string }>(
    "select current_setting('server_version_num')::int as number, current_setting('server_version') as version",
  );
  const number = rows[0]?.number ?? 0;
  // The first minor versions with the fixes for row level security in the planner (CVE-2025-8713 and older).
  const fixed: Record<number, number> = { 15: 150_014, 16: 160_010, 17: 170_006 };
  const least = fixed[Math.floor(number / 10_000)] ?? 150_014;
  if (number >= least) return null;
  return `Postgres ${rows[0]?.version} is too old: row level security needs 15.14, 16.10, 17.6 or newer (CVE-2025-8713).`;
}
