// The effect of a row of ai_sms_queue.
import type { Config } from "../../config.ts";
import type { JobContext } from "../../jobs/define.ts";
import type { Outcome } from "../../jobs/outcome.ts";
import { BrainOpsError, messageOf } from "../../errors.ts";
import { createMessage, outcomeOf, type TwilioAccount, type TwilioError } from "../../providers/twilio.ts";
import { commonAccount, ownAccount } from "./account.ts";
import { composeSms, type ComposedText } from "./compose.ts";
import type { SmsRow } from "./load.ts";
import { e164 } from "./number.ts";

const ASK_AGAIN_MS = 10 * 60_000;

/** Either a number for the gate to judge first, or a text to send. */
export type PreparedSms =
  | { readonly kind: "readdress"; readonly row: SmsRow; readonly number: string }
  | { readonly kind: "send"; readonly row: SmsRow; readonly composed: ComposedText };

/** Throws what makes the row fail. */
export function prepareSms(row: SmsRow): PreparedSms {
  const number = e164(row.address, row.tenant.country);
  if (number === null) {
    throw new Error(
      `recipient: '${row.address.slice(0, 60)}' is no phone number, read as one of ${row.tenant.country} (settings.country); ` +
        "give it with its country code, such as +13035550100",
    );
  }
  if (number !== row.address) return { kind: "readdress", row, number };
  return { kind: "send", row, composed: composeSms(row) };
}

/** Sends the text, or lets the row be judged by the number that was read. */
export async function sendSms(prepared: PreparedSms, context: JobContext): Promise<Outcome> {
  const { row } = prepared;
  if (prepared.kind === "readdress") {
    const failure = await before(context, "select brainops_internal.address_sms($1, $2, $3) as done", [
      row.id,
      row.lease,
      prepared.number,
    ]);
    return failure ?? { kind: "defer", reason: `the number was read as ${prepared.number}`, at: context.now() };
  }
  const account = accountFor(row, context);
  if ("kind" in account) return account;
  const { text, segments } = prepared.composed;
  const failure = await before(context, "select brainops_internal.begin_sms($1, $2, $3, $4, $5, $6, $7, $8) as done", [
    row.id,
    row.lease,
    row.address,
    text,
    segments,
    account.accountSid,
    account.isTenants ? "own" : row.sender,
    row.must_tell,
  ]);
  if (failure !== null) return failure;

  const answer = await createMessage(account, {
    to: row.address,
    from: row.sender ?? account.from,
    body: text,
    ...callbackOf(row, context.config),
  });
  if (answer.kind === "refused") return refused(row, answer.error, account, context);
  const { sid, from, segments: counted } = answer;
  const sent = { sent_at: context.now(), provider_message_id: sid, segments: counted ?? segments };
  return { kind: "completed", result: { ...sent, ...(from === null ? {} : { from_number: from }) } };
}

/** What is written before anything is sent: where that fails, nothing was. Null where all is well. */
async function before(context: JobContext, text: string, values: readonly unknown[]): Promise<Outcome | null> {
  try {
    const { rows } = await context.query(text, values);
    const [row] = rows as { done: boolean }[];
    return row?.done === true ? null : { kind: "retry", reason: "the row was taken away before the text was sent" };
  } catch (error) {
    return { kind: "retry", reason: `before the text was sent: ${messageOf(error)}` };
  }
}

/** The account, or why the row has to wait for one. */
function accountFor(row: SmsRow, { config, now }: JobContext): TwilioAccount | Outcome {
  const wait = (reason: string): Outcome => ({
    kind: "defer",
    reason: `waiting: ${reason}`,
    at: new Date(now().getTime() + ASK_AGAIN_MS),
  });
  if (row.own_account === null) {
    return commonAccount(config) ?? wait("TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN and TWILIO_FROM are not set");
  }
  try {
    return ownAccount(row.own_account, config);
  } catch (error) {
    if (error instanceof BrainOpsError) return wait(error.message);
    throw error;
  }
}

/** Our id travels in the URL, which Twilio signs; without PUBLIC_URL Twilio has nobody to tell. */
function callbackOf(row: SmsRow, config: Config): { statusCallback?: string } {
  if (config.PUBLIC_URL === undefined) return {};
  const token = row.endpoint_token === null ? "" : `/${row.endpoint_token}`;
  const url = new URL(`/webhooks/twilio/status${token}`, config.PUBLIC_URL);
  url.searchParams.set("row", row.id);
  return { statusCallback: url.href };
}

/** What a refusal means beyond the row (suppression, consent, pause) is written before the row is settled. */
async function refused(row: SmsRow, error: TwilioError, account: TwilioAccount, context: JobContext): Promise<Outcome> {
  const outcome = outcomeOf(error, context.now(), account.isTenants || row.sender !== null);
  if (error.code !== null && (outcome.kind === "fail" || outcome.kind === "skip")) {
    await context.query("select brainops_internal.record_sms_refusal($1, $2, $3, $4)", [
      row.id,
      row.lease,
      error.code,
      error.words,
    ]);
  }
  return outcome;
}
