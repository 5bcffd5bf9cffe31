// Payment requests and their links without a worker, and Stripe's events about them: in the shapes of
// its API version 2026-10-28, signed as Stripe signs.
import { sign } from "../../src/http/webhooks/stripeSignature.ts";
import type { TestDatabase } from "../support/database.ts";

export const WEBHOOK_SECRET = "whsec_of_tests";

export type Json = Readonly<Record<string, unknown>>;

export interface StripeEvent extends Json {
  readonly id: string;
  readonly type: string;
  readonly created: number;
}

/** Inserts a row as the seat and returns its id. */
export async function insertRow(
  db: TestDatabase,
  seat: "tenantA" | "tenantB" | "service" | "admin",
  table: string,
  row: Json,
): Promise<string> {
  const names = Object.keys(row);
  const [inserted] = await db.as<{ id: string }>(
    seat,
    `insert into ${table} (${names.join(", ")}) values (${names.map((_, index) => `$${index + 1}`).join(", ")}) returning id`,
    Object.values(row),
  );
  if (inserted === undefined) throw new Error("nothing was inserted");
  return inserted.id;
}

export interface LinkedRequest {
  readonly id: string;
  readonly leadId: string;
  readonly link: string;
}

let serial = 0;

/** A lead, a request to it, and its link, as if a worker had created it at Stripe. */
export async function createLinkedRequest(
  db: TestDatabase,
  seat: "tenantA" | "tenantB",
  plan: string,
  account: string | null = null,
): Promise<LinkedRequest> {
  serial += 1;
  const leadId = await insertRow(db, seat, "revenue_leads", {
    contact_name: `Payer ${serial}`,
    email: `payer${serial}@x.example`,
  });
  const id = await insertRow(db, seat, "payment_requests", { lead_id: leadId, plan_code: plan });
  return { id, leadId, link: await storeLink(db, id, account) };
}

/** What a worker does for a request: sets the key, stores the link. */
export async function storeLink(db: TestDatabase, id: string, account: string | null = null): Promise<string> {
  serial += 1;
  const link = `plink_${serial}`;
  await db.query("update payment_requests set key_started_at = brainops.now(), key_account = $2 where id = $1", [
    id,
    account,
  ]);
  await db.query(
    `update payment_requests set status = 'completed', stripe_payment_link_id = $2, livemode = false,
       payment_url = 'https://buy.stripe.example/' || $2 where id = $1`,
    [id, link],
  );
  return link;
}

let eventCount = 0;

/** An event about the object, `second` seconds after the start of the history. */
export function event(type: string, second: number, object: Json): StripeEvent {
  eventCount += 1;
  const created = 1_700_000_000 + second;
  return {
    id: `evt_${eventCount}`,
    object: "event",
    api_version: "2026-10-28.endive",
    created,
    livemode: false,
    type,
    data: { object },
  };
}

/** The same change under a new event id; Stripe may send both. */
export function withNewId(original: StripeEvent): StripeEvent {
  eventCount += 1;
  return { ...original, id: `evt_${eventCount}` };
}

/** A completed checkout of a link; `n` is part of the ids of its objects. */
export function checkout(n: string, link: string, minor: number, changes: Json = {}): Json {
  return {
    id: `cs_${n}`,
    object: "checkout.session",
    mode: "payment",
    status: "complete",
    payment_status: "paid",
    payment_link: link,
    payment_intent: `pi_${n}`,
    subscription: null,
    invoice: null,
    amount_total: minor,
    currency: "usd",
    customer_details: { email: `${n}@x.example`, name: null },
    metadata: {},
    ...changes,
  };
}

export function refund(id: string, n: string, minor: number, changes: Json = {}): Json {
  return {
    id,
    object: "refund",
    amount: minor,
    currency: "usd",
    charge: `ch_${n}`,
    payment_intent: `pi_${n}`,
    created: 1_700_000_500,
    status: "succeeded",
    ...changes,
  };
}

export function charge(n: string, minor: number, refunded: number): Json {
  return {
    id: `ch_${n}`,
    object: "charge",
    amount: minor,
    amount_refunded: refunded,
    currency: "usd",
    payment_intent: `pi_${n}`,
    refunded: minor === refunded,
  };
}

export function dispute(n: string, minor: number, status: string): Json {
  return {
    id: `dp_${n}`,
    object: "dispute",
    amount: minor,
    currency: "usd",
    charge: `ch_${n}`,
    payment_intent: `pi_${n}`,
    created: 1_700_000_600,
    status,
    reason: "fraudulent",
    evidence_details: { due_by: 1_700_900_000 },
  };
}

export interface PostOptions {
  /** @default WEBHOOK_SECRET */
  readonly secret?: string;
  /** Seconds since it was signed; negative for the future. @default 0 */
  readonly age?: number;
  /** Sent instead of the signed body. */
  readonly body?: Buffer;
  /** The whole header instead of the valid one; null leaves it out. */
  readonly signature?: string | null;
  /** @default /webhooks/stripe */
  readonly path?: string;
}

/** POST /webhooks/stripe, signed. */
export function postEvent(
  server: { readonly url: string },
  posted: Json | string,
  options: PostOptions = {},
): Promise<Response> {
  const body = Buffer.from(typeof posted === "string" ? posted : JSON.stringify(posted));
  const timestamp = String(Math.floor(Date.now() / 1000) - (options.age ?? 0));
  const signature =
    options.signature === undefined
      ? `t=${timestamp},v1=${sign(options.secret ?? WEBHOOK_SECRET, timestamp, body)}`
      : options.signature;
  return fetch(`${server.url}${options.path ?? "/webhooks/stripe"}`, {
    method: "POST",
    body: new Uint8Array(options.body ?? body),
    headers: { "content-type": "application/json", ...(signature === null ? {} : { "stripe-signature": signature }) },
  });
}

/** Records and applies events without a server; from the tenant's own account if tenantId is not null. */
export async function applyEvents(
  db: TestDatabase,
  events: readonly StripeEvent[],
  tenantId: string | null = null,
): Promise<void> {
  await db.as("worker", "select brainops_internal.record_webhook_events('stripe', $1::jsonb, $2)", [
    JSON.stringify(events),
    tenantId,
  ]);
  await processAll(db);
}

/** Applies all recorded events, as the worker's job would. */
export async function processAll(db: TestDatabase): Promise<void> {
  await db.as(
    "worker",
    "select brainops_internal.process_webhook_events(array(select id from webhook_events where status = 'pending'))",
  );
}

export async function requestOf(db: TestDatabase, id: string): Promise<Record<string, unknown>> {
  const [row] = await db.query("select * from payment_requests where id = $1", [id]);
  if (row === undefined) throw new Error(`no payment request ${id}`);
  return row;
}
