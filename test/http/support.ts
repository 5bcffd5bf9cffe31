// A server on a test's database, and SendGrid's side of its webhook: a key pair and what it signs.
import { generateKeyPairSync, sign, type KeyObject } from "node:crypto";
import { startHttpServer, type HttpServer, type HttpServerOptions } from "../../src/http/server.ts";
import type { TestDatabase } from "../support/database.ts";
import { log, testConfig } from "../support/worker.ts";

export interface Signer {
  /** Base64 SPKI DER, for SENDGRID_WEBHOOK_PUBLIC_KEY. */
  readonly publicKey: string;
  readonly privateKey: KeyObject;
}

export function createSigner(): Signer {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { publicKey: publicKey.export({ type: "spki", format: "der" }).toString("base64"), privateKey };
}

/** A server with the rights of a worker's login. Close it in the test. */
export function startTestServer(
  db: TestDatabase,
  environment: Record<string, string> = {},
  options: Partial<HttpServerOptions> = {},
): Promise<HttpServer> {
  const config = testConfig(null, { PORT: "0", ...environment });
  return startHttpServer({ config, log, connectionString: db.urlOf("worker"), ...options });
}

export interface PostChanges {
  /** Seconds added to the signed time. */
  readonly age?: number;
  /** Headers instead of the valid ones; undefined leaves one out. */
  readonly headers?: Readonly<Record<string, string | undefined>>;
  /** Sent instead of the signed body. */
  readonly sentBody?: Buffer;
  /** @default /webhooks/sendgrid */
  readonly path?: string;
}

/** POST /webhooks/sendgrid, signed. An array is sent as JSON with the CRLF that SendGrid appends. */
export function postEvents(
  server: { readonly url: string },
  signer: Signer,
  events: readonly unknown[] | string | Buffer,
  changes: PostChanges = {},
): Promise<Response> {
  const body = Buffer.from(Array.isArray(events) ? `${JSON.stringify(events)}\r\n` : (events as string | Buffer));
  const timestamp = String(Math.floor(Date.now() / 1000) - (changes.age ?? 0));
  const headers: Record<string, string | undefined> = {
    "content-type": "application/json",
    "x-twilio-email-event-webhook-timestamp": timestamp,
    "x-twilio-email-event-webhook-signature": sign(
      "sha256",
      Buffer.concat([Buffer.from(timestamp), body]),
      signer.privateKey,
    ).toString("base64"),
    ...changes.headers,
  };
  const given = Object.entries(headers).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return fetch(`${server.url}${changes.path ?? "/webhooks/sendgrid"}`, {
    method: "POST",
    body: new Uint8Array(changes.sentBody ?? body),
    headers: given,
  });
}

let events = 0;

/** A well-formed event with an id of its own. */
export function createEvent(changes: Record<string, unknown> = {}): Record<string, unknown> {
  events += 1;
  return {
    email: "ann@example.com",
    timestamp: 1_700_000_000,
    event: "delivered",
    sg_event_id: `event-${process.pid}-${events}`,
    ...changes,
  };
}

/** Rows as if they had been sent, without a worker; returns their ids. */
export async function createSentEmails(
  db: TestDatabase,
  tenantId: string,
  recipients: readonly string[],
  status = "completed",
): Promise<string[]> {
  const client = await db.connect("superuser");
  try {
    // No triggers: no jobs, no rules about who may write which status.
    await client.query("set session_replication_role = replica");
    const { rows } = await client.query<{ id: string }>(
      `insert into ai_email_queue (tenant_id, recipient, subject, body, status, started_at, sent_at, finished_at, provider_message_id)
       select $1, r, 'Hello', 'Hi', $3, now(), t, t, case when t is not null then 'message-' || gen_random_uuid() end
       from unnest($2::text[]) with ordinality as u (r, n), lateral (select case when $3 = 'completed' then now() end) as s (t)
       order by n
       returning id`,
      [tenantId, recipients, status],
    );
    return rows.map(({ id }) => id);
  } finally {
    await client.end();
  }
}

/** Processes all recorded events, as the worker's job would. */
export async function processEvents(db: TestDatabase): Promise<void> {
  await db.as(
    "worker",
    `select brainops_internal.process_webhook_events(array(select id from webhook_events where status = 'pending'))`,
  );
}
