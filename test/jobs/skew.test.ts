// What the time in an answer shows about two clocks.
import { describe, expect, it } from "vitest";
import { skewOf } from "../../src/jobs/liveness.ts";

describe("the skew", () => {
  const asked = 1_000_000;

  it.each([
    ["is zero if Postgres read its clock during the query", 10, 20, 0],
    ["is how far we are ahead at least", -3000, 20, 3000],
    ["is how far we are behind at least", 3020, 20, -3000],
    ["is zero if the answer was slow, whenever in it the clock was read", 0, 8000, 0],
    ["is zero if it was read at the end of a slow answer", 8000, 8000, 0],
    ["is what a slow answer leaves certain", -2000, 8000, 2000],
  ])("%s", (_, readAfterMs, tookMs, skewMs) => {
    expect(skewOf(asked, new Date(asked + readAfterMs), asked + tookMs)).toBe(skewMs);
  });
});
