// Workers and servers on the Twilio simulator, and rows of texts.
import { startTwilioSimulator, type TwilioSimulator } from "../../src/simulator/twilio/index.ts";
import { startWorker, type Worker } from "../../src/jobs/worker.ts";
import type { TestDatabase } from "../support/database.ts";
import { log, testConfig } from "../support/worker.ts";

/** Settings that point a worker or a server at the simulator. */
export function twilioEnvironment(simulator: TwilioSimulator): Record<string, string> {
  return {
    TWILIO_ACCOUNT_SID: simulator.accountSid,
    TWILIO_AUTH_TOKEN: simulator.authToken,
    TWILIO_FROM: simulator.from,
    TWILIO_BASE_URL: simulator.url,
  };
}

export function startSmsWorker(
  db: TestDatabase,
  simulator: TwilioSimulator | null,
  environment: Record<string, string> = {},
): Promise<Worker> {
  const config = testConfig(null, { ...(simulator === null ? {} : twilioEnvironment(simulator)), ...environment });
  return startWorker({ connectionString: db.urlOf("worker"), config, log, concurrency: 20 });
}

export { startTwilioSimulator, type TwilioSimulator };

export interface TextColumns {
  readonly [column: string]: unknown;
}

/** Inserts a text as the tenant and returns its id. Transactional unless `columns` has other metadata. */
export async function insertText(
  db: TestDatabase,
  seat: "tenantA" | "tenantB",
  columns: TextColumns = {},
): Promise<string> {
  const row = { recipient: "+13035550100", body: "Hello", metadata: { transactional: true }, ...columns };
  const names = Object.keys(row);
  const [inserted] = await db.as<{ id: string }>(
    seat,
    `insert into ai_sms_queue (${names.join(", ")}) values (${names.map((_, n) => `$${n + 1}`).join(", ")}) returning id`,
    Object.values(row),
  );
  return inserted?.id ?? "";
}

/** Rows as if a worker had sent them, or did not get the response; without triggers. */
export async function createSentTexts(
  db: TestDatabase,
  tenantId: string,
  texts: readonly { readonly to: string; readonly status?: string; readonly sid?: string; readonly body?: string }[],
  accountSid = `AC${"0".repeat(31)}1`,
): Promise<string[]> {
  const client = await db.connect("superuser");
  try {
    await client.query("set session_replication_role = replica");
    const { rows } = await client.query<{ id: string }>(
      `insert into ai_sms_queue (tenant_id, recipient, to_number, body, text_sent, account_sid, status, started_at, sent_at, finished_at, provider_message_id, lease, worker_id, metadata)
       select $1, t.to, t.to, t.body, t.body, $3, t.status, brainops.now(), s.at, s.at, t.sid,
              l.lease, l.lease, '{"transactional": true}'
       from rows from (jsonb_to_recordset($2::jsonb) as ("to" text, status text, sid text, body text)) with ordinality
         as t ("to", status, sid, body, n),
         lateral (select case when t.status = 'completed' then brainops.now() end) as s (at),
              lateral (select case when t.status = 'processing' then gen_random_uuid() end) as l (lease)
       order by n
       returning id`,
      [
        tenantId,
        JSON.stringify(
          texts.map(({ to, status = "completed", sid = null, body = "Hello" }) => ({ to, status, sid, body })),
        ),
        accountSid,
      ],
    );
    return rows.map(({ id }) => id);
  } finally {
    await client.end();
  }
}

let sids = 0;

/** A MessageSid that is not in use. */
export function newSid(): string {
  sids += 1;
  return `SM${process.pid.toString(16).padStart(16, "0")}${sids.toString(16).padStart(16, "0")}`;
}
