// All messages, and who has opted out. The counts answer "how many times was row X sent", the purpose of a fault test.
import { randomBytes } from "node:crypto";
import type { Message } from "./types.ts";

export class MessageRecord {
  /** In order of creation, including inbound texts and Twilio's own replies. */
  readonly all: Message[] = [];
  sentCount = 0;
  inboundCount = 0;
  readonly #bySid = new Map<string, Message>();
  readonly #counts = new Map<string, number>();
  /** Keys of account, our number and the person's number. */
  readonly #optedOut = new Set<string>();

  add(message: Message): void {
    this.all.push(message);
    this.#bySid.set(message.sid, message);
    if (message.direction === "outbound-api") this.sentCount += 1;
    if (message.direction === "inbound") this.inboundCount += 1;
    if (message.direction === "outbound-api" && message.row !== null) {
      this.#counts.set(message.row, this.acceptedCount(message.row) + 1);
    }
  }

  find(accountSid: string, sid: string): Message | null {
    const message = this.#bySid.get(sid);
    return message?.accountSid === accountSid ? message : null;
  }

  get sent(): readonly Message[] {
    return this.all.filter(({ direction }) => direction === "outbound-api");
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

  /** Blocks or unblocks texts from our number to the person. */
  setOptOut(accountSid: string, ours: string, person: string, isOut: boolean): void {
    const key = `${accountSid} ${ours} ${person}`;
    if (isOut) this.#optedOut.add(key);
    else this.#optedOut.delete(key);
  }

  hasOptedOut(accountSid: string, ours: string, person: string): boolean {
    return this.#optedOut.has(`${accountSid} ${ours} ${person}`);
  }

  clear(): void {
    this.all.length = 0;
    this.sentCount = 0;
    this.inboundCount = 0;
    this.#bySid.clear();
    this.#counts.clear();
    this.#optedOut.clear();
  }
}

/** SM and 32 hexadecimal digits. Not seeded, so that two simulators never share an id. */
export function messageSid(): string {
  return `SM${randomBytes(16).toString("hex")}`;
}
