// Leads of a test, as their tenant's client inserts them.
import type { TestDatabase } from "../support/database.ts";

export interface Lead {
  readonly id: string;
  readonly email: string | null;
  readonly phone_e164: string | null;
  readonly stage: string;
  readonly score: number;
  readonly tier: string;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** Inserts a lead of tenant A; returns the id that the client gets. */
export async function insertLead(db: TestDatabase, columns: Readonly<Record<string, unknown>>): Promise<string> {
  const names = Object.keys(columns);
  const places = names.map((_, index) => `$${index + 1}`);
  const [row] = await db.as<{ id: string }>(
    "tenantA",
    `insert into revenue_leads (${names.join(", ")}) values (${places.join(", ")}) returning id`,
    Object.values(columns),
  );
  return row?.id ?? "";
}

/** The lead of an id, also after merges. */
export async function leadOf(db: TestDatabase, id: string): Promise<Lead> {
  const [row] = await db.query<Lead>(
    `select id, email, phone_e164, stage, score::float8 as score, tier, metadata from revenue_leads
     where id = coalesce((select lead_id from revenue_lead_aliases where id = $1), $1)`,
    [id],
  );
  if (row === undefined) throw new Error(`no lead ${id}`);
  return row;
}

/** Computes the score as the worker's job would; returns the lead. */
export async function scored(db: TestDatabase, id: string): Promise<Lead> {
  await db.as("worker", "select brainops_internal.score_leads(array[$1::uuid])", [id]);
  return leadOf(db, id);
}

/** Reason -> the sum of its points. */
export async function reasons(db: TestDatabase, id: string): Promise<Record<string, number>> {
  const rows = await db.query<{ reason: string; points: number }>(
    "select reason, sum(points)::float8 as points from lead_score_events where lead_id = $1 group by reason",
    [id],
  );
  return Object.fromEntries(rows.map(({ reason, points }) => [reason, points]));
}
