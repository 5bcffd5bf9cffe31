// The stage machine: which values are accepted, and which changes are allowed.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";
import { insertLead, leadOf } from "./support.ts";

const stages = ["new", "contacted", "qualified", "proposal_sent", "negotiating", "won", "lost", "nurturing"];

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db?.close());

const moveTo = (id: string, stage: string) =>
  db.as("tenantA", "update revenue_leads set stage = $2 where id = $1", [id, stage]);

describe("stages from existing clients", () => {
  it.for([
    ["WON", "won"],
    ["paid", "won"],
    ["invoiced", "won"],
    ["won_invoice_pending", "won"],
    ["closed_won", "won"],
    ["Closed Won", "won"],
    ["replied", "contacted"],
    ["outreach_sent", "contacted"],
    ["new_real", "new"],
    ["contact-ready", "qualified"],
    ["meeting_booked", "negotiating"],
    [" Nurture ", "nurturing"],
    ["closed_lost", "lost"],
  ] as const)("%s is stored as %s", async ([value, stage]) => {
    const id = await insertLead(db, { contact_name: value, stage: value });
    expect((await leadOf(db, id)).stage).toBe(stage);
  });

  it("that are unknown are refused, with the known ones", async () => {
    const inserted = await refusal(insertLead(db, { contact_name: "x", stage: "maybe" }));
    expect(inserted).toMatchObject({ code: "OP011", column: "stage" });
    expect(inserted.message).toContain("'maybe'");
    expect(inserted.hint).toContain("nurturing");
    const id = await insertLead(db, { contact_name: "x" });
    expect(await refusal(moveTo(id, "perhaps"))).toMatchObject({ code: "OP011", column: "stage" });
  });

  it("that are less advanced leave the stage unchanged", async () => {
    const id = await insertLead(db, { contact_name: "x", stage: "negotiating" });
    await moveTo(id, "replied");
    expect((await leadOf(db, id)).stage).toBe("negotiating");
  });
});

describe("the stage of a lead", () => {
  it("changes only as brainops.next_stages allows, for every pair", async () => {
    const rows = await db.query<{ stage: string; next: string[] }>(
      "select s as stage, brainops.next_stages(s) as next from unnest($1::text[]) as s",
      [stages],
    );
    const next = new Map(rows.map((row) => [row.stage, row.next]));
    expect(new Set(next.values().flatMap((to) => to))).toEqual(new Set(stages.filter((stage) => stage !== "new")));
    for (const from of stages) {
      for (const to of stages) {
        const id = await insertLead(db, { contact_name: "x", stage: from });
        const outcome = await moveTo(id, to).then(
          () => "goes",
          (error: { code?: string }) => error.code,
        );
        const may = from === to || (next.get(from) ?? []).includes(to);
        expect([from, to, outcome]).toEqual([from, to, may ? "goes" : "OP011"]);
        expect((await leadOf(db, id)).stage).toBe(may ? to : from);
      }
    }
  });

  it("is recorded in lead_events once for each change, and not without a change", async () => {
    const id = await insertLead(db, { contact_name: "x" });
    for (const stage of ["contacted", "contacted", "proposal_sent", "won"]) await moveTo(id, stage);
    const events = await db.query<{ change: string }>(
      `select metadata ->> 'from' || '>' || (metadata ->> 'to') as change from lead_events
       where lead_id = $1 and event = 'stage_changed' order by created_at`,
      [id],
    );
    expect(events.map(({ change }) => change)).toEqual([
      "new>contacted",
      "contacted>proposal_sent",
      "proposal_sent>won",
    ]);
  });

  it("is neither visible to another tenant nor changed by it", async () => {
    const id = await insertLead(db, { contact_name: "x" });
    expect(await db.as("tenantB", "update revenue_leads set stage = 'won' where id = $1 returning id", [id])).toEqual(
      [],
    );
    expect(await db.as("tenantB", "select from lead_events where lead_id = $1", [id])).toEqual([]);
    expect(await db.as("tenantA", "select from lead_events where lead_id = $1", [id])).toHaveLength(1);
  });
});
