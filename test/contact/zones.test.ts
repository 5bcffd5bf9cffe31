// Where a person is: phone_zones, and what a lead says of itself.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});

afterAll(() => db.close());

describe("brainops.phone_zones", () => {
  it("holds zones that Postgres knows, and the states of the law", async () => {
    expect(
      await db.query("select prefix from brainops.phone_zones, unnest(zones) as z where not brainops.is_time_zone(z)"),
    ).toEqual([]);
    const [count] = await db.query<{ n: number }>(
      "select count(distinct state)::int as n from brainops.phone_zones where country = 'US'",
    );
    expect(count?.n).toBe(56); // 50 states, the district, five territories
    expect(
      await db.query(
        `select state from brainops.contact_windows where state is not null
         except select state from brainops.phone_zones`,
      ),
    ).toEqual([]);
  });

  it.each([
    ["+13035550100", ["America/Denver"]],
    ["+12085550100", ["America/Denver", "America/Los_Angeles"]],
    ["+442075550100", ["Europe/London"]],
    ["+77015550100", ["Asia/Almaty"]],
    ["(212) 555-0100", ["America/New_York"]],
    ["ann@example.com", ["America/Denver"]], // the tenant's
  ])("tells where %s may be", async (address, zones) => {
    const [row] = await db.query("select brainops.address_zones($1, null, $2) as zones", [db.tenantA, address]);
    expect(row).toEqual({ zones });
  });

  it("comes after what is known of the lead", async () => {
    const [lead] = await db.query<{ id: string }>(
      "insert into revenue_leads (tenant_id, email, phone, time_zone) values ($1, 'zone@example.com', '+12125550177', 'Asia/Tokyo') returning id",
      [db.tenantA],
    );
    const zones = async (id: string | undefined, address: string): Promise<unknown> =>
      (await db.query("select brainops.address_zones($1, $2, $3) as zones", [db.tenantA, id ?? null, address]))[0];
    expect(await zones(lead?.id, "+12125550177")).toEqual({ zones: ["Asia/Tokyo"] });
    expect(await zones(undefined, "Zone@example.com")).toEqual({ zones: ["Asia/Tokyo"] });
    await db.query("update revenue_leads set time_zone = null where id = $1", [lead?.id]);
    expect(await zones(lead?.id, "zone@example.com")).toEqual({ zones: ["America/New_York"] });
  });
});
