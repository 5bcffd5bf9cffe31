// Writes verified events into webhook_events. A job decides later what they mean
// (brainops_internal.process_webhook_events), so that a slow or malformed event never makes a delivery fail.
import type pg from "pg";
import type { Endpoint } from "../../revenue/credentials/store.ts";
import type { Receipt } from "./receive.ts";

/** Writes the events that are not in the ledger yet, in one statement. Answers 200 {"recorded": n}. */
export async function recordEvents(
  pool: pg.Pool,
  provider: "sendgrid" | "stripe",
  events: readonly unknown[],
  endpoint: Endpoint | null,
): Promise<Receipt> {
  const { rows } = await pool.query<{ recorded: number }>(
    "select brainops_internal.record_webhook_events($1, $2::jsonb, $3) as recorded",
    [provider, JSON.stringify(events), endpoint?.tenant_id ?? null],
  );
  const recorded = rows[0]?.recorded ?? 0;
  return { status: 200, body: { recorded }, added: recorded, known: events.length - recorded };
}
