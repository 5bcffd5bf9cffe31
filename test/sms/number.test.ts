// Numbers as people write them: those that SQL parses itself, libphonenumber parses the same.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { e164 } from "../../src/revenue/sms/number.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.close());

describe("a number", () => {
  it.each([
    ["+1 (303) 555-0100", "US", "+13035550100"],
    ["(303) 555-0100", "US", "+13035550100"],
    ["1-303-555-0100", "CA", "+13035550100"],
    ["303.555.0100", "US", "+13035550100"],
    ["+44 20 7946 0018", "US", "+442079460018"],
    ["020 7946 0018", "GB", "+442079460018"],
    ["0171 1234567", "DE", "+491711234567"],
    ["0049 171 1234567", "DE", "+491711234567"],
    ["06 12 34 56 78", "FR", "+33612345678"],
    ["+39 06 698 1234", "US", "+39066981234"],
    ["+15005550006", "US", "+15005550006"],
  ])("%s in %s is %s", (text, country, expected) => {
    expect(e164(text, country)).toBe(expected);
  });

  it.each([
    ["555-0100", "US"],
    ["+1 303 555 010", "US"],
    ["+1 303 555 0100 ext. 5", "US"],
    ["12", "US"],
    ["303 555 0100", "ZZ"],
    ["+999 12345678", "US"],
    ["call me", "US"],
    ["", "US"],
  ])("'%s' in %s is invalid", (text, country) => {
    expect(e164(text, country)).toBeNull();
  });

  it("that SQL parses is parsed the same by libphonenumber", async () => {
    const texts = [
      "+1 (303) 555-0100",
      "(303) 555-0100",
      "1 303 555 0100",
      "+442079460018",
      "+49 171 1234567",
      "020 7946 0018",
      "5550100",
      "113035550100",
    ];
    for (const country of ["US", "CA", "GB", "DE"]) {
      for (const text of texts) {
        const [row] = await db.query<{ number: string | null }>(
          "select brainops_internal.sms_number($1, $2) as number",
          [text, country],
        );
        // If SQL returns null, the worker parses the number; otherwise both results are equal.
        expect([text, country, row?.number ?? e164(text, country)]).toEqual([text, country, e164(text, country)]);
      }
    }
    const [row] = await db.query(
      "select brainops_internal.sms_number('(303) 555-0100', 'US') as us, brainops_internal.sms_number('(303) 555-0100', 'DE') as de",
    );
    expect(row).toEqual({ us: "+13035550100", de: null });
  });
});
