// A lead that opted out of a campaign's topic is not in the campaign, however it was enrolled.
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { enrol, enrolmentOf, launch, makeLaunchable, newLead, touchesOf } from "./support.ts";

let db: TestDatabase;
let tenant: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  await makeLaunchable(db);
  tenant = await db.connect("tenantA");
  for (const code of ["once", "meeting"]) {
    await launch(tenant, code, [{ step_number: 1, kind: "send_email", template: "mail", delay: "1 day" }]);
  }
});
afterAll(() => db.close());

describe("a lead that opted out of the topic of a campaign", () => {
  beforeAll(async () => {
    await tenant.query("insert into contact_topics (code, name, campaign_codes) values ('offers', 'Offers', '{once}')");
  });
  const optOut = (email: string): Promise<unknown> =>
    db.query(
      "insert into contact_topic_optouts (tenant_id, topic_id, address_key) select tenant_id, id, $2 from contact_topics where tenant_id = $1",
      [db.tenantA, email],
    );

  it.each(["active", "paused"])("exits at once when it is enrolled as %s, and gets no touch", async (status) => {
    await optOut(`${status}@example.com`);
    const lead = await newLead(tenant, { email: `${status}@example.com` });
    const { rows } = await tenant.query<{ id: string }>(
      "insert into ai_nurture_campaigns (lead_id, campaign_type, status) values ($1, 'once', $2) returning id",
      [lead, status],
    );
    const id = rows[0]?.id ?? "";
    expect(await enrolmentOf(db, id)).toMatchObject({ status: "exited", exit_reason: "topic_not_wanted" });
    expect(await touchesOf(db, id)).toEqual([]);
    expect((await enrolmentOf(db, await enrol(tenant, lead, "meeting"))).status).toBe("active");
  });

  it.skipIf(!isServer)("exits if it is enrolled and opts out at the same moment", async () => {
    const lead = await newLead(tenant, { email: "race@example.com" });
    const other = await db.connect("tenantA");
    await other.query("begin");
    const id = await enrol(other, lead, "once");
    const out = optOut("race@example.com");
    await db.until(
      "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock') or exists (select from contact_topic_optouts where address_key = 'race@example.com') as there",
    );
    await other.query("commit");
    await out;
    expect(await enrolmentOf(db, id)).toMatchObject({ status: "exited", exit_reason: "topic_not_wanted" });
  });

  it("exits when a lead in the campaign is merged into it", async () => {
    await optOut("no@example.com");
    const [into, from] = [await newLead(tenant, { email: "no@example.com" }), await newLead(tenant)];
    const id = await enrol(tenant, from, "once");
    await tenant.query("select brainops.merge_leads($1, $2)", [into, from]);
    expect(await enrolmentOf(db, id)).toMatchObject({ status: "exited", exit_reason: "topic_not_wanted" });
  });
});
