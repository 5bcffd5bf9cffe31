// Reading what people write: CSV line by line, fields by column.
import { Readable } from "node:stream";
import fc from "fast-check";
import { Temporal } from "temporal-polyfill";
import { describe, expect, it } from "vitest";
import { readCsv, UnclosedQuoteError } from "../../src/revenue/leads/csv.ts";
import { columnOf } from "../../src/revenue/leads/columns.ts";
import { readLead } from "../../src/revenue/leads/fields.ts";
import { instantIn } from "../../src/revenue/leads/place.ts";

/** Records with their lines, and the line at which reading failed. */
async function read(
  text: string,
  chunk = 7,
  delimiter = ",",
): Promise<{ rows: [number, ...string[]][]; broken?: number }> {
  // In whole characters, as a decoder gives them.
  const characters = Array.from(text);
  const chunks = Array.from({ length: Math.ceil(characters.length / chunk) }, (_, index) =>
    characters.slice(index * chunk, (index + 1) * chunk).join(""),
  );
  const rows: [number, ...string[]][] = [];
  try {
    for await (const { line, fields } of readCsv(Readable.from(chunks), delimiter)) rows.push([line, ...fields]);
  } catch (error) {
    if (!(error instanceof UnclosedQuoteError)) throw error;
    return { rows, broken: error.line };
  }
  return { rows };
}

describe("CSV", () => {
  it("gives each record the line that it begins in", async () => {
    const text =
      '\uFEFFemail,name\r\n\r\n"a@x.example","Ann\r\nMaria"\r\n,\r\nb@x.example,"says ""hi"""\r\nc@x.example,5" pipe\r\n';
    expect(await read(text)).toEqual({
      rows: [
        [1, "email", "name"],
        [3, "a@x.example", "Ann\r\nMaria"],
        [6, "b@x.example", 'says "hi"'],
        [7, "c@x.example", '5" pipe'],
      ],
    });
  });

  it("keeps all records before a quote that is never closed, and reports its line", async () => {
    for (const chunk of [3, 1000]) {
      expect(await read('a,b\n1,2\n3,"4\n5,6\n', chunk)).toEqual({
        rows: [
          [1, "a", "b"],
          [2, "1", "2"],
        ],
        broken: 3,
      });
    }
    const long = await read(`a,b\n1,2\n3,"${"x".repeat(300 * 1024)}\n5,6\n`, 64 * 1024);
    expect(long).toEqual({
      rows: [
        [1, "a", "b"],
        [2, "1", "2"],
      ],
      broken: 3,
    });
  });

  it("returns what was written, wherever the chunks end", async () => {
    const field = fc.string({ unit: fc.constantFrom("a", "é", "😀", ",", '"', "\n", ";", " ") });
    const table = fc.array(fc.tuple(field, field), { minLength: 1, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(table, fc.integer({ min: 1, max: 20 }), async (rows, chunk) => {
        const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`;
        const text = rows.map((row) => `${row.map(quoted).join(",")}\n`).join("");
        const found = (await read(text, chunk)).rows.map(([, ...fields]) => fields);
        expect(found).toEqual(rows.filter((row) => row.some((value) => value.trim() !== "")));
      }),
    );
  });
});

describe("columns", () => {
  it.for([
    ["E-Mail", "email"],
    ["Email Address", "email"],
    ["Company", "company_name"],
    [" Full name ", "contact_name"],
    ["Phone Number", "phone"],
    ["Time zone", "time_zone"],
    ["SMS consent", "sms_consent"],
    ["Roof type", "roof_type"],
    // Outlook, Google, Salesforce, HubSpot, Mailchimp, German files.
    ["E-mail Address", "email"],
    ["E-mail 1 - Value", "email"],
    ["Phone 1 - Value", "phone"],
    ["Company / Account", "company_name"],
    ["Website URL", "website"],
    ["First Name", "first_name"],
    ["Given Name", "first_name"],
    ["E-Mail-Adresse", "email"],
    ["Nachname", "last_name"],
    ["Firma", "company_name"],
  ] as const)("%s is %s", ([heading, column]) => {
    expect(columnOf(heading)).toBe(column);
  });
});

const reading = (fields: Record<string, unknown>, country = "US", timeZone = "UTC") =>
  readLead(Object.entries(fields), { country, timeZone });

describe("fields", () => {
  it("that are valid make a lead; unknown columns go into metadata", () => {
    const { lead } = reading({
      email: " Ann@X.example ",
      phone: "(303) 555-0101",
      value_estimate: "$12,500.50",
      score: "0.85",
      email_consent: "Yes",
      sms_consent: "no",
      company_name: "",
      time_zone: "America/Denver",
      next_action_date: "2026-03-31",
      budget: "high",
      floors: 2,
      __proto__x: "kept",
    });
    expect(lead).toEqual({
      email: "Ann@X.example",
      phone: "(303) 555-0101",
      phone_e164: "+13035550101",
      value_estimate: "12500.50",
      score: "0.85",
      email_consent: true,
      sms_consent: false,
      time_zone: "America/Denver",
      next_action_date: "2026-03-31T00:00:00.000Z",
      metadata: { budget: "high", floors: 2, __proto__x: "kept" },
    });
  });

  it("are parsed for the tenant's country if they are national", () => {
    expect(reading({ phone: "030 1234567" }, "DE").lead).toMatchObject({ phone_e164: "+49301234567" });
    expect(reading({ phone: "+44 20 7946 0958" }, "DE").lead).toMatchObject({ phone_e164: "+442079460958" });
  });

  it("that are invalid are all reported, each with its value and what was expected", () => {
    const { lead, faults } = reading({
      email: "ann at x",
      phone: "call me",
      score: "101",
      value_estimate: "a lot",
      time_zone: "Mars/Olympus",
      email_consent: "maybe",
      next_action_date: "soon",
      contact_name: ["Ann"],
    });
    expect(lead).toBeNull();
    expect(faults?.map(({ column, value }) => [column, value])).toEqual([
      ["email", "ann at x"],
      ["phone", "call me"],
      ["score", "101"],
      ["value_estimate", "a lot"],
      ["time_zone", "Mars/Olympus"],
      ["email_consent", "maybe"],
      ["next_action_date", "soon"],
      ["contact_name", '["Ann"]'],
    ]);
    for (const { expected } of faults ?? []) expect(expected.length).toBeGreaterThan(8);
  });

  it("that are invalid are left out if an address remains", () => {
    const { lead, faults } = reading({ email: "ann@x.example", phone: "n/a", score: "101", floors: 2 });
    expect(lead).toEqual({ email: "ann@x.example", metadata: { floors: 2 } });
    expect(faults.map(({ column }) => column)).toEqual(["phone", "score"]);
    expect(reading({ email: "ann at x", phone: "+1 303 555 0101" })).toMatchObject({
      lead: { phone_e164: "+13035550101" },
      faults: [{ column: "email" }],
    });
  });

  it.for<[Record<string, string>, string]>([
    [{ first_name: "Ann", last_name: "Archer" }, "Ann Archer"],
    [{ first_name: "Ann" }, "Ann"],
    [{ first_name: "Hans", contact_name: "Meier" }, "Hans Meier"],
    [{ first_name: "Ann", contact_name: "Dr. Ann Archer" }, "Dr. Ann Archer"],
    [{ first_name: "Ann", last_name: "Archer", contact_name: "Archer Roofing" }, "Archer Roofing"],
  ])("%j name the person %s", ([fields, name]) => {
    expect(reading({ email: "ann@x.example", ...fields }).lead).toMatchObject({ contact_name: name });
  });

  it.for([
    ["12500", "US", "12500"],
    ["$12,500.50", "US", "12500.50"],
    ["12,500", "US", "12500"],
    ["12.5", "US", "12.5"],
    ["12.500", "US", null],
    ["12.500", "DE", "12500"],
    ["1.234,50", "DE", "1234.50"],
    ["1.234,50 €", "DE", "1234.50"],
    ["1.234.567", "DE", "1234567"],
    ["12,5", "DE", "12.5"],
    ["12,500", "DE", null],
    ["1 234,50", "FR", "1234.50"],
    ["1'234.50", "CH", "1234.50"],
    ["EUR 1,234.50", "DE", "1234.50"],
    ["1,23,45", "US", null],
    ["12.34.56", "DE", null],
    ["1.234.50", "US", null],
    ["a lot", "US", null],
  ] as const)("an amount of %s in %s is %s", ([text, country, amount]) => {
    const { lead, faults } = reading({ email: "ann@x.example", value_estimate: text }, country);
    expect(lead?.["value_estimate"] ?? null).toBe(amount);
    expect(faults.length).toBe(amount === null ? 1 : 0);
  });

  it.for([
    ["2026-03-31", "US", "UTC", "2026-03-31T00:00:00.000Z"],
    ["2026-03-31", "US", "America/Denver", "2026-03-31T06:00:00.000Z"],
    ["2026-03-31 09:00", "US", "America/Denver", "2026-03-31T15:00:00.000Z"],
    ["2026-03-31T09:00:00Z", "US", "America/Denver", "2026-03-31T09:00:00.000Z"],
    ["2026-03-31T09:00+02:00", "US", "America/Denver", "2026-03-31T07:00:00.000Z"],
    ["05.06.2026", "DE", "Europe/Berlin", "2026-06-04T22:00:00.000Z"],
    ["5. 6. 2026", "US", "UTC", "2026-06-05T00:00:00.000Z"],
    ["31.03.2026", "DE", "UTC", "2026-03-31T00:00:00.000Z"],
    ["05/06/2026", "US", "UTC", "2026-05-06T00:00:00.000Z"],
    ["05/06/2026", "GB", "UTC", "2026-06-05T00:00:00.000Z"],
    ["31/03/2026", "US", "UTC", "2026-03-31T00:00:00.000Z"],
    ["05/06/2026", "CA", "UTC", null],
    ["2026-02-30", "US", "UTC", null],
    ["31.04.2026", "DE", "UTC", null],
    ["2026-03-31 25:00", "US", "UTC", null],
    ["05/06/26", "US", "UTC", null],
    ["Week 12", "DE", "UTC", null],
    ["46112", "US", "UTC", null],
    ["soon", "US", "UTC", null],
  ] as const)("a date of %s in %s, %s is %s", ([text, country, timeZone, date]) => {
    const { lead, faults } = reading({ email: "ann@x.example", next_action_date: text }, country, timeZone);
    expect(lead?.["next_action_date"] ?? null).toBe(date);
    expect(faults.length).toBe(date === null ? 1 : 0);
  });

  it("with a date that clocks show in a zone mean an instant at which they show it", () => {
    const zone = fc.constantFrom("America/Denver", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "UTC");
    const minutes = fc.integer({ min: Date.UTC(2000, 0) / 60_000, max: Date.UTC(2040, 0) / 60_000 });
    fc.assert(
      fc.property(zone, minutes, (timeZone, minute) => {
        const there = Temporal.Instant.fromEpochMilliseconds(minute * 60_000).toZonedDateTimeISO(timeZone);
        const shown = there.toPlainDateTime().toZonedDateTime("UTC").epochMilliseconds;
        // The first of two equal times in autumn.
        const expected = there.toPlainDateTime().toZonedDateTime(timeZone, { disambiguation: "earlier" });
        return instantIn(timeZone, shown).getTime() === expected.epochMilliseconds;
      }),
    );
    // 02:30 does not exist on 8 March 2026 in Denver.
    expect(instantIn("America/Denver", Date.UTC(2026, 2, 8, 2, 30)).toISOString()).toBe("2026-03-08T09:30:00.000Z");
  });

  it("without any address are refused", () => {
    expect(reading({ contact_name: "Ann", email: "  " }).faults).toEqual([
      { column: "email", value: null, expected: "an e-mail address or a phone number" },
    ]);
  });

  it("never contain what Postgres refuses, whatever was written", () => {
    const value = fc.oneof(fc.string({ unit: "binary" }), fc.double(), fc.boolean(), fc.constant(null));
    fc.assert(
      fc.property(
        fc.dictionary(fc.string({ unit: "binary" }), value),
        fc.constantFrom("US", "DE", "nowhere"),
        (given, country) => {
          const fields = Object.entries(given).map(([heading, text]) => [columnOf(heading), text] as const);
          const { lead, faults } = readLead([...fields, ["contact_name", "a\0b\uD800"], ["email", "ann@x.example"]], {
            country,
            timeZone: "UTC",
          });
          const text = JSON.stringify(lead ?? faults);
          return !text.includes("\\u0000") && !text.includes("\\ud8") && text.isWellFormed();
        },
      ),
    );
    expect(reading({ email: "ann@x.example", contact_name: "a\0b\uD800" }).lead).toMatchObject({
      contact_name: "a\uFFFDb\uFFFD",
    });
  });
});
