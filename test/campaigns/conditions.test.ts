// Conditions: what condition_problems accepts, condition_holds can evaluate, for any lead.
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let db: TestDatabase;
const leads: string[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
  const people = [
    { email: "ann@example.com", source: "web", metadata: { roof: "flat", n: 7, list: [1] } },
    { phone: "+13035550142", metadata: { n: "9".repeat(5000), roof: null } },
  ];
  for (const person of people) {
    const [row] = await db.query<{ id: string }>(
      `insert into revenue_leads (tenant_id, email, phone, source, company_name, metadata) values ($1, $2, $3, $4, $5, $6) returning id`,
      [db.tenantA, person.email, person.phone, person.source, "1".repeat(1000), person.metadata],
    );
    leads.push(row?.id ?? "");
  }
});

afterAll(() => db.close());

const odd = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    false,
    0,
    1,
    -7,
    1.5,
    1e300,
    "",
    "yes",
    "true",
    "7",
    "web",
    [],
    {},
    [null],
    ["web", 7],
  ),
  fc.jsonValue({ maxDepth: 1 }),
);
const oneOf = (...values: string[]): fc.Arbitrary<unknown> =>
  fc.oneof({ weight: 6, arbitrary: fc.constantFrom<unknown>(...values) }, { weight: 1, arbitrary: odd });
const field = fc.record(
  {
    field: oneOf("score", "email", "phone", "company_name", "tier", "value_estimate", "metadata.n", "metadata.roof"),
    op: oneOf("=", "!=", "<", "<=", ">", ">=", "in", "exists"),
    value: odd,
  },
  { requiredKeys: ["field"] },
);
const event = fc.record(
  {
    event: oneOf("email_clicked", "visited"),
    within: oneOf("7 days", "soon", "-1 day", "200000 years", "P1Y", "1e9 years", "infinity", "178000000 years"),
    at_least: fc.oneof(fc.constantFrom<unknown>(1, 2, "3", 1_000_000, 2_147_483_648), odd),
    channel: oneOf("email"),
  },
  { requiredKeys: ["event"] },
);
const condition = fc.letrec<{ any: unknown }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 4 },
    { weight: 5, arbitrary: field },
    { weight: 4, arbitrary: event },
    { weight: 1, arbitrary: odd },
    { weight: 1, arbitrary: fc.record({ not: tie("any") }) },
    { weight: 1, arbitrary: fc.record({ all: fc.oneof(fc.array(tie("any"), { maxLength: 3 }), odd) }) },
    { weight: 1, arbitrary: fc.record({ any: fc.oneof(fc.array(tie("any"), { maxLength: 3 }), odd) }) },
  ),
})).any;

const problemsOf = async (one: unknown): Promise<string[]> =>
  (
    await db.query<{ p: string }>("select p from brainops_internal.condition_problems($1) as p", [JSON.stringify(one)])
  ).map((row) => row.p);
const answersOf = async (one: unknown): Promise<(boolean | null)[]> =>
  (
    await db.query<{ holds: boolean | null }>(
      "select brainops_internal.condition_holds($1, l, '-infinity') as holds from revenue_leads as l where l.id = any ($2)",
      [JSON.stringify(one), leads],
    )
  ).map((row) => row.holds);

describe("a condition", () => {
  it("without problems is true or false for every lead", async () => {
    let evaluated = 0;
    await fc.assert(
      fc.asyncProperty(condition, async (one) => {
        if ((await problemsOf(one)).length > 0) return;
        evaluated += 1;
        for (const answer of await answersOf(one)) expect(answer).toBeTypeOf("boolean");
      }),
      { numRuns: 1000 },
    );
    expect(evaluated).toBeGreaterThan(100);
  }, 60_000);

  it("on nulls is false, and so is a list that contains it", async () => {
    const nothing = { field: "source", op: "in", value: [null] };
    expect(await answersOf({ all: [nothing] })).toEqual([false, false]);
    expect(await answersOf({ not: { all: [nothing] } })).toEqual([true, true]);
  });

  it("is limited in depth, so that it can always be evaluated", async () => {
    const nested = (depth: number): unknown =>
      depth === 0 ? { field: "source", op: "=", value: "web" } : { not: nested(depth - 1) };
    expect(await problemsOf(nested(20))).toEqual([]);
    expect(await answersOf(nested(20))).toEqual([true, false]);
    expect(await problemsOf(nested(21))).toEqual([expect.stringContaining("is nested in more than 20 others")]);
    expect(await problemsOf(nested(2000))).toEqual([expect.stringContaining("at most 100 are allowed")]);
  });
});
