// The terms of this folder, and the types they have in common.
//
// - row: an entry of a job table, representing work to be done once
// - batch: rows of one table and tenant that share a transaction, to be claimed or settled
// - bulk: rows that share one provider call, such as recipients of a broadcast; they have the same
//   bulk key (the column that brainops.job_tables.bulk_column names)
// - lease: a uuid, fresh for each claiming transaction. A row can be settled only with the lease
//   that is written on it, so a late or second settle changes nothing
// - provider account: what one circuit breaker covers: `sendgrid` is the platform's account,
//   `sendgrid:<tenant id>` a tenant's own
// - in flight: claimed by this worker, and its result not written yet
// - suspect: a row that was in flight when its worker died, twice. It is claimed alone, by a process that has nothing
//   else in flight
import type { JobRow } from "./define.ts";
import type { Result } from "./outcome.ts";

/** A job table and its task, as far as the worker needs them. The object is the same for the worker's whole life. */
export interface JobTable {
  readonly table_name: string;
  readonly task_identifier: string;
  readonly effect_is_idempotent: boolean;
  readonly time_limit_ms: number;
  /** Query that reads claimed rows without a bulk key. $1 is uuid[]. */
  readonly load: string;
  /** Query that reads claimed rows with a bulk key. $1 is uuid[]. Null if the job processes each row alone. */
  readonly loadBulk: string | null;
  readonly missingCredentials: MissingCredentials;
}

/**
 * Why this worker cannot use accounts of the table's provider, as the sentence that waiting rows show in last_error.
 * Null if it can, or if the table has no provider.
 */
export interface MissingCredentials {
  /** For rows that go through the platform's account. */
  readonly platform: string | null;
  /** For rows of tenants with an account of their own. */
  readonly tenant: string | null;
}

/**
 * What a claim does with suspects: it claims them, because the process has nothing else in flight, or passes their ids
 * on.
 */
export type OnSuspects = "claim" | ((table: JobTable, tenantId: string, ids: readonly string[]) => void);

/** A row that this worker has claimed. */
export interface Claimed {
  readonly row: JobRow;
  readonly lease: string;
  /** The row's bulk key; null if it has none. */
  readonly bulk: string | null;
  /** The provider account that the effect goes through; null if the table has no provider. */
  readonly account: string | null;
  /** brainops.now() as of the claim, advanced by this process's monotonic clock. */
  readonly now: () => Date;
}

/** The result of one row, ready to be written. */
export interface Settlement extends Result {
  readonly id: string;
  readonly lease: string;
  /** As in Claimed. */
  readonly account: string | null;
}
