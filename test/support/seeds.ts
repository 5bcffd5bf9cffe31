// One row of a tenant in every table that has a tenant_id; and what a query touches, as a number.
import { codeOf } from "../../src/errors.ts";
import type pg from "pg";
import type { TestDatabase } from "./database.ts";

type Row = Readonly<Record<string, unknown>>;

/** What to insert, beside tenant_id, for a table to have a row. null: it has one of each tenant already. */
const factories: Readonly<Record<string, ((tenantId: string) => Row) | null>> = {
  revenue_leads: () => ({ contact_name: "Ann", email: "ann@example.com" }),
  ai_email_queue: () => ({ recipient: "ann@example.com", subject: "Hello", body: "Hi", scheduled_for: "2100-01-01Z" }),
  email_deliveries: () => ({ recipient: "ann@example.com", event: "delivered", occurred_at: "2026-01-01Z" }),
  email_bounces: () => ({ recipient: "ann@example.com", bounce_type: "hard" }),
  contact_suppressions: () => ({ address: "ann@example.com" }),
  email_unsubscribe_links: () => ({ address_key: "ann@example.com" }),
  webhook_events: (tenantId) => ({
    provider: "sendgrid",
    provider_event_id: tenantId,
    payload: "{}",
    signature_ok: true,
  }),
  tenant_keys: () => ({ wrapped_key: "\\x00", secret_key_id: "0123456789abcdef" }),
  provider_credentials: () => ({ provider: "stripe", sealed: "\\x00" }),
  "brainops.tenant_logins": null,
  "brainops.job_events": (tenantId) => ({
    table_name: "ai_email_queue",
    row_id: tenantId,
    from_status: "pending",
    to_status: "processing",
    attempt: 1,
  }),
  "brainops.job_archive": (tenantId) => ({
    table_name: "ai_email_queue",
    row_id: tenantId,
    status: "completed",
    finished_at: new Date(),
    job_row: "{}",
  }),
  "brainops.pauses": () => ({ table_name: "ai_email_queue", channel: "none", reason: "a seed" }),
  "brainops.rate_limits": () => ({ table_name: "ai_email_queue", per_second: 1000, burst: 1000 }),
};

/** Every table with a tenant_id, as the catalog has them; partitions are their parents' business. */
export async function tenantTables(db: TestDatabase): Promise<string[]> {
  const rows = await db.query<{ name: string }>(
    `select c.oid::regclass::text as name from pg_class as c
     inner join pg_attribute as a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
     where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace::regnamespace::text in ('public', 'brainops')
     order by 1`,
  );
  return rows.map((row) => row.name);
}

/** Puts a row of both tenants into every tenant table. Throws for a table that nobody gave a factory. */
export async function seedBothTenants(db: TestDatabase): Promise<string[]> {
  const tables = await tenantTables(db);
  const missing = tables.filter((table) => factories[table] === undefined);
  if (missing.length > 0) {
    throw new Error(
      `test/support/seeds.ts has no factory for ${missing.join(", ")}; add one, so that its rows are tested`,
    );
  }
  for (const table of tables) {
    for (const tenantId of [db.tenantA, db.tenantB]) {
      const row = { tenant_id: tenantId, ...factories[table]?.(tenantId) };
      const columns = Object.keys(row);
      if (columns.length === 1) continue;
      const places = columns.map((_, index) => `$${index + 1}`).join(", ");
      await db.query(`insert into ${table} (${columns.join(", ")}) values (${places})`, Object.values(row));
    }
  }
  return tables;
}

/** What a statement touches: so many rows, or the SQLSTATE of its refusal. It is undone in any case. */
export async function touched(
  client: pg.Client,
  text: string,
  values: readonly unknown[] = [],
): Promise<number | string> {
  await client.query("begin");
  try {
    const { rowCount, rows } = await client.query<Record<string, unknown>>(text, [...values]);
    return rows.length === 0 ? (rowCount ?? 0) : rows.length;
  } catch (error) {
    return codeOf(error) ?? String(error);
  } finally {
    await client.query("rollback");
  }
}
