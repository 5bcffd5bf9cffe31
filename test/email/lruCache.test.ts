import { describe, expect, it } from "vitest";
import { createLruCache } from "../../src/revenue/rendering/lruCache.ts";

describe("the LRU cache of compiled templates", () => {
  it("compiles a template once, and keeps those used last, by their size", () => {
    const compiled: string[] = [];
    const cached = createLruCache((template) => {
      compiled.push(template);
      return template.length;
    });
    const large = (name: string): string => `${name}${"{{a}}".repeat(4000)}`; // 4 MB once it is parsed
    expect([cached(large("1")), cached(large("2")), cached(large("1"))]).toEqual([20_001, 20_001, 20_001]);
    expect(compiled).toHaveLength(2);
    cached(large("3")); // over the limit: the second is evicted
    cached(large("1"));
    expect(compiled).toHaveLength(3);
    cached(large("2"));
    expect(compiled).toHaveLength(4);
  });

  it("throws each time for an invalid template, and still keeps others after one that is too large", () => {
    const cached = createLruCache((template) => {
      if (template === "bad") throw new Error("bad");
      return {};
    });
    expect(() => cached("bad")).toThrow("bad");
    expect(() => cached("bad")).toThrow("bad");
    expect(cached("x".repeat(11_000_000))).toEqual({});
    expect(cached("good")).toBe(cached("good"));
  });
});
