// Lead forms: created once; from then on every request signed with the form's secret is a lead.
import { randomBytes } from "node:crypto";
import type pg from "pg";
import type { Config } from "../../config.ts";
import { runAsTenant } from "../../db/tenant.ts";
import { BrainOpsError } from "../../errors.ts";
import { saveCredential } from "../credentials/store.ts";
import type { LeadInput } from "./fields.ts";

export interface FormToSave {
  readonly tenantId: string;
  readonly name: string;
  readonly source: string;
  /** Whether an existing form gets a new secret; its endpoint stays the same. */
  readonly renew: boolean;
}

/** Creates a form and its secret, inside the caller's transaction. Throws OP010 if it exists and `renew` is false. */
export async function saveForm(
  client: pg.ClientBase,
  config: Pick<Config, "BRAINOPS_SECRET_KEY">,
  { tenantId, name, source, renew }: FormToSave,
): Promise<{ token: string; secret: string }> {
  if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(name)) {
    throw new BrainOpsError("OP005", `name: ${JSON.stringify(name)}; expected a-z, 0-9 and -, at most 63 characters`);
  }
  const { rowCount } = await client.query(
    "insert into public.lead_forms (tenant_id, name, source) values ($1, $2, $3) on conflict (tenant_id, name) do nothing",
    [tenantId, name, source],
  );
  if (rowCount === 0 && !renew) {
    throw new BrainOpsError("OP010", `form: ${name} already exists`, {
      hint: "Choose another name, or give it a new secret with --renew.",
    });
  }
  const secret = `whsec_${randomBytes(32).toString("base64")}`;
  return { token: await saveCredential(client, config, { tenantId, provider: "form", name }, { secret }), secret };
}

export interface Submission {
  readonly tenantId: string;
  readonly form: string;
  /** Chosen by the form's server: a second submission with the same id changes nothing. */
  readonly id: string;
  readonly lead: LeadInput;
  readonly evidence: Readonly<Record<string, unknown>>;
}

/** Stores a verified submission. Throws OP009 if the form is switched off, OP011 for an unknown stage. */
export async function submitForm(pool: pg.Pool, submission: Submission): Promise<{ leadId: string; isNew: boolean }> {
  const { tenantId, form, id, lead, evidence } = submission;
  const [result] = await runAsTenant(pool, tenantId, [
    {
      text: "select lead_id, is_new from brainops_internal.submit_lead_form($1, $2, $3, $4, $5)",
      values: [tenantId, form, id, JSON.stringify(lead), JSON.stringify(evidence)],
    },
  ]);
  const [row] = (result?.rows ?? []) as { lead_id: string; is_new: boolean }[];
  return { leadId: row?.lead_id ?? "", isNew: row?.is_new ?? false };
}
