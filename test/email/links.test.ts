// Unsubscribe links: one for each address of a tenant, however often and by how many workers it is requested.
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { beginAsWorker } from "../support/jobs.ts";

let db: TestDatabase;
let one: pg.Client;
let other: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  one = await db.connect("worker");
  other = await db.connect("worker");
});
afterAll(() => db.close());

async function tokens(client: pg.Client, addresses: readonly (string | null)[]): Promise<Map<string, string>> {
  const { rows } = await client.query<{ address_key: string; token: string }>(
    "select * from brainops_internal.unsubscribe_tokens($1, $2)",
    [db.tenantA, addresses],
  );
  expect(new Set(rows.map(({ address_key }) => address_key)).size).toBe(rows.length);
  return new Map(rows.map(({ address_key, token }) => [address_key, token]));
}

describe("the tokens of unsubscribe links", () => {
  it("are the same for any spelling of an address, and different for others", async () => {
    await beginAsWorker(one, db.tenantA);
    const first = await tokens(one, ["Ann@example.com", "ann@example.com ", "bob@example.com", null]);
    await one.query("commit");
    expect([...first.keys()].toSorted()).toEqual(["ann@example.com", "bob@example.com"]);
    expect(new Set(first.values()).size).toBe(2);
    for (const token of first.values()) expect(token).toMatch(/^[0-9a-f]{64}$/);

    await beginAsWorker(one, db.tenantA);
    const again = await tokens(one, ["bob@example.com", "cy@example.com", "ANN@EXAMPLE.COM"]);
    await one.query("commit");
    expect(again.get("ann@example.com")).toBe(first.get("ann@example.com"));
    expect(again.get("bob@example.com")).toBe(first.get("bob@example.com"));
    expect(again.size).toBe(3);
    await expect(db.as("tenantA", "select token from email_unsubscribe_links")).rejects.toThrow(/permission denied/);
  });

  it("are empty without addresses", async () => {
    await beginAsWorker(one, db.tenantA);
    expect(await tokens(one, [])).toEqual(new Map());
    expect(await tokens(one, [null])).toEqual(new Map());
    await one.query("commit");
  });

  it.skipIf(!isServer)("are the same for two requests at the same moment", async () => {
    await beginAsWorker(one, db.tenantA);
    await beginAsWorker(other, db.tenantA);
    const first = await tokens(one, ["race1@example.com", "race2@example.com"]);
    const second = tokens(other, ["race3@example.com", "race2@example.com"]);
    await db.until("select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query like $1)", [
      "%unsubscribe_tokens%",
    ]);
    await one.query("commit");
    const seen = await second;
    await other.query("commit");
    expect(seen.size).toBe(2);
    expect(seen.get("race2@example.com")).toBe(first.get("race2@example.com"));
  });
});
