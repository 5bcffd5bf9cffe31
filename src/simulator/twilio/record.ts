// What the simulator knows: every message, and who wants none. The counts answer "how many times was row X
// sent", which is the whole point of a fault test.
import { randomBytes } from "node:crypto";
import type { Message } from "./types.ts";

export class MessageRecord {
  /** In the order of their creation, inbound ones and the provider's own replies included. */
  readonly all: Message[] = [];
  sentCount = 0;
  inboundCount = 0;
  readonly #bySid = new Map<string, Message>();
  readonly #counts = new Map<string, number>();
  /** Account, our number, person. */
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

  /** Rows sent more than once, with how often: what must be empty at the end of a fault test. */
  duplicates(): { rowId: string; count: number }[] {
    return [...this.#counts].filter(([, count]) => count > 1).map(([rowId, count]) => ({ rowId, count }));
  }

  /** How many different rows were accepted. */
  get rows(): number {
    return this.#counts.size;
  }

  /** From now on the person gets nothing from our number, or something again. */
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

/** SM and 32 hexadecimal digits. Not seeded: two simulators never share one. */
export function messageSid(): string {
  return `SM${randomBytes(16).toString("hex")}`;
}
