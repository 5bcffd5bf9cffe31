import { describe, expect, it } from "vitest";
import { createBatcher, type Batch } from "../../src/jobs/batcher.ts";
import type { JobTable } from "../../src/jobs/types.ts";

const table: JobTable = {
  table_name: "mails",
  task_identifier: "mail__send",
  effect_is_idempotent: false,
  time_limit_ms: 1000,
  load: "",
  loadBulk: null,
  missingCredentials: { platform: null, tenant: null },
};

interface Started {
  readonly batch: Batch<string>;
  readonly release: () => void;
  readonly resolve: (outputs: readonly string[]) => void;
  readonly reject: (error: Error) => void;
}

/** A batcher whose batches end when the test resolves them. `started` resolves to the next batch. */
function controlled(size: number) {
  const queue: Started[] = [];
  const waiting: ((started: Started) => void)[] = [];
  const join = createBatcher<string, string>({
    size,
    run: (batch, release) => {
      const { promise, resolve, reject } = Promise.withResolvers<readonly string[]>();
      const started = { batch, release, resolve, reject };
      const next = waiting.shift();
      if (next === undefined) queue.push(started);
      else next(started);
      return promise;
    },
  });
  const started = (): Promise<Started> =>
    new Promise((resolve) => {
      const next = queue.shift();
      if (next === undefined) waiting.push(resolve);
      else resolve(next);
    });
  return { join, started, queue };
}

describe("a batcher", () => {
  it("starts one batch for the calls of one turn of the event loop, and collects later ones until it has ended", async () => {
    const { join, started, queue } = controlled(10);
    const first = Promise.all([join(table, "a", "1"), join(table, "a", "2")]);
    const one = await started();
    const third = join(table, "a", "3");
    expect(one.batch.items).toEqual(["1", "2"]);
    expect(queue).toEqual([]);
    one.resolve(["one", "two"]);
    expect(await first).toEqual(["one", "two"]);
    const two = await started();
    expect(two.batch.items).toEqual(["3"]);
    two.resolve(["three"]);
    expect(await third).toBe("three");
  });

  it("starts the next batch when the previous one is released, once, with no more items than its size", async () => {
    const { join, started, queue } = controlled(2);
    const calls = ["1", "2", "3", "4", "5"].map((item) => join(table, "a", item));
    const one = await started();
    one.release();
    const two = await started();
    one.release();
    one.resolve(["one", "two"]);
    expect(await Promise.all(calls.slice(0, 2))).toEqual(["one", "two"]);
    expect(two.batch.items).toEqual(["3", "4"]);
    expect(queue).toEqual([]);
    two.resolve(["three", "four"]);
    const three = await started();
    expect(three.batch.items).toEqual(["5"]);
    three.resolve(["five"]);
    expect(await calls[4]).toBe("five");
  });

  it("never mixes tables or tenants, even if two tables have the same name", async () => {
    const { join, started } = controlled(10);
    const other = { ...table };
    const calls = [join(table, "a", "1"), join(table, "b", "2"), join(other, "a", "3")];
    const batches = [await started(), await started(), await started()];
    expect(batches.map(({ batch }) => [batch.table === other, batch.tenantId, batch.items])).toEqual([
      [false, "a", ["1"]],
      [false, "b", ["2"]],
      [true, "a", ["3"]],
    ]);
    for (const { batch, resolve } of batches) resolve(batch.items);
    expect(await Promise.all(calls)).toEqual(["1", "2", "3"]);
  });

  it("rejects all calls of a batch that fails, and continues with the next", async () => {
    const { join, started } = controlled(2);
    const calls = ["1", "2", "3"].map((item) => join(table, "a", item));
    (await started()).reject(new Error("no"));
    expect((await Promise.allSettled(calls.slice(0, 2))).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    (await started()).resolve(["three"]);
    expect(await calls[2]).toBe("three");
  });
});
