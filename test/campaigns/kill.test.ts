// Workers killed with SIGKILL while touches are in flight: no touch is lost, and none is performed twice.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { letMarketingGo } from "../support/marketing.ts";
import { sendgridEnv, startWorkerProcess, type WorkerProcess } from "../support/process.ts";
import { launch, makeLaunchable } from "./support.ts";

const PEOPLE = 120;
const HELD = 8;

let db: TestDatabase;
let simulator: SendgridSimulator;
const started: WorkerProcess[] = [];

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator({ seed: 7 })]);
  await makeLaunchable(db);
  await letMarketingGo(db);
});
afterAll(async () => {
  for (const worker of started) worker.child.kill("SIGKILL");
  await Promise.all(started.map((worker) => worker.exited));
  await simulator?.close();
  await db?.close();
});

async function startOne(): Promise<WorkerProcess> {
  const worker = await startWorkerProcess(db.urlOf("worker"), sendgridEnv(simulator));
  started.push(worker);
  return worker;
}

async function kill(worker: WorkerProcess): Promise<void> {
  worker.child.kill("SIGKILL");
  await worker.exited;
}

describe.skipIf(!isServer)("workers that are killed during touches (needs server processes)", () => {
  it("lose no touch and repeat none", async () => {
    const tenant = await db.connect("tenantA");
    await launch(tenant, "steps", [
      { step_number: 1, step_key: "before", kind: "task", config: { title: "Before" } },
      {
        step_number: 2,
        step_key: "which",
        kind: "split",
        config: {
          variants: [
            { name: "a", weight: 1, to: 3 },
            { name: "b", weight: 1, to: 3 },
          ],
        },
      },
      { step_number: 3, step_key: "mail", kind: "send_email", template: "mail" },
      { step_number: 4, step_key: "notify", kind: "notify", config: { subject: "Mailed" } },
      { step_number: 5, step_key: "after", kind: "task", config: { title: "After" } },
      { step_number: 6, step_key: "end", kind: "exit" },
    ]);
    await tenant.query(
      `with leads as (
         insert into revenue_leads (contact_name, email) select 'Ann', 'ann' || n || '@example.com' from generate_series(1, $1) as n
         returning id
       )
       insert into ai_nurture_campaigns (lead_id, campaign_type) select id, 'steps' from leads`,
      [PEOPLE],
    );

    // Locks some of the enrolments, so that the worker stops in the middle of their touches.
    const holder = await db.connect("superuser");
    await holder.query("begin");
    const { rows: held } = await holder.query<{ id: string }>(
      `select id from ai_nurture_campaigns where campaign_type = 'steps' order by id limit ${HELD} for update`,
    );
    const ids = held.map((row) => row.id);
    const first = await startOne();
    await db.until(
      "select count(*) > 0 from ai_campaign_touches where campaign_id = any ($1) and status = 'processing'",
      [ids],
      60_000,
    );
    await kill(first);
    await holder.query("rollback");

    let [victim, other] = await Promise.all([startOne(), startOne()]);
    for (const performed of [0.35, 0.65]) {
      await db.until(
        "select count(*) filter (where performed_at is not null) >= $1 from ai_campaign_touches",
        [Math.round(PEOPLE * 6 * performed)],
        60_000,
      );
      await kill(victim);
      [victim, other] = [other, await startOne()];
    }
    await db.until(
      "select count(*) filter (where status = 'completed') = $1 from ai_nurture_campaigns where campaign_type = 'steps'",
      [PEOPLE],
      60_000,
    );
    await db.until(
      "select count(*) filter (where status in ('completed', 'unconfirmed')) = $1 from ai_email_queue where enrolment_id is not null",
      [PEOPLE],
      60_000,
    );

    const [counts] = await db.query(
      `select
         (select count(*)::int from ai_campaign_touches where status = 'completed') as touches,
         (select count(distinct (campaign_id, step_key))::int from ai_campaign_touches) as different,
         (select count(*)::int from lead_tasks) as tasks,
         (select count(*)::int from tenant_notifications where lead_id is not null) as notifications,
         (select count(*)::int from ai_email_queue where enrolment_id is not null) as mails,
         (select count(*)::int from ai_campaign_touches where status <> 'completed') as "left"`,
    );
    expect(counts).toEqual({
      touches: PEOPLE * 6,
      different: PEOPLE * 6,
      tasks: PEOPLE * 2,
      notifications: PEOPLE,
      mails: PEOPLE,
      left: 0,
    });
    const again = await db.query<{ n: number }>(
      "select count(*)::int as n from ai_campaign_touches where campaign_id = any ($1) and worker_deaths > 0",
      [ids],
    );
    // Those whose transaction was waiting at that moment; the others had given up their slots for a while.
    expect(again[0]?.n).toBeGreaterThan(0);
    expect(simulator.duplicates()).toEqual([]);

    for (const worker of [victim, other]) worker.child.kill("SIGTERM");
    expect(await Promise.all([victim.exited, other.exited])).toEqual([0, 0]);
  }, 150_000);
});
