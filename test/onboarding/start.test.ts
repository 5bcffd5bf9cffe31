// What starts an onboarding, once for each lead, whoever wins it and however often.
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";
import { course, insertLead, stepsOf, win, workflowOf } from "./support.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});

afterAll(() => db.close());

async function numberOf(lead: string): Promise<number> {
  return (await db.query("select from ai_onboarding_workflows where lead_id = $1", [lead])).length;
}

describe("a won lead", () => {
  it("is onboarded in the same transaction: five steps, the first in progress with its mail queued", async () => {
    const { lead, workflow } = await win(db);
    expect(workflow).toMatchObject({ status: "in_progress", current_step: 1, total_steps: 5, reason: "won" });
    const steps = await stepsOf(db, workflow);
    expect(steps.map((step) => step.step_name)).toEqual([
      "welcome_email",
      "data_collection",
      "system_setup",
      "training_schedule",
      "first_project",
    ]);
    expect(await course(db, workflow)).toBe("1:in_progress 2:pending 3:pending 4:pending 5:pending");
    const [mail] = await db.query("select * from ai_email_queue where id = $1", [steps[0]?.email_id]);
    expect(mail).toMatchObject({ recipient: lead, lead_id: lead, status: "pending", tenant_id: db.tenantA });
    expect(mail?.["is_marketing"]).toBe(false);
  });

  it("has no onboarding if its transaction is rolled back", async () => {
    const lead = await insertLead(db, "tenantA");
    const client = await db.connect("tenantA");
    await client.query("begin");
    await client.query("update revenue_leads set stage = 'won' where id = $1", [lead]);
    expect((await client.query("select from ai_onboarding_workflows where lead_id = $1", [lead])).rowCount).toBe(1);
    await client.query("rollback");
    expect(await numberOf(lead)).toBe(0);
  });

  it("is onboarded once, however often it is won, started or inserted again", async () => {
    const { lead, workflow } = await win(db);
    await db.query("update revenue_leads set stage = 'lost' where id = $1", [lead]).catch(() => {});
    await db.query("update revenue_leads set stage = 'won' where id = $1", [lead]);
    const [again] = await db.as<{ id: string }>("tenantA", "select brainops.start_onboarding($1, 'again') as id", [
      lead,
    ]);
    expect(again?.id).toBe(workflow.id);
    expect(await numberOf(lead)).toBe(1);
    expect(await db.query("select from ai_email_queue where lead_id = $1", [lead])).toHaveLength(1);
  });

  it("that is inserted as won is onboarded as well", async () => {
    const lead = await insertLead(db, "tenantA", { stage: "won" });
    expect((await workflowOf(db, lead)).status).toBe("in_progress");
  });

  it("without an address is still won", async () => {
    const { workflow } = await win(db, "tenantA", { email: null, company_name: "Acme" });
    expect(workflow.status).toBe("in_progress");
  });

  it("that is imported as an old customer is not onboarded", async () => {
    const lead = await insertLead(db, "tenantA", { stage: "won", metadata: { onboarding: "none" } });
    expect(await numberOf(lead)).toBe(0);
    await db.as("tenantA", "select brainops.start_onboarding($1)", [lead]);
    expect(await numberOf(lead)).toBe(1);
  });

  it("is onboarded once by two transactions that win it at once", async () => {
    const lead = await insertLead(db, "tenantA");
    const [one, two] = await Promise.all([db.connect("tenantA"), db.connect("service")]);
    await one.query("begin");
    await one.query("update revenue_leads set stage = 'won' where id = $1", [lead]);
    const second = startAs(two, lead);
    await one.query("commit");
    expect(await second).toBe((await workflowOf(db, lead)).id);
    expect(await numberOf(lead)).toBe(1);
    expect(await stepsOf(db, await workflowOf(db, lead))).toHaveLength(5);
  });

  it("is onboarded once by twenty starts at once", async () => {
    const lead = await insertLead(db, "tenantB");
    const ids = await Promise.all(
      Array.from({ length: 20 }, () =>
        db.as<{ id: string }>("tenantB", "select brainops.start_onboarding($1) as id", [lead]),
      ),
    );
    expect(new Set(ids.map(([row]) => row?.id)).size).toBe(1);
    expect(await numberOf(lead)).toBe(1);
    expect(await db.query("select from ai_email_queue where lead_id = $1", [lead])).toHaveLength(1);
  });
});

async function startAs(client: pg.Client, lead: string): Promise<string> {
  const { rows } = await client.query<{ id: string }>("select brainops.start_onboarding($1) as id", [lead]);
  return rows[0]?.id ?? "";
}

describe("permissions", () => {
  it("only the tenant itself may start, see and change an onboarding", async () => {
    const { lead, workflow } = await win(db);
    const start = "select brainops.start_onboarding($1)";
    expect((await refusal(db.as("tenantB", start, [lead]))).code).toBe("OP009");
    expect((await refusal(db.as("anonymous", start, [lead]))).code).toBe("42501");
    const steps = "update ai_onboarding_steps set status = 'completed' where workflow_id = $1 returning id";
    expect(await db.as("tenantB", steps, [workflow.id])).toEqual([]);
    expect((await refusal(db.as("anonymous", steps, [workflow.id]))).code).toBe("42501");
    expect(
      (await refusal(db.as("tenantB", "select brainops.complete_onboarding_step($1, 'welcome_email')", [workflow.id])))
        .code,
    ).toBe("OP009");
    expect(
      await db.as("tenantA", "select brainops.complete_onboarding_step($1, 'welcome_email')", [workflow.id]),
    ).toHaveLength(1);
    expect(await course(db, workflow)).toMatch(/^1:completed 2:in_progress/);
  });

  it("no tenant may insert for another, and nothing of the other is changed", async () => {
    const { lead, workflow } = await win(db, "tenantB");
    const before = await db.query("select * from ai_onboarding_workflows where id = $1", [workflow.id]);
    const insert = "insert into ai_onboarding_workflows (tenant_id, lead_id) values ($1, $2)";
    expect((await refusal(db.as("tenantA", insert, [db.tenantB, lead]))).code).toBe("42501");
    const step =
      "insert into ai_onboarding_steps (tenant_id, workflow_id, step_number, step_name) values ($1, $2, 1, 'welcome_email')";
    expect((await refusal(db.as("tenantA", step, [db.tenantB, workflow.id]))).code).toBe("42501");
    expect((await refusal(db.as("tenantA", insert, [db.tenantA, lead]))).code).toBe("23503");
    expect(await db.query("select * from ai_onboarding_workflows where id = $1", [workflow.id])).toEqual(before);
  });

  it("only triggers may write results", async () => {
    const { workflow } = await win(db);
    for (const set of [
      "completed_at = now()",
      "started_at = now()",
      "email_id = gen_random_uuid()",
      "problem = 'none'",
    ]) {
      const refused = await refusal(
        db.as("tenantA", `update ai_onboarding_steps set ${set} where workflow_id = $1`, [workflow.id]),
      );
      expect([set, refused.code]).toEqual([set, "42501"]);
    }
    expect((await refusal(db.as("tenantA", "insert into onboarding_reminders default values"))).code).toBe("42501");
  });
});

describe("a tenant's own template", () => {
  it("is copied when the onboarding starts; an edit does not change a running one", async () => {
    await db.as(
      "tenantB",
      `insert into onboarding_templates (step_number, step_name, description, duration, subject, body, advance_on, remind)
       values (1, 'hello', 'Say hello', '2 days', 'Hello {{ lead.contact_name }}', '<p>Hi</p>', 'email_sent', 'nobody'),
              (2, 'visit', 'Visit the site', '1 day', null, null, 'meeting_booked', 'both')`,
    );
    const { workflow } = await win(db, "tenantB");
    expect(workflow).toMatchObject({ total_steps: 2 });
    await db.as("tenantB", "update onboarding_templates set step_name = 'bye' where step_name = 'visit'");
    expect((await stepsOf(db, workflow)).map((step) => step.step_name)).toEqual(["hello", "visit"]);
    expect((await win(db, "tenantA")).workflow.total_steps).toBe(5);
  });

  it("is chosen by the lead's metadata", async () => {
    await db.as(
      "tenantB",
      "insert into onboarding_templates (template, step_number, step_name) values ('short', 1, 'call')",
    );
    const { workflow } = await win(db, "tenantB", { metadata: { onboarding_template: "short" } });
    expect((await stepsOf(db, workflow)).map((step) => step.step_name)).toEqual(["call"]);
  });

  it("that cannot be rendered does not prevent a win, and is reported", async () => {
    await db.as(
      "tenantB",
      "insert into onboarding_templates (template, step_number, step_name, subject, body) values ('bad', 1, 'mail', E'two\\nlines', 'x')",
    );
    const { workflow } = await win(db, "tenantB", { metadata: { onboarding_template: "bad" } });
    const [stuck] = await db.as("tenantB", "select reason from brainops.stuck_onboarding where workflow_id = $1", [
      workflow.id,
    ]);
    expect(stuck?.["reason"]).toMatch(/its mail could not be queued: subject: [^]* control character/);
  });

  it("refuses invalid values", async () => {
    const insert = (columns: string, values: string): Promise<unknown> =>
      db.as("tenantA", `insert into onboarding_templates (step_number, ${columns}) values (1, ${values})`);
    expect((await refusal(insert("step_name", "'No Word'"))).code).toBe("23514");
    expect((await refusal(insert("step_name, subject", "'a', 'without a body'"))).code).toBe("23514");
    expect((await refusal(insert("step_name, advance_on", "'a', 'email_sent'"))).code).toBe("23514");
    expect((await refusal(insert("step_name, duration", "'a', '-1 day'"))).code).toBe("23514");
    expect((await refusal(insert("step_name, remind", "'a', 'the boss'"))).code).toBe("23514");
  });
});

describe("inserts of existing clients", () => {
  it("are accepted and run, with their steps", async () => {
    const lead = await insertLead(db, "tenantA");
    const client = await db.connect("tenantA");
    await client.query("begin");
    const { rows } = await client.query<{ id: string }>(
      `insert into ai_onboarding_workflows (id, lead_id, status, current_step, total_steps, started_at)
       values (gen_random_uuid(), $1, 'in_progress', 1, 5, now()) returning id`,
      [lead],
    );
    const names = ["welcome_email", "data_collection", "system_setup", "training_schedule", "first_project"];
    for (const [index, name] of names.entries()) {
      await client.query(
        `insert into ai_onboarding_steps (id, workflow_id, step_number, step_name, description, status)
         values (gen_random_uuid(), $1, $2, $3, 'Words', $4)`,
        [rows[0]?.id, index + 1, name, index === 0 ? "in_progress" : "pending"],
      );
    }
    await client.query("commit");
    const workflow = await workflowOf(db, lead);
    expect(workflow).toMatchObject({ id: rows[0]?.id, status: "in_progress", total_steps: 5, current_step: 1 });
    expect(await course(db, workflow)).toBe("1:in_progress 2:pending 3:pending 4:pending 5:pending");
    expect(await db.query("select from ai_email_queue where lead_id = $1", [lead])).toHaveLength(1);
  });

  it("for a lead that already has an onboarding add nothing, and do not fail", async () => {
    const { lead, workflow } = await win(db);
    const second = "00000000-0000-4000-8000-00000000abcd";
    await db.as(
      "tenantA",
      `insert into ai_onboarding_workflows (id, lead_id, status, current_step, total_steps, started_at)
       values ($1, $2, 'in_progress', 1, 5, now())`,
      [second, lead],
    );
    await db.as(
      "tenantA",
      `insert into ai_onboarding_steps (id, workflow_id, step_number, step_name, description, status)
       values (gen_random_uuid(), $1, 1, 'welcome_email', 'Words', 'in_progress')`,
      [second],
    );
    expect((await workflowOf(db, lead)).id).toBe(workflow.id);
    expect(await stepsOf(db, workflow)).toHaveLength(5);
    expect(await db.query("select from ai_email_queue where lead_id = $1", [lead])).toHaveLength(1);
  });

  it("of a service that names no tenant belong to the lead's tenant", async () => {
    const lead = await insertLead(db, "tenantA");
    const insert = "insert into ai_onboarding_workflows (lead_id, status) values ($1, 'active') returning id";
    expect(await db.as("service", insert, [lead])).toHaveLength(1);
    const [row] = await db.query("select tenant_id, status from ai_onboarding_workflows where lead_id = $1", [lead]);
    expect(row).toEqual({ tenant_id: db.tenantA, status: "in_progress" });
  });

  it.each(["paused", "cancelled"])("as %s get their steps when they continue, and get them once", async (status) => {
    const lead = await insertLead(db, "tenantA");
    await db.as("tenantA", "insert into ai_onboarding_workflows (lead_id, status) values ($1, $2)", [lead, status]);
    const waiting = await workflowOf(db, lead);
    expect(await stepsOf(db, waiting)).toEqual([]);
    for (const next of ["in_progress", "paused", "in_progress"]) {
      await db.as("tenantA", "update ai_onboarding_workflows set status = $2 where id = $1", [waiting.id, next]);
    }
    expect(await workflowOf(db, lead)).toMatchObject({ status: "in_progress", current_step: 1, total_steps: 5 });
    expect(await course(db, waiting)).toBe("1:in_progress 2:pending 3:pending 4:pending 5:pending");
    expect(await db.query("select from ai_email_queue where lead_id = $1", [lead])).toHaveLength(1);
  });

  it("as paused keep the steps that they bring", async () => {
    const lead = await insertLead(db, "tenantA");
    const [row] = await db.as<{ id: string }>(
      "tenantA",
      "insert into ai_onboarding_workflows (lead_id, status) values ($1, 'paused') returning id",
      [lead],
    );
    await db.as(
      "tenantA",
      "insert into ai_onboarding_steps (workflow_id, step_number, step_name) values ($1, 1, 'call')",
      [row?.id],
    );
    await db.as("tenantA", "update ai_onboarding_workflows set status = 'in_progress' where id = $1", [row?.id]);
    expect(await course(db, await workflowOf(db, lead))).toBe("1:in_progress");
  });

  it("with an unknown status are refused, with the known ones", async () => {
    const lead = await insertLead(db, "tenantA");
    const refused = await refusal(
      db.as("tenantA", "insert into ai_onboarding_workflows (lead_id, status) values ($1, 'dunno')", [lead]),
    );
    expect(refused).toMatchObject({ code: "OP002", column: "status" });
    expect(refused.hint).toContain("in_progress, paused, completed, cancelled");
  });
});
