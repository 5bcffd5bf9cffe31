import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { segmentsOf } from "../../src/revenue/sms/segments.ts";
import { billedSegments } from "../../src/simulator/twilio/segments.ts";

const euro = "€"; // behind an escape: two septets
const emoji = "👋"; // two UTF-16 code units

describe("the segments of a text", () => {
  it.each([
    ["160 septets fit into one", "a".repeat(160), "GSM-7", 1],
    ["161 take two of 153", "a".repeat(161), "GSM-7", 2],
    ["306 still do", "a".repeat(306), "GSM-7", 2],
    ["307 take three", "a".repeat(307), "GSM-7", 3],
    ["1600 take eleven", "a".repeat(1600), "GSM-7", 11],
    ["the GSM alphabet has umlauts, Greek capitals and line feeds", "Größe ÄÖÜ ñ à ΔΦΓ @£$¥\n", "GSM-7", 1],
    ["a character of the extension counts twice", euro.repeat(80), "GSM-7", 1],
    ["and 81 of them take two", euro.repeat(81), "GSM-7", 2],
    ["every character of the extension is known", "^{}\\[~]|€\f", "GSM-7", 1],
    [
      "an escape is not cut in two: 152 and one of two septets take two segments",
      `${"a".repeat(152)}${euro}${"a".repeat(152)}`,
      "GSM-7",
      3,
    ],
    ["one typographic quote makes it UCS-2", `It’s ${"a".repeat(65)}`, "UCS-2", 1],
    ["70 code units fit into one", "я".repeat(70), "UCS-2", 1],
    ["71 take two of 67", "я".repeat(71), "UCS-2", 2],
    ["134 still do", "я".repeat(134), "UCS-2", 2],
    ["135 take three", "я".repeat(135), "UCS-2", 3],
    ["an emoji is two code units", emoji.repeat(35), "UCS-2", 1],
    ["and not cut in two: 33 of them fill a segment", emoji.repeat(67), "UCS-2", 3],
    ["ç is not of the alphabet, though Ç is", "ç", "UCS-2", 1],
    ["a tab is not of the alphabet", "\t", "UCS-2", 1],
  ] as const)("%s", (_name, text, encoding, count) => {
    expect(segmentsOf(text)).toEqual({ encoding, count });
    expect(billedSegments(text)).toBe(count);
  });

  it("never become fewer with a longer text of the same alphabet, and each holds at least one character", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "binary", minLength: 1, maxLength: 400 }),
        fc.constantFrom("a", euro),
        (text, more) => {
          const [before, after] = [segmentsOf(text), segmentsOf(text + more)];
          expect(before.count).toBeGreaterThanOrEqual(1);
          expect(before.count).toBeLessThanOrEqual([...text].length);
          expect(before.encoding !== after.encoding || after.count >= before.count).toBe(true);
        },
      ),
    );
  });

  it("are as many as the Twilio simulator bills", () => {
    const units = fc.constantFrom("a", "€", "[", "ü", "я", emoji, " ");
    fc.assert(
      fc.property(fc.string({ unit: units, minLength: 1, maxLength: 700 }), (text) => {
        expect(segmentsOf(text).count).toBe(billedSegments(text));
      }),
    );
  });
});
