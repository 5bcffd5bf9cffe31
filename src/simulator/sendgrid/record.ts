// The messages that the simulator accepted. The counts answer "how many times was row X sent", the purpose of a fault
// test; they are kept even if the messages are not.
import type { AcceptedMessage, MailSend } from "./types.ts";

/** The custom argument that contains the id of the client's row. */
const rowArgument = "bo_msg";

export class MessageRecord {
  /** In order of acceptance. Empty if `keep` is false. */
  readonly messages: AcceptedMessage[] = [];
  /** Accepted messages, kept or not. */
  total = 0;
  readonly #counts = new Map<string, number>();
  readonly #keep: boolean;

  constructor(keep: boolean) {
    this.#keep = keep;
  }

  /** Accepts every personalization of the request; `at` in Unix milliseconds. */
  accept(mail: MailSend, messageId: string, at: number): AcceptedMessage[] {
    const accepted = mail.personalizations.map((_, index) => toMessage(mail, index, messageId, at));
    for (const message of accepted) {
      const row = message.customArgs[rowArgument];
      if (row !== undefined) this.#counts.set(row, this.acceptedCount(row) + 1);
    }
    this.total += accepted.length;
    if (this.#keep) this.messages.push(...accepted.map((message, index) => filledIn(message, mail, index)));
    return accepted;
  }

  acceptedCount(rowId: string): number {
    return this.#counts.get(rowId) ?? 0;
  }

  /** Rows that were sent more than once, with the count; must be empty at the end of a fault test. */
  duplicates(): { rowId: string; count: number }[] {
    return [...this.#counts].filter(([, count]) => count > 1).map(([rowId, count]) => ({ rowId, count }));
  }

  /** The number of distinct rows that were accepted. */
  get rows(): number {
    return this.#counts.size;
  }

  clear(): void {
    this.messages.length = 0;
    this.total = 0;
    this.#counts.clear();
  }
}

/** "Personalizations … override" the values of the request; headers and custom_args are merged key by key. */
function toMessage(mail: MailSend, index: number, messageId: string, at: number): AcceptedMessage {
  const own = mail.personalizations[index] ?? { to: [] };
  return {
    messageId,
    at,
    to: own.to,
    cc: own.cc ?? [],
    bcc: own.bcc ?? [],
    from: own.from ?? mail.from,
    replyTo: mail.reply_to ?? mail.reply_to_list?.[0] ?? null,
    subject: own.subject ?? mail.subject ?? null,
    content: mail.content ?? [],
    headers: { ...mail.headers, ...own.headers },
    customArgs: { ...mail.custom_args, ...own.custom_args },
    categories: mail.categories ?? [],
    sendAt: own.send_at ?? mail.send_at ?? null,
    asmGroupId: mail.asm?.group_id ?? null,
  };
}

/** "Substitutions will apply to the text and html content of the body of your email, in addition to the subject and reply-to parameters." */
function filledIn(message: AcceptedMessage, mail: MailSend, index: number): AcceptedMessage {
  const pairs = Object.entries(mail.personalizations[index]?.substitutions ?? {});
  if (pairs.length === 0) return message;
  const fill = (text: string): string =>
    pairs.reduce((filled, [tag, value]) => filled.replaceAll(tag, () => value), text);
  return {
    ...message,
    subject: message.subject === null ? null : fill(message.subject),
    content: message.content.map(({ type, value }) => ({ type, value: fill(value) })),
  };
}
