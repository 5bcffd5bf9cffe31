// The engine's clock at a fixed instant, for tests that reckon with exact times.
import type { TestDatabase } from "./database.ts";

/** brainops.now() stands at the instant until it is set again; null lets it run as in production. */
export async function setNow(db: TestDatabase, at: Date | null): Promise<void> {
  const now = at === null ? "pg_catalog.now()" : `'${at.toISOString()}'::timestamptz`;
  await db.query(
    `create or replace function brainops.now() returns timestamptz language sql stable parallel safe as $$ select ${now} $$`,
  );
}
