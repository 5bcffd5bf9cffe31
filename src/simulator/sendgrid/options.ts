// What a simulator can be told at its start, and what it counts.

export interface SendgridSimulatorOptions {
  /** 0 takes a free one. @default 0 */
  port?: number;
  /** Keys that are accepted. @default ["SG.simulator"] */
  apiKeys?: readonly string[];
  /** Where events are posted; may also be set later. @default null: events wait */
  webhookUrl?: string | null;
  /** Events are flushed this often by themselves. @default null: only by flushEvents() */
  flushMs?: number | null;
  /** Events per POST at most. @default 1000 */
  batchEvents?: number;
  /** Pauses between attempts at one batch; their number is the number of retries. @default [100, 300, 1000] */
  retryDelaysMs?: readonly number[];
  /** How long the webhook's receiver may take. @default 10_000 */
  timeoutMs?: number;
  /** False makes no events at all: for a bench that has no receiver. @default true */
  events?: boolean;
  /** False keeps counts only, so that memory stays flat. @default true */
  keepMessages?: boolean;
  /** Requests a second before 429. @default 10_000, as the service */
  requestsPerSecond?: number;
  /** Of faults by probability and of shuffles. @default 1 */
  seed?: number;
  /** Unix milliseconds. @default Date.now */
  now?: () => number;
}

/** Requests to /v3/mail/send by outcome, and what came of them. */
export interface SimulatorStats {
  requests: number;
  accepted: number;
  refused: number;
  faulted: number;
  sandboxed: number;
  /** Accepted messages: personalizations, those of faulted requests included. */
  messages: number;
  /** Different values of the custom argument bo_msg among them. */
  rows: number;
  queuedEvents: number;
}
