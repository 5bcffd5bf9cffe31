// Start options and counters of a simulator.

export interface SendgridSimulatorOptions {
  /** 0: any free port. @default 0 */
  port?: number;
  /** Keys that are accepted. @default ["SG.simulator"] */
  apiKeys?: readonly string[];
  /** URL of the event webhook; can also be set later. @default null: events wait */
  webhookUrl?: string | null;
  /** Interval at which events are flushed. @default null: only by flushEvents() */
  flushMs?: number | null;
  /** Maximum number of events per POST. @default 1000 */
  batchEvents?: number;
  /** Pauses between the attempts at one batch; their number is the number of retries. @default [100, 300, 1000] */
  retryDelaysMs?: readonly number[];
  /** Timeout for the webhook's receiver. @default 10_000 */
  timeoutMs?: number;
  /** false: no events, for a bench without a receiver. @default true */
  events?: boolean;
  /** false: keeps counts only, so that memory does not grow. @default true */
  keepMessages?: boolean;
  /** Requests per second before a 429. @default 10_000, as at SendGrid */
  requestsPerSecond?: number;
  /** Seed for probabilities and shuffles. @default 1 */
  seed?: number;
  /** The clock, in Unix milliseconds. @default Date.now */
  now?: () => number;
}

/** Counts of requests to /v3/mail/send by outcome, of messages and of events. */
export interface SimulatorStats {
  requests: number;
  accepted: number;
  refused: number;
  faulted: number;
  sandboxed: number;
  /** Accepted messages, i.e. personalizations, including those of faulted requests. */
  messages: number;
  /** Distinct values of the custom argument bo_msg in these messages. */
  rows: number;
  queuedEvents: number;
}
