import { describe, expect, it } from "vitest";
import { createLruCache } from "../../src/revenue/email/lruCache.ts";

describe("the cache of compiled templates", () => {
  it("compiles each template once, and keeps the most recently used by their size", () => {
    const made: string[] = [];
    const recent = createLruCache((template) => {
      made.push(template);
      return template.length;
    });
    const large = (name: string): string => `${name}${"{{a}}".repeat(4000)}`; // 4 MB once it is parsed
    expect([recent(large("1")), recent(large("2")), recent(large("1"))]).toEqual([20_001, 20_001, 20_001]);
    expect(made).toHaveLength(2);
    recent(large("3")); // too many: the second goes
    recent(large("1"));
    expect(made).toHaveLength(3);
    recent(large("2"));
    expect(made).toHaveLength(4);
  });

  it("does not cache errors, and works after a template that is too large to keep", () => {
    const recent = createLruCache((template) => {
      if (template === "bad") throw new Error("bad");
      return {};
    });
    expect(() => recent("bad")).toThrow("bad");
    expect(() => recent("bad")).toThrow("bad");
    expect(recent("x".repeat(11_000_000))).toEqual({});
    expect(recent("good")).toBe(recent("good"));
  });
});
