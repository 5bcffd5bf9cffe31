// What a simulator can be told at its start, and what it counts.

export interface TwilioSimulatorOptions {
  /** 0 takes a free one. @default 0 */
  port?: number;
  /** Of the first account. @default AC and 32 digits */
  accountSid?: string;
  /** @default "token-of-the-simulator" */
  authToken?: string;
  /** A number of the first account. @default +15005550006 */
  from?: string;
  /** Where inbound texts to the first account go. @default null: they wait */
  webhookUrl?: string | null;
  /** What is queued is posted this often by itself. @default null: only by flushEvents() */
  flushMs?: number | null;
  /** Pauses between attempts at one post that got no answer or a 5xx. @default [100], as the service: one more */
  retryDelaysMs?: readonly number[];
  /** How long a receiver may take to answer. @default 15_000, as the service */
  timeoutMs?: number;
  /** Inbound texts come with OptOutType, and the provider answers HELP itself. @default false */
  advancedOptOut?: boolean;
  /** Requests a second and account before 429. @default 1000 */
  requestsPerSecond?: number;
  /** Of faults by probability, of shuffles and of what is lost. @default 1 */
  seed?: number;
  /** Unix milliseconds. @default Date.now */
  now?: () => number;
}

/** Requests to create a text by outcome, and what came of them. */
export interface SimulatorStats {
  requests: number;
  accepted: number;
  refused: number;
  faulted: number;
  /** Requests for the list of messages. */
  lists: number;
  /** Accepted texts, those of faulted requests included. */
  messages: number;
  /** Different rows among them. */
  rows: number;
  /** Texts that people wrote. */
  inbound: number;
  queuedEvents: number;
}
