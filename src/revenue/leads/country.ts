// The tenant's country decides how phone numbers without a country code are read. The rule is SQL
// (brainops.tenant_country), because the queue's triggers apply it as well.
import type pg from "pg";

/** The tenant's country, ISO 3166, two letters: settings.country if it is valid, else US. */
export async function countryOf(database: pg.Pool | pg.ClientBase, tenantId: string): Promise<string> {
  const { rows } = await database.query<{ country: string }>("select brainops.tenant_country($1) as country", [
    tenantId,
  ]);
  return rows[0]?.country ?? "US";
}
