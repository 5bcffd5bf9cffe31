// What the mail provider reports, and what clients record, as events of the lead.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createSentEmails } from "../http/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";
import { insertLead, scored } from "./support.ts";

let db: TestDatabase;
let n = 0;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db?.close());

const address = (): string => `p${++n}@events.example`;
const eventsOf = async (id: string): Promise<string[]> =>
  (
    await db.query<{ event: string }>(
      "select event from lead_events where lead_id = $1 and event <> 'captured' order by event",
      [id],
    )
  ).map(({ event }) => event);

async function mailTo(email: string, leadId: string | null): Promise<string> {
  const [id = ""] = await createSentEmails(db, db.tenantA, [email]);
  if (leadId !== null) {
    const client = await db.connect("superuser");
    await client.query("set session_replication_role = replica");
    await client.query("update ai_email_queue set lead_id = $2 where id = $1", [id, leadId]);
    await client.end();
  }
  return id;
}

let reports = 0;
const apply = (mail: string, email: string, event: string, more: object = {}) =>
  db.query<{ why: string | null }>(
    "select brainops_internal.apply_sendgrid_event($1, brainops_internal.find_email($1)) as why",
    [
      JSON.stringify({
        bo_msg: mail,
        email,
        event,
        timestamp: 1_770_000_000 + ++reports,
        sg_event_id: `e${reports}`,
        ...more,
      }),
    ],
  );

describe("what SendGrid reports of a lead's mail", () => {
  it("is an event of the lead, with the mail and the link; an open by a machine is not", async () => {
    const email = address();
    const id = await insertLead(db, { email });
    const mail = await mailTo(email, id);
    await apply(mail, email, "delivered");
    await apply(mail, email, "open", { sg_machine_open: true });
    expect(await eventsOf(id)).toEqual([]);
    await apply(mail, email, "open", { sg_machine_open: false });
    await apply(mail, email, "click", { url: "https://x.example/a" });
    await apply(mail, email, "spamreport");
    expect(await eventsOf(id)).toEqual(["email_clicked", "email_complained", "email_opened"]);
    expect(
      await db.query(
        "select channel, metadata, extract(epoch from occurred_at)::int > 1770000000 as at from lead_events where lead_id = $1 and event = 'email_clicked'",
        [id],
      ),
    ).toEqual([{ channel: "email", metadata: { email_id: mail, url: "https://x.example/a" }, at: true }]);
  });

  it("changes the score: an open and a click raise it, an open by a machine does not", async () => {
    const email = `p${++n}@gmail.com`;
    const id = await insertLead(db, { email });
    const mail = await mailTo(email, id);
    await db.query(
      "update brainops.score_reasons set half_life = '10000 days' where kind = 'event' and half_life is not null",
    );
    for (let i = 0; i < 5; i++) await apply(mail, email, "open", { sg_machine_open: true });
    expect((await scored(db, id)).score).toBe(40);
    await apply(mail, email, "open");
    await apply(mail, email, "click", { url: "https://x.example/a" });
    expect((await scored(db, id)).score).toBe(48);
  });

  it("belongs to the lead with the address if the mail names no lead, or else to no lead", async () => {
    const email = address();
    const id = await insertLead(db, { email: email.toUpperCase() });
    await apply(await mailTo(email, null), email, "open");
    const stranger = address();
    await apply(await mailTo(stranger, null), stranger, "open");
    expect(await eventsOf(id)).toEqual(["email_opened"]);
  });

  it("belongs to the surviving lead after a merge, even for a mail in the archive", async () => {
    const [one, other] = [address(), address()];
    const into = await insertLead(db, { email: one });
    const from = await insertLead(db, { email: other });
    const archived = await mailTo(other, from);
    await db
      .query("update ai_email_queue set finished_at = now() - interval '40 days' where id = $1", [archived])
      .catch(() => {});
    await db.query(
      `insert into brainops.job_archive (tenant_id, table_name, row_id, status, finished_at, job_row)
       select tenant_id, 'ai_email_queue', id, status, now(), to_jsonb(q) from ai_email_queue as q where id = $1`,
      [archived],
    );
    await db.query("delete from ai_email_queue where id = $1", [archived]);
    await db.as("tenantA", "select brainops.merge_leads($1, $2)", [into, from]);
    await apply(archived, other, "click", { url: "https://x.example/b" });
    expect(await eventsOf(into)).toEqual(["email_clicked", "merged"]);
  });

  it("is a bounce of the lead if the address does not exist, but not if the mailbox is full", async () => {
    const [hard, soft] = [address(), address()];
    const ids = [await insertLead(db, { email: hard }), await insertLead(db, { email: soft })];
    const bounce = "insert into email_bounces (tenant_id, recipient, bounce_type) values ($1, $2, $3)";
    await db.query(bounce, [db.tenantA, hard, "hard"]);
    await db.query(bounce, [db.tenantA, soft, "soft"]);
    expect(await Promise.all(ids.map(eventsOf))).toEqual([["email_bounced"], []]);
  });
});

describe("what clients record", () => {
  it("a reply updates last_contact and is one event of its channel", async () => {
    const id = await insertLead(db, { email: address() });
    await db.as("tenantA", "select brainops.record_reply($1, 'sms', 'call me')", [id]);
    expect(await eventsOf(id)).toEqual(["sms_replied"]);
    expect(await db.query("select last_contact is not null as moved from revenue_leads where id = $1", [id])).toEqual([
      { moved: true },
    ]);
    expect((await refusal(db.as("tenantA", "select brainops.record_reply($1, 'fax')", [id]))).code).toBe("OP007");
    expect((await refusal(db.as("tenantB", "select brainops.record_reply($1)", [id]))).code).toBe("OP009");
  });

  it("custom events are accepted, for their own leads only", async () => {
    const id = await insertLead(db, { email: address() });
    const insert = "insert into lead_events (lead_id, event) values ($1, $2) returning tenant_id";
    expect(await db.as("tenantA", insert, [id, "demo_watched"])).toEqual([{ tenant_id: db.tenantA }]);
    expect(await db.as("service", insert, [id, "demo_watched"])).toEqual([{ tenant_id: db.tenantA }]);
    expect((await refusal(db.as("tenantB", insert, [id, "demo_watched"]))).code).toBe("23503");
    expect((await refusal(db.as("tenantA", insert, [id, "Demo Watched"]))).code).toBe("23514");
    expect(await db.as("tenantB", "select from lead_events where lead_id = $1", [id])).toEqual([]);
  });
});
