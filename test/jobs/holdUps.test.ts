// Hold-ups: how long rows are left alone, and which jobs give up their slots.
import { describe, expect, it } from "vitest";
import { createHoldUps, HeldUpError } from "../../src/jobs/holdUps.ts";
import type { JobTable } from "../../src/jobs/types.ts";
import { log } from "../support/worker.ts";

const tableNamed = (name: string): JobTable => ({
  table_name: name,
  task_identifier: `${name}__run`,
  effect_is_idempotent: true,
  time_limit_ms: 30_000,
  load: "",
  loadBulk: null,
  missingCredentials: { platform: null, tenant: null },
});
const [mails, texts] = [tableNamed("mails"), tableNamed("texts")];
const locked = Object.assign(new Error("canceling statement due to lock timeout"), { code: "55P03" });

function createWorld() {
  let time = 0;
  const holdUps = createHoldUps(log, () => time);
  return {
    holdUps,
    wait: (ms: number) => {
      time += ms;
    },
    isHeldUp: (table: JobTable, tenant: string): boolean => {
      try {
        holdUps.check(table, tenant);
        return false;
      } catch {
        return true;
      }
    },
    fail: (table: JobTable, tenant: string) =>
      holdUps.watch(table, tenant, () => Promise.reject(locked)).catch((error: unknown) => error),
  };
}

describe("a hold-up", () => {
  it("begins with a lock timeout, concerns one table of one tenant, and ends after a second", async () => {
    const { fail, isHeldUp, wait } = createWorld();
    expect(await fail(mails, "b")).toBeInstanceOf(HeldUpError);
    expect([isHeldUp(mails, "b"), isHeldUp(texts, "b"), isHeldUp(mails, "a")]).toEqual([true, false, false]);
    wait(1000);
    expect(isHeldUp(mails, "b")).toBe(false);
  });

  it("doubles with each further one up to 30 s, and starts again after half a minute without", async () => {
    const { fail, isHeldUp, wait } = createWorld();
    for (const seconds of [1, 2, 4, 8, 16, 30, 30]) {
      await fail(mails, "b");
      wait(seconds * 1000 - 1);
      expect(isHeldUp(mails, "b")).toBe(true);
      wait(1);
      expect(isHeldUp(mails, "b")).toBe(false);
    }
    wait(30_000);
    await fail(mails, "b");
    wait(1000);
    expect(isHeldUp(mails, "b")).toBe(false);
  });

  it("does not begin with another error, and passes that on", async () => {
    const { holdUps, isHeldUp } = createWorld();
    await expect(holdUps.watch(mails, "b", () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(isHeldUp(mails, "b")).toBe(false);
  });

  it("lasts as long as a result cannot be written, and lets its job go", async () => {
    const { holdUps, isHeldUp, wait } = createWorld();
    const gate = Promise.withResolvers<string>();
    const written = holdUps.write(mails, "b", async ({ begin, failed }) => {
      begin();
      failed(locked);
      begin(); // A result is written regardless.
      const status = await gate.promise;
      return status;
    });
    let left = 0;
    holdUps.whenHeldUp(mails, "b", () => (left += 1));
    wait(60_000);
    expect(isHeldUp(mails, "b")).toBe(true);
    void holdUps.write(mails, "b", async ({ failed }) => failed(locked));
    void holdUps.write(mails, "b", async ({ failed }) => failed(locked));
    expect(left).toBe(1);
    gate.resolve("completed");
    expect(await written).toBe("completed");
    wait(60_000);
    expect(isHeldUp(mails, "b")).toBe(false);
  });

  it("does not concern a job that has ended", async () => {
    const { holdUps } = createWorld();
    let left = 0;
    const end = holdUps.whenHeldUp(mails, "b", () => (left += 1));
    holdUps.whenHeldUp(texts, "b", () => (left += 1));
    end();
    await holdUps.write(mails, "b", async ({ failed }) => failed(locked));
    expect(left).toBe(0);
  });
});
