// The effect of rows of ai_email_queue that belong to a broadcast: bulk calls with up to 1,000 recipients.
import { isEmailAddress } from "../../emailAddress.ts";
import { messageOf } from "../../errors.ts";
import type { JobContext } from "../../jobs/define.ts";
import { afterRefusal, type Result } from "../../jobs/outcome.ts";
import { watchRequests } from "../../jobs/requests.ts";
import { sendMail, type SendgridAccount } from "../../providers/sendgrid.ts";
import { MAX_RECIPIENTS, MAX_SUBSTITUTION_BYTES, sendBulk, type BulkRecipient } from "../../providers/sendgridBulk.ts";
import { nonceOf, render } from "../rendering/index.ts";
import type { BulkSource, RenderedMail } from "../rendering/tasks.ts";
import { sendingOf, tenantOf, unsubscribeUrlOf } from "./compose.ts";
import { readBroadcast, type Broadcast, type RecipientRow } from "./loadBroadcast.ts";
import { accountOf, blockedReason, composeEmail } from "./send.ts";

const SINGLE_CONCURRENCY = 10;

interface Prepared {
  readonly broadcast: Broadcast;
  readonly source: BulkSource;
  readonly template: RenderedMail;
  readonly account: SendgridAccount;
}

/** Sends to rows of one broadcast. Returns a result for each row, in order. */
export async function sendBroadcast(rows: readonly RecipientRow[], context: JobContext): Promise<readonly Result[]> {
  const prepared = await prepare(rows[0], context);
  if ("outcome" in prepared) return rows.map(() => prepared);

  const ends = new Map<string, Result>();
  const bulk: BulkRecipient[] = [];
  const singles: RecipientRow[] = [];
  await Promise.all(
    rows.map(async (row) => {
      try {
        const recipient = await personalize(prepared, row, context);
        if (recipient === null) singles.push(row);
        else bulk.push(recipient);
      } catch (error) {
        ends.set(row.id, afterRefusal(error));
      }
    }),
  );

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

/** Loads and renders what all recipients need. If that fails, returns the result of every row instead. */
async function prepare(row: RecipientRow | undefined, context: JobContext): Promise<Prepared | Result> {
  const { config, now } = context;
  if (row === undefined) throw new Error("a bulk has no rows");
  let broadcast: Broadcast;
  try {
    broadcast = await readBroadcast(context, row.broadcast_id);
  } catch (error) {
    // Nothing has been sent, so a retry is safe.
    return { outcome: { kind: "retry", reason: messageOf(error) }, providerCalled: false };
  }
  try {
    const account = accountOf(broadcast, config);
    const blocked = blockedReason(sendingOf(broadcast, config).from, config.PUBLIC_URL === undefined, now);
    if (blocked !== null) return { outcome: blocked, providerCalled: false };
    const source = sourceOf(broadcast);
    return { broadcast, account, source, template: await render<"bulk">(row.tenant_id, { kind: "bulk", source }, now) };
  } catch (error) {
    return afterRefusal(error);
  }
}

function sourceOf(broadcast: Broadcast): BulkSource {
  const { subject, body, metadata } = broadcast;
  const tenant = tenantOf(broadcast);
  return { nonce: nonceOf(broadcast), maxValueBytes: MAX_SUBSTITUTION_BYTES, subject, body, metadata, tenant };
}

/**
 * The row's recipient in a bulk call. Null if tags cannot express its values: the row needs a call of
 * its own. Throws an error that is caused by the row.
 */
async function personalize(
  { source }: Prepared,
  row: RecipientRow,
  { config, now }: JobContext,
): Promise<BulkRecipient | null> {
  // A lead's address is not checked when the row is inserted, and SendGrid rejects a call with a bad one.
  if (!isEmailAddress(row.address)) {
    throw new Error(
      `recipient: ${JSON.stringify(row.address)} is not an e-mail address; correct it and set status to pending`,
    );
  }
  const unsubscribeUrl = unsubscribeUrlOf(row, config) ?? "";
  const { metadata, lead } = row;
  const task = { kind: "recipient", source, metadata, lead, unsubscribeUrl } as const;
  const substitutions = await render<"recipient">(row.tenant_id, task, now);
  return substitutions === null ? null : { rowId: row.id, to: row.address, substitutions, unsubscribeUrl };
}

/** Sends the row as a mail of its own. */
async function sendSingle({ broadcast, account }: Prepared, row: RecipientRow, context: JobContext): Promise<Result> {
  if (context.signal.aborted) return notReached;
  try {
    const single = { ...row, ...broadcast, metadata: { ...broadcast.metadata, ...row.metadata } };
    const mail = await composeEmail(single, context);
    const watch = watchRequests();
    const outcome = await watch.run(() => sendMail(account, mail, context.now));
    return { outcome, providerCalled: watch.begun };
  } catch (error) {
    return afterRefusal(error);
  }
}
