// How the event webhook misbehaves, one mode per thing that receivers have met.
import { randomBytes } from "node:crypto";
import { shuffled } from "./random.ts";
import type { SendgridEvent } from "./types.ts";

export interface WebhookModes {
  /**
   * Every event comes `copies` more times: `same` with its sg_event_id, `new_event_id` with another one, as
   * sendgrid-nodejs #1435 reports (sendgrid/docs #2933 counts 3 on average and up to 46). @default none
   */
  duplicates: "none" | "same" | "new_event_id";
  /** @default 1 */
  copies: number;
  /** Events leave in a seeded random order, not in that of their happening. */
  reorder: boolean;
  /** Each batch has one element that is no event, somewhere among the good ones. */
  malformed: boolean;
  /** Signed with another key: true for every POST, a number for so many POSTs. */
  wrongSignature: boolean | number;
  /** The signed timestamp lies this many seconds in the past. @default 0 */
  oldTimestampSeconds: number;
  /** Every bounce lacks sg_message_id and custom arguments, as asynchronous ones do. */
  bareBounces: boolean;
}

export const goodConduct: Readonly<WebhookModes> = {
  duplicates: "none",
  copies: 1,
  reorder: false,
  malformed: false,
  wrongSignature: false,
  oldTimestampSeconds: 0,
  bareBounces: false,
};

/** The events of a flush as the modes have them: bared, repeated, shuffled. */
export function misbehave(
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

/** Things a list of events must survive; batch n gets the n-th. */
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
