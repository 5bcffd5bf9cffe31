// How the event webhook misbehaves; each mode is a problem that receivers have had in practice.
import { randomBytes } from "node:crypto";
import { shuffled } from "./random.ts";
import type { SendgridEvent } from "./types.ts";

export interface WebhookModes {
  /**
   * Every event is repeated `copies` times: `same` with its sg_event_id, `new_event_id` with another one, as
   * sendgrid-nodejs #1435 reports (sendgrid/docs #2933 counts 3 on average and up to 46). @default none
   */
  duplicates: "none" | "same" | "new_event_id";
  /** @default 1 */
  copies: number;
  /** Events are sent in a seeded random order instead of their own. */
  reorder: boolean;
  /** Each batch has one element that is not an event, in the middle of the others. */
  malformed: boolean;
  /** Signed with another key: true for every POST, a number for that many POSTs. */
  wrongSignature: boolean | number;
  /** The signed timestamp is this many seconds in the past. @default 0 */
  oldTimestampSeconds: number;
  /** Every bounce lacks sg_message_id and custom arguments, like asynchronous bounces. */
  bareBounces: boolean;
}

export const defaultModes: Readonly<WebhookModes> = {
  duplicates: "none",
  copies: 1,
  reorder: false,
  malformed: false,
  wrongSignature: false,
  oldTimestampSeconds: 0,
  bareBounces: false,
};

/** The events of a flush after the modes are applied: fields removed, repeated, shuffled. */
export function applyModes(
  events: readonly SendgridEvent[],
  modes: WebhookModes,
  random: () => number,
): SendgridEvent[] {
  const bared = modes.bareBounces ? events.map(bare) : [...events];
  const repeats = modes.duplicates === "none" ? [] : Array.from({ length: modes.copies }, () => bared).flat();
  const renamed =
    modes.duplicates === "new_event_id"
      ? repeats.map((event) => ({ ...event, sg_event_id: randomBytes(16).toString("base64url") }))
      : repeats;
  const all = [...bared, ...renamed];
  return modes.reorder ? shuffled(all, random) : all;
}

const bounceFields = new Set(
  "email timestamp event smtp-id sg_event_id type status reason bounce_classification ip tls".split(" "),
);

function bare(event: SendgridEvent): SendgridEvent {
  if (event.event !== "bounce") return event;
  const { email, timestamp, event: name, ...rest } = event;
  return { email, timestamp, event: name, ...pick(rest) };
}

function pick(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => bounceFields.has(name)));
}

/** Elements that a receiver must tolerate; batch n uses the n-th. */
const notEvents: readonly unknown[] = [
  null,
  "delivered",
  { event: "delivered" },
  { email: { address: "a@example.com" }, timestamp: "yesterday", event: 7, sg_event_id: ["x"] },
  { email: "a@example.com", timestamp: 1_700_000_000, event: "teleported", sg_event_id: "unheard-of" },
  [],
];

export function withMalformed(batch: readonly unknown[], nth: number): unknown[] {
  const middle = Math.floor(batch.length / 2);
  return [...batch.slice(0, middle), notEvents[nth % notEvents.length], ...batch.slice(middle)];
}
