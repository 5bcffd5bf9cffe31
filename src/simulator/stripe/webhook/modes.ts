// How webhooks misbehave, one mode per thing that receivers have met.
import { shuffled } from "../../sendgrid/random.ts";
import { newId } from "../ids.ts";
import type { StripeEvent } from "../types.ts";

export interface WebhookModes {
  /**
   * Every delivery comes `copies` more times: `same` is the same event again, `new_event` another event with another
   * id about the same change, which Stripe says may happen. @default none
   */
  duplicates: "none" | "same" | "new_event";
  /** @default 1 */
  copies: number;
  /** Events leave in a seeded random order: Stripe promises none. */
  reorder: boolean;
  /** Events of these types are held back as long as the mode stands, e.g. ["checkout.session.*"]. @default none */
  late: readonly string[];
  /** How many deliveries are under way at a time. @default 1 */
  concurrent: number;
  /** Each flush also posts, well signed, something that is no event. */
  malformed: boolean;
  /** Signed with another secret: true for every POST, a number for so many POSTs. */
  wrongSignature: boolean | number;
  /** The signed timestamp lies this many seconds in the past. @default 0 */
  oldTimestampSeconds: number;
}

export const goodConduct: Readonly<WebhookModes> = {
  duplicates: "none",
  copies: 1,
  reorder: false,
  late: [],
  concurrent: 1,
  malformed: false,
  wrongSignature: false,
  oldTimestampSeconds: 0,
};

/** One event on its way to one endpoint. */
export interface Delivery {
  event: StripeEvent;
  url: string;
  secret: string;
}

/** Whether a type is among these; `*` stands for any text. */
export function wanted(type: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => {
    const [head = "", ...rest] = pattern.split("*");
    return rest.length === 0 ? type === head : type.startsWith(head) && type.endsWith(rest.at(-1) ?? "");
  });
}

/** What leaves now, as the modes have it, and what is held back. */
export function misbehave(
  queue: readonly Delivery[],
  modes: WebhookModes,
  random: () => number,
): { leaving: Delivery[]; held: Delivery[] } {
  const held = queue.filter(({ event }) => wanted(event.type, modes.late));
  const due = queue.filter(({ event }) => !wanted(event.type, modes.late));
  const copies = modes.duplicates === "none" ? [] : Array.from({ length: modes.copies }, () => due).flat();
  const repeats = modes.duplicates === "new_event" ? renamed(copies) : copies;
  const all = [...due, ...repeats];
  return { leaving: modes.reorder ? shuffled(all, random) : all, held };
}

function renamed(deliveries: readonly Delivery[]): Delivery[] {
  return deliveries.map((delivery) => ({ ...delivery, event: { ...delivery.event, id: newId("event") } }));
}

/** Bodies a receiver must survive; flush n gets the n-th. */
export const notEvents: readonly string[] = [
  "null",
  "[]",
  '"checkout.session.completed"',
  "{}",
  '{"id":"evt_1","object":"event","type":"checkout.session.completed"',
  '{"id":7,"object":"event","type":["invoice.paid"],"created":"yesterday","data":{"object":null}}',
  '{"id":"evt_unheard","object":"event","type":"teleporter.charged","created":1700000000,"data":{"object":{"id":"tp_1"}}}',
];
