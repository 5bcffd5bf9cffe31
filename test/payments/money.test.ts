// Amounts: exact in both directions for every currency, refused if they have too many decimals, and
// added up by the database as numeric, never as floats.
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";

interface Currency {
  readonly code: string;
  readonly exponent: number;
  readonly stripe_exponent: number;
  readonly stripe_multiple: number;
}

let db: TestDatabase;
let currencies: Currency[];

beforeAll(async () => {
  db = await createTestDatabase();
  currencies = await db.query<Currency>("select * from brainops.currencies order by code");
});
afterAll(() => db?.close());

const anyCurrency = (): fc.Arbitrary<Currency> => fc.constantFrom(...currencies);
const minor = async (amount: string, code: string): Promise<string | undefined> =>
  (await db.query<{ m: string }>("select brainops_internal.minor_units($1, $2)::text as m", [amount, code]))[0]?.m;

/** The amount with its decimal point, by string operations only. */
function spelled(units: bigint, decimals: number): string {
  const digits = units.toString().padStart(decimals + 1, "0");
  return decimals === 0 ? digits : `${digits.slice(0, -decimals)}.${digits.slice(-decimals)}`;
}

describe("an amount", () => {
  it("is unchanged by conversion to Stripe's units and back, in every currency", async () => {
    await fc.assert(
      fc.asyncProperty(anyCurrency(), fc.bigInt({ min: 1n, max: 10n ** 11n }), async (currency, n) => {
        const units = n * BigInt(currency.stripe_multiple);
        const amount = spelled(units, currency.stripe_exponent);
        const [row] = await db.query<{ minor: string; same: boolean }>(
          `select brainops_internal.minor_units($1, upper($2))::text as minor,
             brainops_internal.major_units(brainops_internal.minor_units($1, $2), $2) = $1::numeric as same`,
          [amount, currency.code],
        );
        expect(row).toEqual({ minor: units.toString(), same: true });
      }),
      { numRuns: 100 },
    );
  });

  it("with too many decimals is refused, never rounded", async () => {
    await fc.assert(
      fc.asyncProperty(anyCurrency(), fc.bigInt({ min: 1n, max: 10n ** 9n }), async (currency, n) => {
        // One decimal more than Stripe accepts, and that decimal is not zero.
        const amount = `${spelled(n, currency.stripe_exponent)}${currency.stripe_exponent === 0 ? "." : ""}${(n % 9n) + 1n}`;
        expect(await refusal(minor(amount, currency.code))).toMatchObject({ code: "OP027", column: "amount" });
      }),
      { numRuns: 100 },
    );
  });

  it.each([
    ["1250", "usd", "125000"],
    ["0.01", "eur", "1"],
    ["12.50", "USD", "1250"],
    ["500", "jpy", "500"],
    ["500", "krw", "500"],
    ["5.120", "kwd", "5120"],
    ["5", "isk", "500"],
    ["100", "ugx", "10000"],
    ["7", "mga", "7"],
  ])("%s %s is %s at Stripe", async (amount, code, expected) => {
    expect(await minor(amount, code)).toBe(expected);
  });

  it.each([
    ["0", "usd", "OP027"],
    ["-1", "usd", "OP027"],
    ["NaN", "usd", "OP027"],
    ["Infinity", "usd", "OP027"],
    ["1000000000000", "usd", "OP027"],
    ["0.5", "jpy", "OP027"],
    ["5.123", "kwd", "OP027"],
    ["5.5", "isk", "OP027"],
    ["5", "doge", "OP028"],
  ])("%s %s is refused with a reason", async (amount, code, expected) => {
    const { code: given, hint } = await refusal(minor(amount, code));
    expect(given).toBe(expected);
    expect(hint).toMatch(/\.$/);
  });
});

it("the currencies have the decimals that Stripe documents", () => {
  expect(currencies.length).toBeGreaterThan(130);
  const zero = currencies.filter(({ stripe_exponent: e }) => e === 0).map(({ code }) => code);
  // Stripe's list of currencies without decimals.
  expect(zero).toEqual("bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split(" "));
  expect(currencies.filter(({ exponent }) => exponent === 3).map(({ code }) => code)).toEqual(
    "bhd jod kwd omr tnd".split(" "),
  );
});
