// Where a person is: phone_zones, and the columns of a lead.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { refusal } from "../support/refusal.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});

afterAll(() => db.close());

describe("brainops.phone_zones", () => {
  it("has zones that Postgres knows, and every state with legal hours", async () => {
    expect(
      await db.query(
        "select prefix from brainops.phone_zones, unnest(zones) as z where not brainops_internal.is_time_zone(z)",
      ),
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
  ])("gives the possible zones of %s", async (address, zones) => {
    const [row] = await db.query("select brainops.address_zones($1, null, $2) as zones", [db.tenantA, address]);
    expect(row).toEqual({ zones });
  });

  it("yields to what is known of the lead", async () => {
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

describe("a time zone", () => {
  const insert = (zone: string): Promise<unknown> =>
    db.as("tenantA", "insert into revenue_leads (email, time_zone) values (gen_random_uuid() || '@example.com', $1)", [
      zone,
    ]);

  it.each(["America/Denver", "america/argentina/buenos_aires", "America/Port-au-Prince", "Etc/GMT+5", "UTC"])(
    "is a name, such as %s",
    async (zone) => {
      await expect(insert(zone)).resolves.toEqual([]);
    },
  );

  it.each(["+05:00", "-07", "UTC+5", "<+05>-5", "Asia/Karachi+5", "MST7", "PST", "cet", "Mars/Olympus", "", " "])(
    "is not an offset, an abbreviation or anything else: %j",
    async (zone) => {
      expect(await refusal(insert(zone))).toMatchObject({
        code: "23514",
        column: "time_zone",
        message: `time_zone: '${zone}' is not the name of a time zone`,
        hint: expect.stringContaining("America/Denver"),
      });
      expect((await refusal(db.query("update tenants set time_zone = $1", [zone]))).code).toBe("23514");
    },
  );
});
