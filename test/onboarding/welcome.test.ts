// Step 1 end to end: from a won lead through the worker and SendGrid's protocol to a completed step.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import type { Worker } from "../../src/jobs/worker.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestWorker } from "../support/worker.ts";
import { course, insertLead, stepsOf, win, workflowOf } from "./support.ts";

let db: TestDatabase;
let simulator: SendgridSimulator;
let worker: Worker;

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator()]);
  worker = await startTestWorker(db, simulator);
});

afterAll(async () => {
  await worker?.stop();
  await simulator?.close();
  await db?.close();
});

async function completed(workflow: { readonly id: string }): Promise<void> {
  await db.until("select status = 'completed' from ai_onboarding_steps where workflow_id = $1 and step_number = 1", [
    workflow.id,
  ]);
}

/** What SendGrid accepted for the workflow's first step. */
async function mailsOf(workflow: { readonly id: string }): Promise<SendgridSimulator["messages"]> {
  const [first] = await stepsOf(db, workflow);
  return simulator.messages.filter((message) => message.customArgs["bo_msg"] === first?.email_id);
}

describe("the welcome mail", () => {
  it("is sent once, to the lead, by name, and completes its step", async () => {
    const { workflow } = await win(db, "tenantA", { contact_name: "Rita O'Hara", email: "rita@customer.example" });
    await completed(workflow);
    const mails = await mailsOf(workflow);
    expect(mails).toHaveLength(1);
    expect(JSON.stringify(mails[0]?.to)).toContain("rita@customer.example");
    expect(mails[0]?.subject).toBe("Welcome to Tenant A");
    expect(mails[0]?.content[0]?.value).toContain("Hello Rita O'Hara,");
    expect(mails[0]?.headers).not.toHaveProperty("List-Unsubscribe");
    expect(await course(db, workflow)).toMatch(/^1:completed 2:in_progress/);
  });

  it("is not marketing: it is sent to a person who denied marketing, but not to an address that bounced", async () => {
    const lead = await insertLead(db, "tenantA", { email: "dead@customer.example" });
    await db.as(
      "tenantA",
      "insert into contact_suppressions (address, reason) values ('dead@customer.example', 'bounced')",
    );
    await db.as(
      "tenantA",
      "insert into contact_consents (channel, address, state) values ('email', 'kim@customer.example', 'denied')",
    );
    await db.as("tenantA", "update revenue_leads set stage = 'won' where id = $1", [lead]);
    const dead = await workflowOf(db, lead);
    await db.until("select problem is not null from ai_onboarding_steps where workflow_id = $1 and step_number = 1", [
      dead.id,
    ]);
    expect((await stepsOf(db, dead))[0]?.problem).toBe("its mail is skipped: suppressed: bounced");
    const { workflow } = await win(db, "tenantA", { email: "kim@customer.example" });
    await completed(workflow);
    expect(await mailsOf(workflow)).toHaveLength(1);
  });

  it("without a response leaves the step open as a problem, and is never resent blindly", async () => {
    simulator.faults.add({ kind: "reset", moment: "after", recipient: "lost@customer.example" });
    const { workflow } = await win(db, "tenantA", { email: "lost@customer.example" });
    await db.until(
      "select problem like 'its mail is unconfirmed%' from ai_onboarding_steps where workflow_id = $1 and step_number = 1",
      [workflow.id],
    );
    const [first] = await stepsOf(db, workflow);
    await db.as("admin", "select brainops.confirm('ai_email_queue', $1, true)", [first?.email_id]);
    await completed(workflow);
    expect(simulator.acceptedCount(first?.email_id ?? "")).toBe(1);
    expect((await stepsOf(db, workflow))[0]?.problem).toBeNull();
  });
});
