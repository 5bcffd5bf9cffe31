// A tenant's share of a pool's connections.
import { describe, expect, it } from "vitest";
import { createShares } from "../../src/db/shares.ts";

/** Six connections, a clock that the test sets, and transactions that end when the test says so. */
function createWorld() {
  let time = 0;
  const shares = createShares(6, () => time);
  const running: { readonly tenant: string; readonly end: () => void }[] = [];
  return {
    running: () => running.map(({ tenant }) => tenant).join(""),
    run: (tenant: string, n: number) => {
      for (let i = 0; i < n; i += 1) {
        void shares.run(tenant, () => {
          const { promise, resolve } = Promise.withResolvers<void>();
          running.push({ tenant, end: resolve });
          return promise;
        });
      }
    },
    end: async (tenant: string) => {
      const index = running.findIndex((one) => one.tenant === tenant);
      running.splice(index, 1)[0]?.end();
      await new Promise(setImmediate);
    },
    wait: (ms: number) => {
      time += ms;
    },
  };
}

describe("a tenant's share of six connections", () => {
  it("is five, also while no other tenant wants any", () => {
    const { run, running } = createWorld();
    run("b", 60);
    expect(running()).toBe("bbbbb");
    run("a", 1);
    expect(running()).toBe("bbbbba");
  });

  it("is two once a transaction took more than a second, for half a minute", async () => {
    const { run, running, end, wait } = createWorld();
    run("b", 60);
    wait(1001);
    for (let i = 0; i < 5; i += 1) await end("b");
    expect(running()).toBe("bb");
    run("a", 9);
    expect(running()).toBe("bbaaaa");
    for (let i = 0; i < 9; i += 1) await end("a");
    await end("b");
    expect(running()).toBe("bb");
    wait(32_000);
    run("a", 1);
    await end("a");
    expect(running()).toBe("bb");
    await end("b");
    await end("b");
    expect(running().length).toBeLessThanOrEqual(2);
  });

  it("is so small that slow tenants together have half", async () => {
    const { run, running, end, wait } = createWorld();
    for (const tenant of "bcdefg") run(tenant, 10);
    for (let i = 0; i < 5; i += 1) {
      wait(1001);
      for (const tenant of running()) await end(tenant);
    }
    expect(running()).toHaveLength(3);
    run("a", 10);
    expect(running()).toMatch(/^[b-g]{3}aaa$/);
  });

  it("comes in turn: a tenant with few transactions does not wait for one with many", async () => {
    const { run, running, end } = createWorld();
    run("b", 100);
    run("c", 100);
    run("a", 1);
    for (let i = 0; i < 3; i += 1) await end("b");
    expect(running()).toContain("a");
  });

  it("passes on the value and the error of the work", async () => {
    const shares = createShares(2);
    expect(await shares.run("a", async () => 7)).toBe(7);
    await expect(shares.run("a", () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(await shares.run("a", async () => 8)).toBe(8);
  });
});
