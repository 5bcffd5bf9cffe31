// graphile-worker's own schema. It belongs to brainops_system, so that the definer functions may add jobs.
import { runMigrations } from "graphile-worker";
import { messageOf } from "../../errors.ts";
import { quietLogger } from "../../telemetry/graphileLogger.ts";
import { limits } from "../limits.ts";
import { createPool } from "../pool.ts";
import { MigrationError, type Migration } from "./types.ts";

export async function migrateGraphileWorker({ client, options }: Migration): Promise<void> {
  const { rows } = await client.query<{ name: string }>("select quote_ident(current_database()) as name");
  const database = rows[0]?.name ?? "";
  const pool = createPool({
    connectionString: options.connectionString,
    applicationName: "brainops migrate",
    max: 1,
    limits: limits.migration,
    role: "brainops_system",
  });
  // Only during the installation: brainops_system owns functions that run in tenants' inserts.
  await client.query(`grant create on database ${database} to brainops_system`);
  try {
    await runMigrations({ pgPool: pool, logger: quietLogger() });
  } catch (error) {
    throw new MigrationError(`graphile-worker's own schema could not be installed: ${messageOf(error)}`, {
      cause: error,
    });
  } finally {
    await pool.end();
    await client.query(`revoke create on database ${database} from brainops_system`);
  }
}
