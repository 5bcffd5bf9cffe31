// The registry of error codes: what SQL raises, which class TypeScript sees, what to do about it.
// sql/_README.md lists the same codes for DBAs; test/errors.test.ts fails when SQL, this file and
// that page disagree. A retired code is never used again.

/** What a person who meets the error can do; one sentence, in the imperative. */
interface ErrorEntry {
  readonly name: string;
  readonly remedy: string;
}

/**
 * SQLSTATE -> name and remedy. Class OP is ours: the SQL standard keeps classes that begin with
 * 0-4 and A-H for itself.
 */
export const errorCodes = {
  OP001: {
    name: "tenant_unresolved",
    remedy: "Give tenant_id, set app.tenant_id, or mark one tenant as the default.",
  },
  OP002: {
    name: "unknown_status",
    remedy: "Write one of the job statuses; queued, scheduled, new and open are taken as pending.",
  },
  OP003: {
    name: "status_not_writable",
    remedy: "Write pending to run the row (again) or cancelled to stop it; the worker writes the rest.",
  },
  OP004: { name: "recipient_malformed", remedy: "Give one e-mail address or a lead's id." },
  OP005: { name: "text_not_deliverable", remedy: "Remove the character that is named, or shorten the text." },
  OP006: { name: "metadata_not_object", remedy: "Give metadata as a JSON object, {} for none." },
  OP007: { name: "unknown_name", remedy: "Use one of the names that the message lists." },
  OP008: {
    name: "table_not_protectable",
    remedy: "Do to the table what the message says, then call protect_table again.",
  },
  OP009: { name: "row_not_found", remedy: "Check the table and the id; archived rows are in brainops.job_archive." },
  OP010: { name: "row_not_in_state", remedy: "Look at the row's status; the message says which one the call needs." },
  OP035: { name: "secret_key_missing", remedy: "Set BRAINOPS_SECRET_KEY: openssl rand -base64 32 makes one." },
  OP036: {
    name: "credential_sealed",
    remedy: "Set the BRAINOPS_SECRET_KEY it was sealed with, or write the credential again.",
  },
  OP037: { name: "credential_malformed", remedy: "Give the fields that the message names, as JSON." },
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof errorCodes;

/** An error with a code of the registry. `cause` keeps what led to it. */
export class BrainOpsError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;

  constructor(code: ErrorCode, message: string, options?: { hint?: string; cause?: unknown }) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.name = "BrainOpsError";
    this.code = code;
    this.hint = options?.hint ?? errorCodes[code].remedy;
  }
}

/** The SQLSTATE or Node code of an error, or null where it has none. */
export function codeOf(error: unknown): string | null {
  if (typeof error === "object" && error !== null && "code" in error && typeof error.code === "string") {
    return error.code;
  }
  return null;
}

/** The typed error for one that Postgres raised with a code of ours; anything else is returned as it came. */
export function fromDatabase(error: unknown): unknown {
  const code = codeOf(error);
  if (code === null || !Object.hasOwn(errorCodes, code) || !(error instanceof Error)) return error;
  const hint = "hint" in error && typeof error.hint === "string" ? { hint: error.hint } : {};
  return new BrainOpsError(code as ErrorCode, error.message, { cause: error, ...hint });
}

/** The text of anything thrown. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === "") return error.errors.map(messageOf).join("; ");
  return error instanceof Error ? error.message : String(error);
}
