import { describe, expect, it } from "vitest";
import { cleanText } from "../src/text.ts";

describe("cleanText", () => {
  it.each([
    ["keeps any other text, emoji included", "Zoë 😀\u0001\r\n", "Zoë 😀\u0001\r\n"],
    ["replaces U+0000", "a\0b\0", "a\uFFFDb\uFFFD"],
    ["replaces both kinds of lone surrogate", "\uDE00a\uD83D", "\uFFFDa\uFFFD"],
    ["replaces the remains of a pair that was cut", "😀".slice(0, 1), "\uFFFD"],
    ["accepts the empty text", "", ""],
  ])("%s", (_, text, clean) => {
    expect(cleanText(text)).toBe(clean);
  });
});
