// The effect of rows of ai_email_queue that belong to a broadcast: bulk calls with up to 1,000 recipients.
import { setImmediate } from "node:timers/promises";
import type { Config } from "../../config.ts";
import { isEmailAddress } from "../../emailAddress.ts";
import { messageOf } from "../../errors.ts";
import type { JobContext } from "../../jobs/define.ts";
import { afterRefusal, type Result } from "../../jobs/outcome.ts";
import { watchRequests } from "../../jobs/requests.ts";
import { sendMail, type SendgridAccount } from "../../providers/sendgrid.ts";
import { MAX_RECIPIENTS, MAX_SUBSTITUTION_BYTES, sendBulk, type BulkRecipient } from "../../providers/sendgridBulk.ts";
import { composeEmail, postalAddressOf, sendingOf, unsubscribeUrlOf, variablesOf } from "./compose.ts";
import { withFooter } from "./footer.ts";
import { readBroadcast, type Broadcast, type RecipientRow } from "./loadBroadcast.ts";
import { createLruCache } from "./lruCache.ts";
import { accountOf, blockedReason } from "./send.ts";
import { compileBulkTemplate, type BulkTemplate, type BulkContent } from "./bulkTemplate.ts";

const ROWS_PER_TURN = 50;
const SINGLE_CONCURRENCY = 10;

interface Prepared {
  readonly broadcast: Broadcast;
  readonly template: BulkTemplate;
  readonly account: SendgridAccount;
}

/** Sends to rows of one broadcast. Returns a result for each row, in order. */
export async function sendBroadcast(rows: readonly RecipientRow[], context: JobContext): Promise<readonly Result[]> {
  const prepared = await prepare(rows[0]?.broadcast_id ?? "", context);
  if ("outcome" in prepared) return rows.map(() => prepared);

  const ends = new Map<string, Result>();
  const bulk: BulkRecipient[] = [];
  const singles: RecipientRow[] = [];
  for (const [index, row] of rows.entries()) {
    // Yields to the event loop, so that a thousand renderings do not delay other jobs.
    if (index % ROWS_PER_TURN === 0) await setImmediate();
    try {
      const recipient = personalize(prepared, row, context.config);
      if (recipient === null) singles.push(row);
      else bulk.push(recipient);
    } catch (error) {
      ends.set(row.id, afterRefusal(error));
    }
  }

  const mail = { ...prepared.template, ...sendingOf(prepared.broadcast, context.config) };
  for (let from = 0; from < bulk.length; from += MAX_RECIPIENTS) {
    const recipients = bulk.slice(from, from + MAX_RECIPIENTS);
    const ended = await sendBulk(prepared.account, mail, recipients, context.now);
    for (const [index, { rowId }] of recipients.entries()) ends.set(rowId, ended[index] ?? notReached);
  }
  for (let from = 0; from < singles.length; from += SINGLE_CONCURRENCY) {
    const turn = singles.slice(from, from + SINGLE_CONCURRENCY);
    const ended = await Promise.all(turn.map((row) => sendSingle(prepared, row, context)));
    for (const [index, { id }] of turn.entries()) ends.set(id, ended[index] ?? notReached);
  }
  return rows.map(({ id }) => ends.get(id) ?? notReached);
}

const notReached: Result = {
  outcome: { kind: "retry", reason: "the time limit ended before this row was sent" },
  providerCalled: false,
};

/** Loads what all recipients need. If that fails, returns the result of every row instead. */
async function prepare(id: string, context: JobContext): Promise<Prepared | Result> {
  const { config, now } = context;
  let broadcast: Broadcast;
  try {
    broadcast = await readBroadcast(context, id);
  } catch (error) {
    // Nothing has been sent, so a retry is safe.
    return { outcome: { kind: "retry", reason: messageOf(error) }, providerCalled: false };
  }
  try {
    const account = accountOf(broadcast, config);
    const blocked = blockedReason(sendingOf(broadcast, config).from, config.PUBLIC_URL === undefined, now);
    return blocked === null
      ? { broadcast, account, template: templateOf(JSON.stringify(contentOf(broadcast))) }
      : { outcome: blocked, providerCalled: false };
  } catch (error) {
    return afterRefusal(error);
  }
}

const templateOf = createLruCache((content) => compileBulkTemplate(JSON.parse(content) as BulkContent));

function contentOf(broadcast: Broadcast): BulkContent {
  return { subject: broadcast.subject, body: withFooter(broadcast.body, postalAddressOf(broadcast)) };
}

/**
 * The row's recipient in a bulk call. Null if tags cannot express its values: the row needs a call of
 * its own. Throws an error that is caused by the row.
 */
function personalize({ broadcast, template }: Prepared, row: RecipientRow, config: Config): BulkRecipient | null {
  // A lead's address is not checked when the row is inserted, and SendGrid rejects a call with a bad one.
  if (!isEmailAddress(row.address)) {
    throw new Error(
      `recipient: ${JSON.stringify(row.address)} is not an e-mail address; correct it and set status to pending`,
    );
  }
  const unsubscribeUrl = unsubscribeUrlOf(row, config) ?? "";
  const { tenant } = broadcast;
  const variables = variablesOf({ tenant, lead: row.lead, metadata: metadataOf(broadcast, row) }, unsubscribeUrl);
  const substitutions = template.substitutions(variables);
  if (substitutions === null || !fits(substitutions)) return null;
  return { rowId: row.id, to: row.address, substitutions, unsubscribeUrl };
}

function fits(substitutions: Readonly<Record<string, string>>): boolean {
  let units = 2;
  for (const [tag, value] of Object.entries(substitutions)) units += tag.length + value.length + 6;
  // A UTF-16 unit takes at most six bytes in JSON (\\u0000), so most rows need no exact count.
  return (
    units * 6 <= MAX_SUBSTITUTION_BYTES || Buffer.byteLength(JSON.stringify(substitutions)) <= MAX_SUBSTITUTION_BYTES
  );
}

function metadataOf(broadcast: Broadcast, row: RecipientRow): RecipientRow["metadata"] {
  return { ...broadcast.metadata, ...row.metadata };
}

/** Sends the row as a mail of its own. */
async function sendSingle({ broadcast, account }: Prepared, row: RecipientRow, context: JobContext): Promise<Result> {
  if (context.signal.aborted) return notReached;
  try {
    const single = { ...row, ...broadcast, metadata: metadataOf(broadcast, row) };
    const mail = composeEmail(single, context.config);
    const watch = watchRequests();
    const outcome = await watch.run(() => sendMail(account, mail, context.now));
    return { outcome, providerCalled: watch.begun };
  } catch (error) {
    return afterRefusal(error);
  }
}
