// The effect of a row of ai_sms_queue.
import type { Config } from "../../config.ts";
import type { JobContext } from "../../jobs/define.ts";
import type { Outcome } from "../../jobs/outcome.ts";
import { BrainOpsError, messageOf } from "../../errors.ts";
import { createMessage, outcomeOf, type TwilioAccount, type TwilioError } from "../../providers/twilio.ts";
import { deferUntilSet } from "../retry.ts";
import { platformAccount, tenantAccount } from "./account.ts";
import { render } from "../rendering/index.ts";
import type { RenderedText, TextTask } from "../rendering/tasks.ts";
import type { SmsRow } from "./load.ts";
import { e164 } from "./number.ts";

/**
 * readdress: only this program could read the recipient's number, so the gate must check the row again with it. send: a
 * text to send.
 */
export type PreparedSms =
  | { readonly kind: "readdress"; readonly row: SmsRow; readonly number: string }
  | { readonly kind: "send"; readonly row: SmsRow; readonly composed: RenderedText };

/** Throws an error that is caused by the row, which fails with its message, or what render throws. */
export async function prepareSms(row: SmsRow, { now }: Pick<JobContext, "now">): Promise<PreparedSms> {
  const number = e164(row.address, row.tenant.country);
  if (number === null) {
    throw new Error(
      `recipient: '${row.address.slice(0, 60)}' is not a phone number of ${row.tenant.country} (settings.country); ` +
        "give a number with its country code, such as +13035550100",
    );
  }
  if (number !== row.address) return { kind: "readdress", row, number };
  return { kind: "send", row, composed: await render<"text">(row.tenant_id, textTaskOf(row), now) };
}

/** What the row's template is rendered from. */
export function textTaskOf({ body, metadata, lead, tenant, must_tell }: SmsRow): TextTask {
  const { name, slug } = tenant;
  return { kind: "text", body, metadata, lead, tenant: { name, slug, postalAddress: null }, mustTell: must_tell };
}

/** Sends the text, or returns the row to the gate with the number that was read. */
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
    account.owner === "tenant" ? "own" : row.sender,
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
  if (answer.kind !== "accepted") return answer;
  const { sid, from, segments: billed } = answer;
  const sent = { sent_at: context.now(), provider_message_id: sid, segments: billed ?? segments };
  return { kind: "completed", result: { ...sent, ...(from === null ? {} : { from_number: from }) } };
}

/** Runs a statement before the text is sent. Null if it succeeded; otherwise nothing was sent, so a retry is safe. */
async function before(context: JobContext, text: string, values: readonly unknown[]): Promise<Outcome | null> {
  try {
    const { rows } = await context.query(text, values);
    const [row] = rows as { done: boolean }[];
    return row?.done === true ? null : { kind: "retry", reason: "the row lost its lease before the text was sent" };
  } catch (error) {
    return { kind: "retry", reason: `before the text was sent: ${messageOf(error)}` };
  }
}

/** The account, or a defer outcome if it has none. */
function accountFor(row: SmsRow, { config, now }: JobContext): TwilioAccount | Outcome {
  if (row.own_account === null) {
    const missing = "TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN and TWILIO_FROM are not set";
    return platformAccount(config) ?? deferUntilSet(missing, now());
  }
  try {
    return tenantAccount(row.own_account, config);
  } catch (error) {
    if (error instanceof BrainOpsError) return deferUntilSet(error.message, now());
    throw error;
  }
}

/** The row's id is part of the callback URL, which Twilio signs. Without PUBLIC_URL, Twilio sends no callbacks. */
function callbackOf(row: SmsRow, config: Config): { statusCallback?: string } {
  if (config.PUBLIC_URL === undefined) return {};
  const token = row.endpoint_token === null ? "" : `/${row.endpoint_token}`;
  const url = new URL(`/webhooks/twilio/status${token}`, config.PUBLIC_URL);
  url.searchParams.set("row", row.id);
  return { statusCallback: url.href };
}

/** Classifies a refusal. Its effects beyond the row (suppression, consent) are written before the row is settled. */
async function refused(row: SmsRow, error: TwilioError, account: TwilioAccount, context: JobContext): Promise<Outcome> {
  const owner = account.owner === "tenant" || row.sender !== null ? "tenant" : "platform";
  const outcome = outcomeOf(error, context.now(), owner);
  if (error.code !== null && (outcome.kind === "fail" || outcome.kind === "skip")) {
    await context.query("select brainops_internal.record_sms_refusal($1, $2, $3, $4)", [
      row.id,
      row.lease,
      error.code,
      error.message,
    ]);
  }
  return outcome;
}
