// The registry of error codes: what SQL raises, which class TypeScript sees, what to do about it.
// sql/_README.md lists the same codes for DBAs; test/errors.test.ts fails when SQL, this file and
// that page disagree. A retired code is never used again.

/** What the person who gets the error can do; one sentence, in the imperative. */
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
    remedy: "Write one of the job statuses; queued, scheduled, new and open count as pending.",
  },
  OP003: {
    name: "status_not_writable",
    remedy: "Write pending to run the row (again) or cancelled to stop it; only workers write the other statuses.",
  },
  OP004: { name: "recipient_malformed", remedy: "Give one e-mail address or a lead's id." },
  OP005: { name: "text_not_deliverable", remedy: "Remove the character that the message names, or shorten the text." },
  OP006: {
    name: "metadata_not_object",
    remedy: "Give metadata as a JSON object within the size that the message names; use {} for no values.",
  },
  OP007: { name: "unknown_name", remedy: "Use one of the names that the message lists." },
  OP008: {
    name: "table_not_protectable",
    remedy: "Change the table as the message says, then call protect_table again.",
  },
  OP009: { name: "row_not_found", remedy: "Check the table and the id; archived rows are in brainops.job_archive." },
  OP010: { name: "row_not_in_state", remedy: "Check the row's status; the message says which one the call needs." },
  OP011: { name: "lead_stage_refused", remedy: "Write a stage that the message or its hint names." },
  OP012: {
    name: "lead_is_another",
    remedy: "Merge the two leads with brainops.merge_leads, or give them different addresses.",
  },
  OP013: { name: "lead_without_address", remedy: "Give an e-mail address, or a phone number with its country code." },
  OP014: {
    name: "cap_window_too_long",
    remedy: "Use a shorter window, or keep finished rows longer (job_tables.archive_after).",
  },
  OP015: { name: "zones_missing", remedy: "Give at least one IANA time zone and a finite timestamp." },
  OP017: {
    name: "phone_number_malformed",
    remedy: "Give one phone number with its country code, or a lead's id.",
  },
  OP018: {
    name: "phone_number_taken",
    remedy: "Delete the other tenant's row first; tenants that share a number use TWILIO_FROM.",
  },
  OP020: {
    name: "campaign_unknown",
    remedy: "Name a campaign of the tenant that has a published version and is not archived.",
  },
  OP021: {
    name: "version_in_use",
    remedy: "Create a new version: call brainops.revise_campaign, or insert the template again.",
  },
  OP022: { name: "campaign_not_publishable", remedy: "Fix what the message names, then publish or write it again." },
  OP023: {
    name: "enrolment_over",
    remedy: "Enrol the lead again; the campaign's reentry says whether that is allowed.",
  },
  OP024: {
    name: "touch_type_unknown",
    remedy: "Write email or sms; the other kinds exist only as steps of a campaign.",
  },
  OP025: {
    name: "plan_unknown",
    remedy: "Name an active plan by plan_id, plan_code or product_service, or insert one.",
  },
  OP026: {
    name: "price_not_plans",
    remedy: "Leave amount and currency out; for another price insert a plan, then a new request.",
  },
  OP027: {
    name: "amount_not_payable",
    remedy: "Give an amount above zero that is a whole number of the currency's smallest units.",
  },
  OP028: { name: "currency_unknown", remedy: "Use a code from brainops.currencies." },
  OP029: {
    name: "payment_status_not_writable",
    remedy: "Write cancelled, open or paid where the message allows it; Stripe's events write the other values.",
  },
  OP030: {
    name: "onboarding_state_refused",
    remedy: "First do what the hint says: reopen the step, or the workflow that it belongs to.",
  },
  OP031: {
    name: "marketing_not_ready",
    remedy: "Fix what the message names; brainops.launch_problems lists it.",
  },
  OP032: {
    name: "person_not_named",
    remedy: "Give an e-mail address, or a phone number with its country code.",
  },
  OP035: { name: "secret_key_missing", remedy: "Set BRAINOPS_SECRET_KEY; openssl rand -base64 32 generates one." },
  OP036: {
    name: "credential_sealed",
    remedy:
      "Set the BRAINOPS_SECRET_KEY that it was encrypted with. If that key is lost, run brainops tenant credential set <slug> <provider> --new-key, which deletes the tenant's other secrets that were encrypted with it, and lists them.",
  },
  OP037: { name: "credential_malformed", remedy: "Give the fields that the message names, as JSON." },
  OP038: {
    name: "broadcast_not_in_state",
    remedy: "Check the broadcast's status; for other content, or after a cancellation, insert a new broadcast.",
  },
  OP046: {
    name: "rendering_limit_exceeded",
    remedy: "Shorten or simplify the part of the row that the message names, then set its status to pending.",
  },
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

/** The SQLSTATE or Node code of an error; null if it has none. */
export function codeOf(error: unknown): string | null {
  if (typeof error === "object" && error !== null && "code" in error && typeof error.code === "string") {
    return error.code;
  }
  return null;
}

/** The typed error for one that Postgres raised with a code of ours; any other error is returned unchanged. */
export function fromDatabase(error: unknown): unknown {
  const code = codeOf(error);
  if (code === null || !Object.hasOwn(errorCodes, code) || !(error instanceof Error)) return error;
  const hint = "hint" in error && typeof error.hint === "string" ? { hint: error.hint } : {};
  return new BrainOpsError(code as ErrorCode, error.message, { cause: error, ...hint });
}

/** The message of any thrown value. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === "") return error.errors.map(messageOf).join("; ");
  return error instanceof Error ? error.message : String(error);
}
