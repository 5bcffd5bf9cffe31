// How an onboarding advances: by update, by function, by its own mail, by events; in any order, and by two
// clients at once.
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { codeOf } from "../../src/errors.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { claimOne, settle } from "../support/jobs.ts";
import { refusal } from "../support/refusal.ts";
import { course, insertLead, stepsOf, win, workflowOf, type Workflow } from "./support.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});

afterAll(() => db.close());

function set(workflow: Workflow, step: string, status: string): Promise<unknown> {
  return db.as("tenantA", "update ai_onboarding_steps set status = $3 where workflow_id = $1 and step_name = $2", [
    workflow.id,
    step,
    status,
  ]);
}

function become(workflow: Workflow, status: string): Promise<unknown> {
  return db.as("tenantA", "update ai_onboarding_workflows set status = $2 where id = $1", [workflow.id, status]);
}

async function now(workflow: Workflow): Promise<Record<string, unknown> | undefined> {
  const [row] = await db.query("select * from ai_onboarding_workflows where id = $1", [workflow.id]);
  return row;
}

describe("a step", () => {
  it("completed by update starts the next one, with its due date", async () => {
    const { workflow } = await win(db);
    await set(workflow, "welcome_email", "done");
    expect(await course(db, workflow)).toBe("1:completed 2:in_progress 3:pending 4:pending 5:pending");
    const [, second] = await stepsOf(db, workflow);
    expect(((second?.due_at?.getTime() ?? 0) - Date.now()) / 86_400_000).toBeCloseTo(3, 1);
    expect(await now(workflow)).toMatchObject({ current_step: 2, status: "in_progress" });
  });

  it("completed ahead of its turn is not started again in its turn", async () => {
    const { workflow } = await win(db);
    await set(workflow, "system_setup", "completed");
    await set(workflow, "welcome_email", "completed");
    await set(workflow, "data_collection", "skipped");
    expect(await course(db, workflow)).toBe("1:completed 2:skipped 3:completed 4:in_progress 5:pending");
  });

  it("that is the last one completes the workflow, once, and adds an event to the lead", async () => {
    const { lead, workflow } = await win(db);
    for (const { step_name: name } of await stepsOf(db, workflow)) {
      await set(workflow, name, "completed");
      await set(workflow, name, "completed");
    }
    expect(await now(workflow)).toMatchObject({ status: "completed", current_step: 5 });
    expect((await now(workflow))?.["completed_at"]).toBeInstanceOf(Date);
    expect(await db.query("select from lead_events where lead_id = $1 and event = 'onboarded'", [lead])).toHaveLength(
      1,
    );
    expect(
      await db.query("select from onboarding_reminders where workflow_id = $1 and status = 'pending'", [workflow.id]),
    ).toEqual([]);
  });

  it("reopened reopens the workflow; its mail is not sent twice", async () => {
    const { lead, workflow } = await win(db);
    await db.as("tenantA", "update ai_onboarding_workflows set status = 'completed' where id = $1", [workflow.id]);
    expect(await course(db, workflow)).toBe("1:skipped 2:skipped 3:skipped 4:skipped 5:skipped");
    await set(workflow, "welcome_email", "in_progress");
    expect(await now(workflow)).toMatchObject({ status: "in_progress", current_step: 1, completed_at: null });
    expect(await db.query("select from ai_email_queue where lead_id = $1", [lead])).toHaveLength(1);
  });

  it("refuses invalid changes, with a hint", async () => {
    const { workflow } = await win(db);
    await set(workflow, "welcome_email", "completed");
    const undo = await refusal(set(workflow, "welcome_email", "skipped"));
    expect(undo).toMatchObject({ code: "OP030", column: "status" });
    expect(undo.hint).toContain("pending");
    expect((await refusal(set(workflow, "data_collection", "perhaps"))).code).toBe("OP002");
    await db.as("tenantA", "update ai_onboarding_workflows set status = 'cancelled' where id = $1", [workflow.id]);
    expect((await refusal(set(workflow, "data_collection", "completed"))).code).toBe("OP030");
    expect(
      (await refusal(db.as("tenantA", "select brainops.complete_onboarding_step($1, 'nonsense')", [workflow.id]))).code,
    ).toBe("OP009");
  });
});

describe("the welcome mail", () => {
  it("completes its step when it is sent, and not before", async () => {
    const { workflow } = await win(db);
    const [first] = await stepsOf(db, workflow);
    const worker = await db.connect("worker");
    const mail = first?.email_id ?? "";
    const lease = await claimOne(worker, db.tenantA, mail);
    expect(await course(db, workflow)).toMatch(/^1:in_progress/);
    expect(await settle(worker, db.tenantA, [{ id: mail, lease, outcome: "completed" }])).toEqual({
      [mail]: "completed",
    });
    expect(await course(db, workflow)).toMatch(/^1:completed 2:in_progress/);
  });

  it("that fails is reported as a problem until it is sent", async () => {
    const { workflow } = await win(db);
    const [first] = await stepsOf(db, workflow);
    const worker = await db.connect("worker");
    const mail = first?.email_id ?? "";
    await settle(worker, db.tenantA, [
      { id: mail, lease: await claimOne(worker, db.tenantA, mail), outcome: "fail", reason: "550 no such mailbox" },
    ]);
    const stuck = "select step_name, reason from brainops.stuck_onboarding where workflow_id = $1";
    expect(await db.as("tenantA", stuck, [workflow.id])).toEqual([
      { step_name: "welcome_email", reason: "its mail is failed: 550 no such mailbox" },
    ]);
    expect(await db.as("tenantB", stuck, [workflow.id])).toEqual([]);
    await db.as("tenantA", "update ai_email_queue set status = 'pending' where id = $1", [mail]);
    await settle(worker, db.tenantA, [
      { id: mail, lease: await claimOne(worker, db.tenantA, mail), outcome: "completed" },
    ]);
    expect(await db.as("tenantA", stuck, [workflow.id])).toEqual([]);
    expect(await course(db, workflow)).toMatch(/^1:completed/);
  });

  it("is stopped with its step", async () => {
    const { workflow } = await win(db);
    const [first] = await stepsOf(db, workflow);
    await set(workflow, "welcome_email", "skipped");
    const [mail] = await db.query("select status from ai_email_queue where id = $1", [first?.email_id]);
    expect(mail).toEqual({ status: "cancelled" });
  });

  const stuck = (workflow: Workflow): Promise<{ reason: string }[]> =>
    db.as("tenantA", "select reason from brainops.stuck_onboarding where workflow_id = $1", [workflow.id]);

  it.each([
    [
      "the onboarding is cancelled and reopened",
      async (workflow: Workflow) => {
        await become(workflow, "cancelled");
        await become(workflow, "in_progress");
      },
    ],
    [
      "the onboarding is completed by a client, and its step reopened",
      async (workflow: Workflow) => {
        await become(workflow, "completed");
        await set(workflow, "welcome_email", "in_progress");
      },
    ],
    [
      "its step is skipped and started after all",
      async (workflow: Workflow) => {
        await set(workflow, "welcome_email", "skipped");
        await set(workflow, "welcome_email", "in_progress");
      },
    ],
  ])("is sent after all when %s", async (_name, stopAndGoOn) => {
    const { lead, workflow } = await win(db);
    const mail = (await stepsOf(db, workflow))[0]?.email_id ?? "";
    await stopAndGoOn(workflow);
    expect((await stepsOf(db, workflow))[0]).toMatchObject({ status: "in_progress", email_id: mail, problem: null });
    const worker = await db.connect("worker");
    const lease = await claimOne(worker, db.tenantA, mail);
    await settle(worker, db.tenantA, [{ id: mail, lease, outcome: "completed", result: { sent_at: new Date() } }]);
    expect(await course(db, workflow)).toMatch(/^1:completed/);
    expect(await db.query("select from ai_email_queue where lead_id = $1", [lead])).toHaveLength(1);
  });

  it("that was sent is not sent again when its step is repeated", async () => {
    const { workflow } = await win(db);
    const mail = (await stepsOf(db, workflow))[0]?.email_id ?? "";
    const worker = await db.connect("worker");
    await settle(worker, db.tenantA, [
      { id: mail, lease: await claimOne(worker, db.tenantA, mail), outcome: "completed" },
    ]);
    await set(workflow, "welcome_email", "in_progress");
    expect(await db.query("select status from ai_email_queue where id = $1", [mail])).toEqual([
      { status: "completed" },
    ]);
    expect(await stuck(workflow)).toEqual([]);
  });

  it("that failed is a problem again when its step starts again", async () => {
    const { workflow } = await win(db);
    const mail = (await stepsOf(db, workflow))[0]?.email_id ?? "";
    const worker = await db.connect("worker");
    await settle(worker, db.tenantA, [
      { id: mail, lease: await claimOne(worker, db.tenantA, mail), outcome: "fail", reason: "550 no such mailbox" },
    ]);
    await become(workflow, "cancelled");
    await become(workflow, "in_progress");
    expect(await stuck(workflow)).toEqual([{ reason: "its mail is failed: 550 no such mailbox" }]);
  });

  it.each([
    ["unsent is reported as a problem", "cancelled", ["its mail was not sent"]],
    ["as sent is not a problem", "completed", []],
  ])("that was archived %s", async (_name, status, expected) => {
    const { workflow } = await win(db);
    const mail = (await stepsOf(db, workflow))[0]?.email_id ?? "";
    await become(workflow, "paused");
    await set(workflow, "welcome_email", "skipped");
    await db.query("update ai_email_queue set status = $2 where id = $1", [mail, status]);
    await db.query("update ai_email_queue set finished_at = '2026-01-15Z' where id = $1", [mail]);
    await db.query("select brainops.archive_done()");
    await become(workflow, "in_progress");
    await set(workflow, "welcome_email", "in_progress");
    expect((await stuck(workflow)).map(({ reason }) => reason.split(" and ")[0])).toEqual(expected);
  });
});

describe("an event of the lead", () => {
  it("completes the step that waits for it, even before its turn; one from before the start does not", async () => {
    await db.as(
      "tenantA",
      `insert into onboarding_templates (template, step_number, step_name, advance_on)
       values ('events', 1, 'call', 'meeting_booked'), ('events', 2, 'papers', 'papers_signed'), ('events', 3, 'start', null)`,
    );
    const lead = await insertLead(db, "tenantA", { metadata: { onboarding_template: "events" } });
    const event = "insert into lead_events (lead_id, event, occurred_at) values ($1, $2, coalesce($3, brainops.now()))";
    await db.as("tenantA", event, [lead, "meeting_booked", null]);
    await db.as("tenantA", "update revenue_leads set stage = 'won' where id = $1", [lead]);
    const workflow = await workflowOf(db, lead);
    await db.as("tenantA", event, [lead, "meeting_booked", new Date(Date.now() - 86_400_000)]);
    expect(await course(db, workflow)).toBe("1:in_progress 2:pending 3:pending");
    await db.as("tenantA", event, [lead, "papers_signed", null]);
    expect(await course(db, workflow)).toBe("1:in_progress 2:completed 3:pending");
    await db.as("tenantA", event, [lead, "meeting_booked", null]);
    expect(await course(db, workflow)).toBe("1:completed 2:completed 3:in_progress");
  });
});

describe("a pause", () => {
  it("starts nothing, accepts completed steps, and moves the due dates by its length", async () => {
    const { workflow } = await win(db);
    const [before] = await stepsOf(db, workflow);
    await db.as("tenantA", "update ai_onboarding_workflows set status = 'paused' where id = $1", [workflow.id]);
    await set(workflow, "system_setup", "completed");
    expect((await refusal(set(workflow, "data_collection", "in_progress"))).code).toBe("OP030");
    await db.setClock("2 days");
    try {
      await db.as("tenantA", "update ai_onboarding_workflows set status = 'in_progress' where id = $1", [workflow.id]);
      const [after] = await stepsOf(db, workflow);
      const moved = (after?.due_at?.getTime() ?? 0) - (before?.due_at?.getTime() ?? 0);
      expect(moved / 86_400_000).toBeCloseTo(2, 2);
    } finally {
      await db.setClock("0");
    }
  });
});

describe("a paused onboarding", () => {
  it("is completed with its last open step", async () => {
    const { lead, workflow } = await win(db);
    await become(workflow, "paused");
    for (const step of ["welcome_email", "data_collection", "system_setup", "training_schedule"]) {
      await set(workflow, step, "completed");
    }
    expect(await now(workflow)).toMatchObject({ status: "paused" });
    await set(workflow, "first_project", "skipped");
    expect(await now(workflow)).toMatchObject({ status: "completed" });
    expect(await db.query("select from lead_events where lead_id = $1 and event = 'onboarded'", [lead])).toHaveLength(
      1,
    );
  });

  it("that was completed before, and reopened, too", async () => {
    const { workflow } = await win(db);
    await become(workflow, "completed");
    await set(workflow, "training_schedule", "in_progress");
    await become(workflow, "paused");
    await set(workflow, "training_schedule", "completed");
    expect(await now(workflow)).toMatchObject({ status: "completed" });
  });
});

describe("two clients at once", () => {
  it.each([
    ["the same step", "welcome_email", "welcome_email", "1:completed 2:in_progress 3:pending 4:pending 5:pending"],
    ["two steps", "welcome_email", "data_collection", "1:completed 2:completed 3:in_progress 4:pending 5:pending"],
  ])("complete %s, and one next step starts", async (_name, first, second, expected) => {
    const { workflow } = await win(db);
    const complete = "update ai_onboarding_steps set status = 'completed' where workflow_id = $1 and step_name = $2";
    const [one, two] = await Promise.all([db.connect("tenantA"), db.connect("tenantA")]);
    await one.query("begin");
    await one.query(complete, [workflow.id, first]);
    const waiting = two.query(complete, [workflow.id, second]);
    await one.query("commit");
    await waiting;
    expect(await course(db, workflow)).toBe(expected);
    expect(await now(workflow)).toMatchObject({ status: "in_progress" });
  });

  it("complete the last two steps, and the workflow is completed once", async () => {
    const { lead, workflow } = await win(db);
    for (const step of ["welcome_email", "data_collection", "system_setup"]) await set(workflow, step, "completed");
    await Promise.all([set(workflow, "training_schedule", "completed"), set(workflow, "first_project", "completed")]);
    expect(await now(workflow)).toMatchObject({ status: "completed" });
    expect(await db.query("select from lead_events where lead_id = $1 and event = 'onboarded'", [lead])).toHaveLength(
      1,
    );
  });
});

describe("an onboarding, whatever is done to it in any order", () => {
  const names = ["welcome_email", "data_collection", "system_setup", "training_schedule", "first_project"] as const;
  const change = fc.oneof(
    fc.record({
      of: fc.constantFrom(...names),
      to: fc.constantFrom("completed", "skipped", "pending", "in_progress", "cancelled"),
    }),
    fc.record({ of: fc.constant("workflow"), to: fc.constantFrom("paused", "in_progress", "cancelled", "completed") }),
  );

  it("has a status that agrees with its steps, and sends no mail twice", { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 12 }), async (changes) => {
        const { lead, workflow } = await win(db);
        for (const { of, to } of changes) {
          const done =
            of === "workflow"
              ? db.query("update ai_onboarding_workflows set status = $2 where id = $1", [workflow.id, to])
              : db.query("update ai_onboarding_steps set status = $3 where workflow_id = $1 and step_name = $2", [
                  workflow.id,
                  of,
                  to,
                ]);
          await done.catch((error: unknown) => {
            if (codeOf(error) !== "OP030") throw error;
          });
        }
        const after = await now(workflow);
        const steps = await stepsOf(db, workflow);
        const begun = steps.filter((step) => step.status === "in_progress").map((step) => step.step_number);
        const isOpen = begun.length > 0 || steps.some((step) => step.status === "pending");
        const continues = after?.["status"] === "in_progress" || after?.["status"] === "paused";
        expect(isOpen).toBe(continues);
        expect(after?.["status"] !== "in_progress" || after["current_step"] === Math.min(...begun)).toBe(true);
        const due = await db.query(
          "select r.id from onboarding_reminders as r join ai_onboarding_steps as s on s.id = r.step_id where r.workflow_id = $1 and r.status = 'pending' and s.status <> 'in_progress'",
          [workflow.id],
        );
        expect(due).toEqual([]);
        expect((await db.query("select from ai_email_queue where lead_id = $1", [lead])).length).toBe(1);
      }),
      { numRuns: 15 },
    );
  });
});
