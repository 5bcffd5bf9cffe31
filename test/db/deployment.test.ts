import { describe, expect, it } from "vitest";
import {
  createGrace,
  FunctionGoneError,
  isFunctionReplaced,
  throughDeployment,
  type DeploymentClock,
} from "../../src/db/deployment.ts";

const failure = (code: string, message: string, more: object = {}): Error =>
  Object.assign(new Error(message), { code, ...more });
const missing = failure("42883", "function brainops_internal.settle(text, uuid) does not exist");
const replanned = { routine: "RevalidateCachedQuery" };

/** A clock that advances only by sleeping. */
function testClock(): DeploymentClock & { readonly sleeps: number[] } {
  let time = 0;
  const sleeps: number[] = [];
  return {
    sleeps,
    now: () => time,
    sleep: async (ms) => {
      sleeps.push(ms);
      time += ms;
    },
  };
}

describe("isFunctionReplaced", () => {
  it.each([
    ["a missing function of ours", missing],
    ["one that was dropped after parsing", failure("42883", "function with OID 4711 does not exist")],
    ["one that was dropped after planning", failure("XX000", "cache lookup failed for function 4711")],
    ["an outdated prepared statement", failure("0A000", "cached plan must not change result type", replanned)],
    ["the same in another language", failure("42883", "Funktion brainops.settle(text) existiert nicht")],
  ])("is true for %s", (_name, error) => expect(isFunctionReplaced(error)).toBe(true));

  it.each([
    ["another function", failure("42883", "function public.mine(integer) does not exist")],
    ["an operator", failure("42883", "operator does not exist: integer = text")],
    ["a feature that does not exist", failure("0A000", "FOR UPDATE is not allowed with DISTINCT clause")],
    ["another internal error", failure("XX000", "cache lookup failed for relation 4711")],
    ["a lost connection", failure("57P01", "terminating connection")],
    ["a value that is not an Error", { code: "42883", message: "function brainops.x() does not exist" }],
  ])("is false for %s", (_name, error) => expect(isFunctionReplaced(error)).toBe(false));
});

describe("throughDeployment", () => {
  it("retries until the function exists", async () => {
    const clock = testClock();
    let calls = 0;
    const run = async (): Promise<string> => {
      calls += 1;
      if (calls < 4) throw missing;
      return "done";
    };
    expect(await throughDeployment(run, clock)).toBe("done");
    expect(clock.sleeps).toEqual([50, 100, 200]);
  });

  it("gives up after 60 s, with the function's name and the cause", async () => {
    const clock = testClock();
    const error = await throughDeployment(() => Promise.reject(missing), clock).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(FunctionGoneError);
    expect(error).toMatchObject({
      message: expect.stringContaining("brainops_internal.settle(text, uuid)"),
      cause: missing,
    });
    expect(clock.now()).toBeGreaterThan(60_000);
    expect(clock.now()).toBeLessThan(63_000);
  });

  it("throws other errors at once", async () => {
    const clock = testClock();
    const other = failure("23505", "duplicate key");
    await expect(throughDeployment(() => Promise.reject(other), clock)).rejects.toBe(other);
    expect(clock.sleeps).toEqual([]);
  });
});

describe("createGrace", () => {
  it("starts again after a call that succeeded", () => {
    let now = 0;
    const grace = createGrace(() => now);
    expect(grace.allows(missing)).toBe(true);
    now = 60_000;
    expect(grace.allows(missing)).toBe(true);
    grace.reset();
    now = 100_000;
    expect(grace.allows(missing)).toBe(true);
    now = 160_001;
    expect(() => grace.allows(missing)).toThrow(FunctionGoneError);
  });
});
