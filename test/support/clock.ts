// Sets the engine's clock to a fixed instant, for tests that compute with exact times.
import type { TestDatabase } from "./database.ts";

/** brainops.now() returns this instant until the next call; null restores the running clock. */
export async function setNow(db: TestDatabase, at: Date | null): Promise<void> {
  const now = at === null ? "pg_catalog.now()" : `'${at.toISOString()}'::timestamptz`;
  await db.query(
    `create or replace function brainops.now() returns timestamptz language sql stable parallel safe as $$ select ${now} $$`,
  );
}
