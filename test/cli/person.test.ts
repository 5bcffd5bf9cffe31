// `brainops person`: exports and erases what is stored about a person.
import { afterAll, beforeAll, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { brainops } from "./run.ts";

const ANN = "ann@example.com";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
  await db.query(
    "insert into revenue_leads (tenant_id, email, contact_name) values ($1, $2, 'Ann'), ($3, $2, 'Ann of B')",
    [db.tenantA, ANN, db.tenantB],
  );
  await db.query(
    "insert into ai_email_queue (tenant_id, recipient, subject, body, scheduled_for) values ($1, $2, 'Hi', 'Hi', '2100-01-01Z')",
    [db.tenantA, ANN],
  );
});

afterAll(() => db.close());

const person = (...args: string[]) => brainops(["person", ...args], { DATABASE_URL: db.url });
const held = (slug: string): Promise<unknown[]> =>
  db.query("select from revenue_leads where email = $1 and tenant_id = brainops_internal.tenant_id_of($2)", [
    ANN,
    slug,
  ]);

test("export prints one tenant's data as JSON by table", async () => {
  const { code, stdout } = await person("export", "tenant-a", " ANN@example.com ");
  expect(code).toBe(0);
  const { held: tables } = JSON.parse(stdout) as { held: Record<string, Record<string, unknown>[]> };
  expect(tables["public.revenue_leads"]).toMatchObject([{ contact_name: "Ann", email: ANN }]);
  expect(tables["public.ai_email_queue"]).toHaveLength(1);
  expect(stdout).not.toContain("Ann of B");
});

test("forget without --yes lists what is stored and erases nothing; with it, erases one tenant's data", async () => {
  const preview = await person("forget", "tenant-a", ANN);
  expect([preview.code, preview.stdout]).toEqual([
    0,
    expect.stringMatching(/public\.ai_email_queue +1[^]*Nothing has been erased/),
  ]);
  expect(await held("tenant-a")).toHaveLength(1);

  const done = await person("forget", "tenant-a", ANN, "--yes");
  expect([done.code, done.stdout]).toEqual([0, expect.stringMatching(/public\.revenue_leads +1/)]);
  expect(await held("tenant-a")).toEqual([]);
  expect(await held("tenant-b")).toHaveLength(1);
  const again = await person("forget", "tenant-a", ANN, "--yes");
  expect(again.code).toBe(0);
});

test.for([
  [["export", "nowhere", ANN], 1, "nowhere"],
  [["export", "tenant-a", " "], 1, "address: is empty"],
  [["forget", "tenant-a"], 2, "address"],
] as const)("%j is refused with a message", async ([args, expected, text]) => {
  const { code, stdout, stderr } = await person(...args);
  expect([code, stdout]).toEqual([expected, ""]);
  expect(stderr).toContain(text);
});
