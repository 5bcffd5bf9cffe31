// The clock skew that one response proves.
import { describe, expect, it } from "vitest";
import { skewOf } from "../../src/jobs/liveness.ts";

describe("the skew", () => {
  const asked = 1_000_000;

  it.each([
    ["is zero if Postgres read its clock during the request", 10, 20, 0],
    ["is the least that we can be ahead", -3000, 20, 3000],
    ["is the least that we can be behind", 3020, 20, -3000],
    ["is zero if the response was slow, even if the clock was read at its start", 0, 8000, 0],
    ["is zero if the clock was read at the end of a slow response", 8000, 8000, 0],
    ["is the part that is certain after a slow response", -2000, 8000, 2000],
  ])("%s", (_, readAfterMs, tookMs, skewMs) => {
    expect(skewOf(asked, new Date(asked + readAfterMs), asked + tookMs)).toBe(skewMs);
  });
});
