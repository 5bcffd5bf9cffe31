// What a simulator can be told at its start, and what it counts.

export interface StripeSimulatorOptions {
  /** 0 takes a free one. @default 0 */
  port?: number;
  /** Key of the account that is there from the start. @default "sk_test_simulator" */
  secretKey?: string;
  /** Where that account's events are posted; may also be set later. @default null: there is no endpoint */
  webhookUrl?: string | null;
  /** What fell due happens, and events are flushed, this often by themselves. @default null: only by flushEvents() */
  flushMs?: number | null;
  /** Pauses between attempts at one delivery; their number is the number of retries. @default [100, 300, 1000] */
  retryDelaysMs?: readonly number[];
  /** How long a webhook's receiver may take. @default 10_000 */
  timeoutMs?: number;
  /** Of faults by probability and of shuffles. @default 1 */
  seed?: number;
  /** Unix milliseconds. @default Date.now */
  now?: () => number;
}

/** Requests to the API by outcome, and what came of them and of the people who paid. */
export interface SimulatorStats {
  requests: number;
  /** Executed and answered. */
  accepted: number;
  /** Answered with what is stored under the idempotency key. */
  replayed: number;
  refused: number;
  faulted: number;
  links: number;
  /** Charges that went through. */
  payments: number;
  events: number;
  queuedEvents: number;
}

/** What came of a request. `faulted` covers faults before and after execution. */
export type Outcome = "accepted" | "replayed" | "refused" | "faulted";
