// The effect of rows of ai_email_queue that belong to a broadcast: one call for up to 1,000 of them.
import { setImmediate } from "node:timers/promises";
import type { Config } from "../../config.ts";
import { messageOf } from "../../errors.ts";
import type { JobContext } from "../../jobs/define.ts";
import { afterRefusal, type Result } from "../../jobs/outcome.ts";
import { sendMail, type SendgridAccount } from "../../providers/sendgrid.ts";
import {
  MOST_RECIPIENTS,
  MOST_SUBSTITUTION_BYTES,
  sendBatch,
  type BatchRecipient,
} from "../../providers/sendgridBatch.ts";
import { composeEmail, postalAddressOf, sendingOf, unsubscribeUrlOf, variablesOf } from "./compose.ts";
import { withFooter } from "./footer.ts";
import { readBroadcast, type Broadcast, type RecipientRow } from "./loadBroadcast.ts";
import { createRecent } from "./recent.ts";
import { accountOf, whyNot } from "./send.ts";
import { makeSheet, type Sheet, type SheetContent } from "./sheet.ts";

// As SendGrid reads an address; one that it refuses would take the whole call with it.
const ADDRESS = /^[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}$/i;
const IN_ONE_TURN = 50;
const ALONE_AT_ONCE = 10;

interface Prepared {
  readonly broadcast: Broadcast;
  readonly sheet: Sheet;
  readonly account: SendgridAccount;
}

export async function sendBroadcast(rows: readonly RecipientRow[], context: JobContext): Promise<readonly Result[]> {
  const prepared = await prepare(rows[0]?.broadcast_id ?? "", context);
  if ("outcome" in prepared) return rows.map(() => prepared);

  const results = new Map<string, Result>();
  const together: BatchRecipient[] = [];
  const alone: RecipientRow[] = [];
  for (const [index, row] of rows.entries()) {
    // In turns with everything else: a thousand templates hold up nobody.
    if (index % IN_ONE_TURN === 0) await setImmediate();
    try {
      const recipient = personalize(prepared, row, context.config);
      if (recipient === null) alone.push(row);
      else together.push(recipient);
    } catch (error) {
      results.set(row.id, afterRefusal(error));
    }
  }

  const mail = { ...prepared.sheet, ...sendingOf(prepared.broadcast, context.config) };
  for (let from = 0; from < together.length; from += MOST_RECIPIENTS) {
    const recipients = together.slice(from, from + MOST_RECIPIENTS);
    const sent = await sendBatch(prepared.account, mail, recipients, context.now);
    for (const [index, { rowId }] of recipients.entries()) results.set(rowId, sent[index] ?? notReached);
  }
  for (let from = 0; from < alone.length; from += ALONE_AT_ONCE) {
    const turn = alone.slice(from, from + ALONE_AT_ONCE);
    const sent = await Promise.all(turn.map((row) => sendAlone(prepared, row, context)));
    for (const [index, { id }] of turn.entries()) results.set(id, sent[index] ?? notReached);
  }
  return rows.map(({ id }) => results.get(id) ?? notReached);
}

const notReached: Result = { outcome: { kind: "retry", reason: "its turn did not come" }, providerCalled: false };

/** What all recipients need; where it is not to be had, what that means for each of them. */
async function prepare(id: string, context: JobContext): Promise<Prepared | Result> {
  const { config, now } = context;
  let broadcast: Broadcast;
  try {
    broadcast = await readBroadcast(context, id);
  } catch (error) {
    // Nothing has left this machine.
    return { outcome: { kind: "retry", reason: messageOf(error) }, providerCalled: false };
  }
  try {
    const account = accountOf(broadcast, config);
    const wait = whyNot(sendingOf(broadcast, config).from, config.PUBLIC_URL === undefined, now);
    return wait === null
      ? { broadcast, account, sheet: sheetOf(JSON.stringify(contentOf(broadcast))) }
      : { outcome: wait, providerCalled: false };
  } catch (error) {
    return afterRefusal(error);
  }
}

const sheetOf = createRecent((content) => makeSheet(JSON.parse(content) as SheetContent));

function contentOf(broadcast: Broadcast): SheetContent {
  return { subject: broadcast.subject, body: withFooter(broadcast.body, postalAddressOf(broadcast)) };
}

/** Null for one whose values don't fit beside the others': it gets a call of its own. Throws what is the row's own fault. */
function personalize({ broadcast, sheet }: Prepared, row: RecipientRow, config: Config): BatchRecipient | null {
  if (!ADDRESS.test(row.address) || row.address.length > 254) {
    throw new Error(
      `recipient: ${JSON.stringify(row.address)} is not an e-mail address; mend it and set status to pending`,
    );
  }
  const unsubscribeUrl = unsubscribeUrlOf(row, config) ?? "";
  const { tenant } = broadcast;
  const variables = variablesOf({ tenant, lead: row.lead, metadata: metadataOf(broadcast, row) }, unsubscribeUrl);
  const substitutions = sheet.substitutions(variables);
  if (substitutions === null || !fits(substitutions)) return null;
  return { rowId: row.id, to: row.address, substitutions, unsubscribeUrl };
}

function fits(substitutions: Readonly<Record<string, string>>): boolean {
  let units = 2;
  for (const [tag, value] of Object.entries(substitutions)) units += tag.length + value.length + 6;
  // A unit of UTF-16 takes six bytes at most, as \\u0000.
  return (
    units * 6 <= MOST_SUBSTITUTION_BYTES || Buffer.byteLength(JSON.stringify(substitutions)) <= MOST_SUBSTITUTION_BYTES
  );
}

function metadataOf(broadcast: Broadcast, row: RecipientRow): RecipientRow["metadata"] {
  return { ...broadcast.metadata, ...row.metadata };
}

async function sendAlone({ broadcast, account }: Prepared, row: RecipientRow, context: JobContext): Promise<Result> {
  if (context.signal.aborted) return notReached;
  try {
    // As if it were a mail of its own.
    const alone = { ...row, ...broadcast, metadata: metadataOf(broadcast, row) };
    const mail = composeEmail(alone, context.config);
    return { outcome: await sendMail(account, mail, context.now), providerCalled: true };
  } catch (error) {
    return afterRefusal(error);
  }
}
