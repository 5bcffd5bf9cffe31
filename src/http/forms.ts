// POST /forms/<token>: a lead from a tenant's form, signed by the tenant's server. The request itself stores it, not a
// job: the answer lists every fault, and the person can still correct them.
import type pg from "pg";
import { BrainOpsError, codeOf } from "../errors.ts";
import type { Endpoint } from "../revenue/credentials/store.ts";
import { columnOf } from "../revenue/leads/columns.ts";
import { readLead } from "../revenue/leads/fields.ts";
import { submitForm } from "../revenue/leads/forms.ts";
import { placeOf } from "../revenue/leads/place.ts";
import { isGenuine, isTimely, signedHeaders, type SignedHeaders } from "./formSignature.ts";
import { parseEvent } from "./webhooks/json.ts";
import type { Receipt, TenantWebhook, Verified } from "./webhooks/receive.ts";

export const formWebhook: TenantWebhook<"form", SignedHeaders, object> = {
  provider: "form",
  signer: "the form's server",
  path: "/forms",
  bodyLimit: 64 * 1024,
  bodyFormat: "JSON object with the form's fields",
  needs: [],
  readSignature: signedHeaders,
  isTimely,
  tenantVerifier:
    ({ secret }) =>
    ({ signed, body }) =>
      isGenuine(secret, signed, body),
  acceptsInactive: false,
  limitsValid: true,
  sealedError:
    "BRAINOPS_SECRET_KEY is not set, or is not the key that the form's secret was encrypted with. Set it on the server.",
  parse: parseEvent,
  accept: acceptSubmission,
};

async function acceptSubmission(
  { signed: { id }, body: fields, endpoint }: Verified<SignedHeaders, object, Endpoint>,
  pool: pg.Pool,
): Promise<Receipt> {
  const { tenant_id: tenantId, name: form } = endpoint;
  const columns = Object.entries(fields).map(([name, value]) => [columnOf(name), value] as const);
  const { lead, faults } = readLead(columns, await placeOf(pool, tenantId));
  // Unlike in a file, the person can still correct a field.
  if (lead === null || faults.length > 0) return unusable(422, { error: "Some fields can't be used.", faults });
  try {
    const { leadId, isNew } = await submitForm(pool, { tenantId, form, id, lead, evidence: {} });
    const body = { lead_id: leadId, is_new: isNew };
    return isNew ? { status: 201, body, added: 1, known: 0 } : { status: 200, body, added: 0, known: 1 };
  } catch (error) {
    // A column's limit. Postgres's message names tables, which is of no use to the sender.
    if (codeOf(error) === "23514") return unusable(422, { error: "A field is too long, or has an impossible value." });
    if (!(error instanceof BrainOpsError)) throw error;
    return unusable(error.code === "OP009" ? 404 : 422, { error: error.message, hint: error.hint });
  }
}

function unusable(status: number, body: object): Receipt {
  return { status, body, added: 0, known: 0 };
}
