// Behind the API: texts are sent and get their fate, people write, and the webhooks receive both.
import { optedOut } from "./create.ts";
import { fateOf, keywordOf } from "./numbers.ts";
import { messageSid, type MessageRecord } from "./record.ts";
import { errorMessageOf, resourceOf, VERSION } from "./resource.ts";
import { billedSegments } from "./segments.ts";
import type { Account, CreateRequest, Fate, Message, Refusal, Status } from "./types.ts";
import type { Webhooks } from "./webhooks.ts";

export interface Inbound {
  readonly sid: string;
  /** The keyword that Twilio recognised; null for any other text. */
  readonly keyword: "stop" | "start" | "help" | null;
}

export class Exchange {
  /** The fate of texts to a number. For other numbers the last five digits decide. */
  readonly fates = new Map<string, Fate>();
  readonly #record: MessageRecord;
  readonly #webhooks: Webhooks;
  readonly #now: () => number;
  readonly #advancedOptOut: boolean;

  constructor(record: MessageRecord, webhooks: Webhooks, now: () => number, advancedOptOut: boolean) {
    this.#record = record;
    this.#webhooks = webhooks;
    this.#now = now;
    this.#advancedOptOut = advancedOptOut;
  }

  refusalOf(account: Account, { from, to }: CreateRequest): Refusal | null {
    const sender = from ?? account.from;
    return this.#record.hasOptedOut(account.accountSid, sender, to) ? optedOut(sender) : null;
  }

  /** Records the text as sent and returns its initial resource; status changes follow as callbacks. */
  accept(account: Account, request: CreateRequest): Record<string, unknown> {
    const message = this.#add(account, {
      direction: "outbound-api",
      from: request.from ?? account.from,
      to: request.to,
      body: request.body,
      messagingServiceSid: request.messagingServiceSid,
      statusCallback: request.statusCallback,
      status: request.messagingServiceSid === null ? "queued" : "accepted",
    });
    const first = resourceOf(message);
    const fate = this.fates.get(message.to) ?? fateOf(message.to);
    if (fate.status === "silent") return first;
    for (const status of stepsOf(fate.status)) this.#setStatus(account, message, status, fate);
    return first;
  }

  /** A person writes to a number of the account. Twilio's keywords take effect before the webhook receives the text. */
  receive(account: Account, from: string, to: string, body: string): Inbound {
    const keyword = keywordOf(body);
    const message = this.#add(account, { direction: "inbound", from, to, body, status: "received" });
    if (keyword === "stop" || keyword === "start") {
      this.#record.setOptOut(account.accountSid, to, from, keyword === "stop");
      this.#reply(account, message, keyword === "stop" ? UNSUBSCRIBED : RESUBSCRIBED);
    } else if (keyword === "help" && this.#advancedOptOut) {
      this.#reply(account, message, "Reply STOP to unsubscribe. Msg&Data Rates May Apply.");
    }
    this.#webhooks.push(account, null, {
      ...parametersOf(message),
      SmsMessageSid: message.sid,
      SmsStatus: "received",
      NumMedia: "0",
      NumSegments: String(message.segments),
      Body: body,
      FromCountry: "US",
      ToCountry: "US",
      ...(this.#advancedOptOut && keyword !== null ? { OptOutType: keyword.toUpperCase() } : {}),
    });
    return { sid: message.sid, keyword };
  }

  /** Twilio's reply to a keyword: in the list of messages, but without a webhook. */
  #reply(account: Account, { from, to }: Message, body: string): void {
    this.#add(account, { direction: "outbound-reply", from: to, to: from, body, status: "delivered" });
  }

  #add(
    account: Account,
    fields: Pick<Message, "direction" | "from" | "to" | "body" | "status"> & Partial<Message>,
  ): Message {
    const { statusCallback = null } = fields;
    const message: Message = {
      sid: messageSid(),
      accountSid: account.accountSid,
      at: this.#now(),
      segments: billedSegments(fields.body),
      messagingServiceSid: null,
      errorCode: null,
      ...fields,
      statusCallback,
      row: statusCallback === null ? null : new URL(statusCallback).searchParams.get("row"),
    };
    this.#record.add(message);
    return message;
  }

  #setStatus(account: Account, message: Message, status: Status, fate: Fate): void {
    message.status = status;
    const isLast = status === fate.status;
    const code = isLast && "errorCode" in fate ? fate.errorCode : null;
    message.errorCode = code;
    if (message.statusCallback === null) return;
    this.#webhooks.push(account, message.statusCallback, {
      ...parametersOf(message),
      SmsStatus: status,
      MessageStatus: status,
      ...(code === null ? {} : { ErrorCode: String(code), ErrorMessage: errorMessageOf(code) ?? "" }),
    });
  }
}

const UNSUBSCRIBED =
  "You have successfully been unsubscribed. You will not receive any more messages from this number. Reply START to resubscribe.";
const RESUBSCRIBED =
  "You have successfully been re-subscribed to messages from this number. Reply HELP for help. Reply STOP to unsubscribe. Msg&Data Rates May Apply.";

/** The status callbacks of a text, in order. Its initial status is in the response and has no callback. */
function stepsOf(last: Exclude<Fate["status"], "silent">): Status[] {
  return last === "failed" || last === "sent" ? [last] : ["sent", last];
}

function parametersOf({ sid, accountSid, from, to }: Message): Record<string, string> {
  return { MessageSid: sid, SmsSid: sid, AccountSid: accountSid, From: from, To: to, ApiVersion: VERSION };
}
