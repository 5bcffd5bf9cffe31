// Lead forms: made once, then whatever is signed with the form's secret is a lead.
import { randomBytes } from "node:crypto";
import type pg from "pg";
import type { Config } from "../../config.ts";
import { BrainOpsError, fromDatabase } from "../../errors.ts";
import { saveCredential } from "../credentials/store.ts";
import type { LeadInput } from "./fields.ts";

export interface FormToSave {
  readonly tenantId: string;
  readonly name: string;
  readonly source: string;
  /** Whether a form that is there gets another secret; its endpoint stays. */
  readonly renew: boolean;
}

/** Makes a form with a secret of its own. In a transaction of the caller's. */
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
    throw new BrainOpsError("OP010", `form: ${name} is there already`, {
      hint: "Choose another name, or give it a new secret with --renew.",
    });
  }
  const secret = `whsec_${randomBytes(32).toString("base64")}`;
  return { token: await saveCredential(client, config, { tenantId, provider: "form", name }, { secret }), secret };
}

export interface Submission {
  readonly tenantId: string;
  readonly form: string;
  /** The sender's id of it; the same one again is the same submission. */
  readonly id: string;
  readonly lead: LeadInput;
  readonly evidence: Readonly<Record<string, unknown>>;
}

/** Takes a verified submission. Throws OP009 where the form is switched off, OP011 for an unknown stage. */
export async function submitForm(pool: pg.Pool, submission: Submission): Promise<{ leadId: string; isNew: boolean }> {
  const { tenantId, form, id, lead, evidence } = submission;
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    await client.query("begin");
    await client.query("select set_config('role', 'brainops_worker', true), set_config('app.tenant_id', $1, true)", [
      tenantId,
    ]);
    const { rows } = await client.query<{ lead_id: string; is_new: boolean }>(
      "select lead_id, is_new from brainops.submit_lead_form($1, $2, $3, $4, $5)",
      [tenantId, form, id, JSON.stringify(lead), JSON.stringify(evidence)],
    );
    await client.query("commit");
    return { leadId: rows[0]?.lead_id ?? "", isNew: rows[0]?.is_new ?? false };
  } catch (error) {
    // A client whose transaction may still be open must not serve anybody else.
    await client.query("rollback").catch((reason: Error) => (broken = reason));
    throw fromDatabase(error);
  } finally {
    client.release(broken);
  }
}
