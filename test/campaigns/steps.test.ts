// What tenants may change in steps: those of a draft, but not those of a published version.
import type pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";
import { launch, makeLaunchable } from "./support.ts";

let db: TestDatabase;
let tenant: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  await makeLaunchable(db);
  tenant = await db.connect("tenantA");
  await launch(tenant, "live", [{ step_number: 1, kind: "send_email", template: "mail" }]);
  await tenant.query("insert into campaigns (code, name) values ('draft', 'Draft'), ('other', 'Other')");
  await tenant.query(
    "insert into campaign_steps (campaign_id, step_number, kind, template) select id, 1, 'send_email', 'mail' from campaigns where code = 'draft'",
  );
});

afterAll(() => db.close());

it("a step cannot move to another campaign: a published version would lose it", async () => {
  const move = (from: string, to: string): Promise<unknown> =>
    tenant.query(
      `update campaign_steps set campaign_id = (select id from campaigns where code = $2)
       where campaign_id = (select id from campaigns where code = $1)`,
      [from, to],
    );
  expect(await refusal(move("live", "draft"))).toMatchObject({ code: "OP021" });
  expect(await refusal(move("draft", "other"))).toMatchObject({ code: "OP021" });
  const changed = await tenant.query(
    "update campaign_steps set delay = '1 day' where campaign_id = (select id from campaigns where code = 'draft')",
  );
  expect(changed.rowCount).toBe(1);
});

it("a step for another tenant's campaign is refused, without revealing the campaign", async () => {
  const [campaign] = await db.query<{ id: string }>("select id from campaigns where code = 'live'");
  const insert = (tenantId: string): Promise<unknown> =>
    db.as(
      tenantId === db.tenantA ? "tenantA" : "tenantB",
      "insert into campaign_steps (tenant_id, campaign_id, version, step_number, kind) values ($1, $2, 0, 9, 'send_email')",
      [db.tenantA, campaign?.id],
    );
  expect(await refusal(insert(db.tenantA))).toMatchObject({ code: "OP021" });
  expect(await refusal(insert(db.tenantB))).toMatchObject({
    code: "42501",
    message: 'new row violates row-level security policy for table "campaign_steps"',
  });
});
