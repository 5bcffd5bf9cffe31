// Won leads and their onboarding, as rows.
import type { TestDatabase } from "../support/database.ts";

export interface Step {
  readonly id: string;
  readonly step_number: number;
  readonly step_name: string;
  readonly status: string;
  readonly due_at: Date | null;
  readonly email_id: string | null;
  readonly problem: string | null;
}

export interface Workflow {
  readonly id: string;
  readonly status: string;
  readonly current_step: number;
  readonly total_steps: number;
  readonly reason: string | null;
  readonly completed_at: Date | null;
}

let leads = 0;

/** Inserts a lead as the tenant. */
export async function insertLead(
  db: TestDatabase,
  seat: "tenantA" | "tenantB",
  columns: Readonly<Record<string, unknown>> = {},
): Promise<string> {
  leads += 1;
  const row = { contact_name: "Ann Lee", email: `ann${leads}@customer.example`, ...columns };
  const names = Object.keys(row);
  const [lead] = await db.as<{ id: string }>(
    seat,
    `insert into revenue_leads (${names.join(", ")}) values (${names.map((_, index) => `$${index + 1}`).join(", ")}) returning id`,
    Object.values(row),
  );
  return lead?.id ?? "";
}

/** A lead that has just been won, and the onboarding it got. */
export async function win(
  db: TestDatabase,
  seat: "tenantA" | "tenantB" = "tenantA",
  columns: Readonly<Record<string, unknown>> = {},
): Promise<{ lead: string; workflow: Workflow }> {
  const lead = await insertLead(db, seat, columns);
  await db.as(seat, "update revenue_leads set stage = 'WON' where id = $1", [lead]);
  return { lead, workflow: await workflowOf(db, lead) };
}

export async function workflowOf(db: TestDatabase, lead: string): Promise<Workflow> {
  const rows = await db.query<Workflow & Record<string, unknown>>(
    "select * from ai_onboarding_workflows where lead_id = $1",
    [lead],
  );
  const [workflow] = rows;
  if (workflow === undefined || rows.length > 1) throw new Error(`lead ${lead} has ${rows.length} onboardings`);
  return workflow;
}

export async function stepsOf(db: TestDatabase, workflow: { readonly id: string }): Promise<Step[]> {
  return db.query<Step & Record<string, unknown>>(
    "select * from ai_onboarding_steps where workflow_id = $1 order by step_number",
    [workflow.id],
  );
}

/** "1:completed 2:in_progress 3:pending …" */
export async function course(db: TestDatabase, workflow: { readonly id: string }): Promise<string> {
  return (await stepsOf(db, workflow)).map((step) => `${step.step_number}:${step.status}`).join(" ");
}
