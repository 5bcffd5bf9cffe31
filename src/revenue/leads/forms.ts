// Lead forms: created once with a secret; every submission signed with that secret becomes a lead.
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
  /** Whether an existing form gets a new secret; its endpoint does not change. */
  readonly renew: boolean;
}

/**
 * Creates a form, or renews its secret. Must run in a transaction of the caller. Throws OP005 for an
 * invalid name, OP010 if the form exists and `renew` is false.
 */
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
  /** The client's id of the submission; a repeated id is the same submission. */
  readonly id: string;
  readonly lead: LeadInput;
  readonly evidence: Readonly<Record<string, unknown>>;
}

/**
 * Stores a verified submission as a lead. Throws OP009 if the form does not exist or is inactive, OP011
 * for an unknown stage.
 */
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
    // A client whose transaction may still be open must not return to the pool.
    await client.query("rollback").catch((reason: Error) => (broken = reason));
    throw fromDatabase(error);
  } finally {
    client.release(broken);
  }
}
