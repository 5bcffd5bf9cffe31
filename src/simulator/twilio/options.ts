// Start options and counters of a simulator.

export interface TwilioSimulatorOptions {
  /** 0: any free port. @default 0 */
  port?: number;
  /** SID of the first account. @default AC and 32 digits */
  accountSid?: string;
  /** @default "token-of-the-simulator" */
  authToken?: string;
  /** A number of the first account. @default +15005550006 */
  from?: string;
  /** URL for inbound texts to the first account. @default null: they wait */
  webhookUrl?: string | null;
  /** Interval at which queued posts are flushed. @default null: only by flushEvents() */
  flushMs?: number | null;
  /** Pauses between attempts at a post without a response or with a 5xx. @default [100], one retry as at Twilio */
  retryDelaysMs?: readonly number[];
  /** Timeout for a receiver. @default 15_000, as at Twilio */
  timeoutMs?: number;
  /** true: inbound texts contain OptOutType, and Twilio answers HELP itself. @default false */
  advancedOptOut?: boolean;
  /** Requests per second and account before a 429. @default 1000 */
  requestsPerSecond?: number;
  /** Seed for probabilities, shuffles and lost callbacks. @default 1 */
  seed?: number;
  /** The clock, in Unix milliseconds. @default Date.now */
  now?: () => number;
}

/** Counts of requests to create a text by outcome, of texts and of posts. */
export interface SimulatorStats {
  requests: number;
  accepted: number;
  refused: number;
  faulted: number;
  /** Requests for the list of messages. */
  lists: number;
  /** Accepted texts, including those of faulted requests. */
  messages: number;
  /** Distinct rows in these texts. */
  rows: number;
  /** Texts that people wrote to us. */
  inbound: number;
  queuedEvents: number;
}
