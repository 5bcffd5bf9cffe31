// Start options and counters of a simulator.

export interface StripeSimulatorOptions {
  /** 0: any free port. @default 0 */
  port?: number;
  /** Secret key of the first account. @default "sk_test_simulator" */
  secretKey?: string;
  /** URL for that account's events; can also be set later. @default null: no endpoint */
  webhookUrl?: string | null;
  /** Interval at which due actions run and events are flushed. @default null: only by flushEvents() */
  flushMs?: number | null;
  /** Pauses between the attempts at one delivery; their number is the number of retries. @default [100, 300, 1000] */
  retryDelaysMs?: readonly number[];
  /** Timeout for a webhook receiver. @default 10_000 */
  timeoutMs?: number;
  /** Seed for probabilities and shuffles. @default 1 */
  seed?: number;
  /** The clock, in Unix milliseconds. @default Date.now */
  now?: () => number;
}

/** Counts of API requests by outcome, of payments, and of events. */
export interface SimulatorStats {
  requests: number;
  /** Executed, with a success response. */
  accepted: number;
  /** Answered with the stored response of the idempotency key. */
  replayed: number;
  refused: number;
  faulted: number;
  links: number;
  /** Successful charges. */
  payments: number;
  events: number;
  queuedEvents: number;
}

/** The outcome of a request. `faulted` includes faults before and after execution. */
export type Outcome = "accepted" | "replayed" | "refused" | "faulted";
