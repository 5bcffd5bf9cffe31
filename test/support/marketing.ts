// Lets tenants send marketing at any hour, so that tests do not depend on the time of day.
import type { TestDatabase } from "./database.ts";

/** Gives both tenants a postal address, all hours of the day and a high cap. */
export async function letMarketingGo(db: TestDatabase): Promise<void> {
  await db.query(`update tenants set settings = settings || '{"postal_address": "1 Main St, Denver, CO 80202"}'`);
  await db.query(
    `insert into contact_policies (tenant_id, channel, window_start, window_end, cap)
     select id, 'email', '00:00', '00:00', 1000 from tenants`,
  );
}
