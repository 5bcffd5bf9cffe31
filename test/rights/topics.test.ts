// A topic that a person opted out of: its enrolments end, later ones end at once, and only those of that
// topic and person.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
  await db.query(
    "insert into contact_topics (tenant_id, code, name, campaign_codes) values ($1, 'tips', 'Tips', '{tips_series}')",
    [db.tenantA],
  );
  await db.query("select brainops.announce_public_url('https://ops.example')");
  await db.query(`update tenants set settings = settings || '{"postal_address": "1 Main St"}'`);
  for (const code of ["tips_series", "other_series"]) await launch(code);
});

afterAll(() => db.close());

/** A running campaign of one long wait, so that nothing else ends an enrolment. */
async function launch(code: string): Promise<void> {
  const [campaign] = await db.query<{ id: string }>(
    "insert into campaigns (tenant_id, code, name) values ($1, $2, $2) returning id",
    [db.tenantA, code],
  );
  await db.query(
    "insert into campaign_steps (tenant_id, campaign_id, step_number, kind, delay) values ($1, $2, 1, 'wait', '30 days')",
    [db.tenantA, campaign?.id],
  );
  await db.query("select brainops.publish_campaign($1, false, 'tenant-a')", [code]);
  await db.query("update campaigns set status = 'active' where id = $1", [campaign?.id]);
}

async function enrol(email: string, campaign: string): Promise<string> {
  await db.query("insert into revenue_leads (tenant_id, email) values ($1, $2) on conflict do nothing", [
    db.tenantA,
    email,
  ]);
  const [row] = await db.as<{ id: string }>(
    "tenantA",
    "select brainops.enrol((select id from revenue_leads where email = $1), $2) as id",
    [email, campaign],
  );
  return row?.id ?? "";
}

async function stateOf(id: string): Promise<string> {
  const [row] = await db.query<{ state: string }>(
    "select concat_ws(' ', status, exit_reason) as state from ai_nurture_campaigns where id = $1",
    [id],
  );
  return row?.state ?? "";
}

async function optOut(email: string): Promise<void> {
  const [link] = await db.query<{ token: string }>("select brainops_internal.unsubscribe_token($1, $2) as token", [
    db.tenantA,
    email,
  ]);
  await db.as("worker", "select brainops_internal.save_preferences($1, $2)", [
    link?.token,
    JSON.stringify({ topics: { tips: false } }),
  ]);
}

describe("a topic that a person opted out of", () => {
  it("ends its enrolments, and nothing else", async () => {
    const [tips, other, bobs] = [
      await enrol("ann@example.com", "tips_series"),
      await enrol("ann@example.com", "other_series"),
      await enrol("bob@example.com", "tips_series"),
    ];
    expect([await stateOf(tips), await stateOf(other), await stateOf(bobs)]).toEqual(["active", "active", "active"]);
    await optOut("Ann@example.com");
    expect([await stateOf(tips), await stateOf(other), await stateOf(bobs)]).toEqual([
      "exited topic_not_wanted",
      "active",
      "active",
    ]);
  });

  it("ends later enrolments at once", async () => {
    await optOut("cat@example.com");
    expect(await stateOf(await enrol("cat@example.com", "tips_series"))).toBe("exited topic_not_wanted");
    expect(await stateOf(await enrol("cat@example.com", "other_series"))).toBe("active");
  });
});
