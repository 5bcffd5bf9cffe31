// How the event webhooks misbehave; each mode is a problem that receivers have had in practice.
import { shuffled } from "../../sendgrid/random.ts";
import { newId } from "../ids.ts";
import type { StripeEvent } from "../types.ts";

export interface WebhookModes {
  /**
   * Every delivery is repeated `copies` times: `same` is the same event, `new_event` an event with another id about the
   * same change, which Stripe says may happen. @default none
   */
  duplicates: "none" | "same" | "new_event";
  /** @default 1 */
  copies: number;
  /** Events are sent in a seeded random order; Stripe guarantees no order. */
  reorder: boolean;
  /** Events of these types are held back while the mode is set, e.g. ["checkout.session.*"]. @default none */
  late: readonly string[];
  /** How many deliveries run concurrently. @default 1 */
  concurrent: number;
  /** Each flush also posts a correctly signed body that is not an event. */
  malformed: boolean;
  /** Signed with another secret: true for every POST, a number for that many POSTs. */
  wrongSignature: boolean | number;
  /** The signed timestamp is this many seconds in the past. @default 0 */
  oldTimestampSeconds: number;
}

export const defaultModes: Readonly<WebhookModes> = {
  duplicates: "none",
  copies: 1,
  reorder: false,
  late: [],
  concurrent: 1,
  malformed: false,
  wrongSignature: false,
  oldTimestampSeconds: 0,
};

/** One event to be sent to one endpoint. */
export interface Delivery {
  event: StripeEvent;
  url: string;
  secret: string;
}

/** Whether a type matches one of these patterns; `*` matches any text. */
export function matches(type: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => {
    const [head = "", ...rest] = pattern.split("*");
    return rest.length === 0 ? type === head : type.startsWith(head) && type.endsWith(rest.at(-1) ?? "");
  });
}

/** Splits the queue by the modes into what is sent now and what is held back. */
export function applyModes(
  queue: readonly Delivery[],
  modes: WebhookModes,
  random: () => number,
): { leaving: Delivery[]; held: Delivery[] } {
  const held = queue.filter(({ event }) => matches(event.type, modes.late));
  const due = queue.filter(({ event }) => !matches(event.type, modes.late));
  const copies = modes.duplicates === "none" ? [] : Array.from({ length: modes.copies }, () => due).flat();
  const repeats = modes.duplicates === "new_event" ? renamed(copies) : copies;
  const all = [...due, ...repeats];
  return { leaving: modes.reorder ? shuffled(all, random) : all, held };
}

function renamed(deliveries: readonly Delivery[]): Delivery[] {
  return deliveries.map((delivery) => ({ ...delivery, event: { ...delivery.event, id: newId("event") } }));
}

/** Bodies that a receiver must tolerate; flush n uses the n-th. */
export const notEvents: readonly string[] = [
  "null",
  "[]",
  '"checkout.session.completed"',
  "{}",
  '{"id":"evt_1","object":"event","type":"checkout.session.completed"',
  '{"id":7,"object":"event","type":["invoice.paid"],"created":"yesterday","data":{"object":null}}',
  '{"id":"evt_unheard","object":"event","type":"teleporter.charged","created":1700000000,"data":{"object":{"id":"tp_1"}}}',
];
