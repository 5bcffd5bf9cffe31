import { describe, expect, it } from "vitest";
import { createBudget } from "../../src/revenue/rendering/budget.ts";
import { createFairQueue, type FairQueue } from "../../src/revenue/rendering/fairQueue.ts";

const any = (): boolean => true;

/** Takes `count` items one after another; each takes `ms(tenant)`. */
function serve(queue: FairQueue<string>, count: number, ms: (tenant: string) => number): string[] {
  return Array.from({ length: count }, () => {
    const taken = queue.take(any);
    if (taken === null) return "none";
    queue.settle(taken, ms(taken.tenant));
    return taken.tenant;
  });
}

describe("the queue of what is to be rendered", () => {
  it("goes by processor time: one slow row, then as many fast ones as take as long", () => {
    const queue = createFairQueue<string>();
    for (let n = 0; n < 10; n += 1) queue.push("slow", `s${n}`);
    for (let n = 0; n < 300; n += 1) queue.push("fast", `f${n}`);
    const order = serve(queue, 200, (tenant) => (tenant === "slow" ? 100 : 1));
    expect(order.filter((tenant) => tenant === "slow").length).toBeLessThanOrEqual(3);
    expect(order.slice(0, 2)).toContain("slow");
  });

  it("takes turns among tenants with equal rows, and keeps each tenant's order", () => {
    const queue = createFairQueue<string>();
    for (const item of ["a1", "a2", "a3"]) queue.push("a", item);
    for (const item of ["b1", "b2", "b3"]) queue.push("b", item);
    const items = Array.from({ length: 6 }, () => {
      const taken = queue.take(any);
      if (taken !== null) queue.settle(taken, 1);
      return taken?.item;
    });
    expect(items).toEqual(["a1", "b1", "a2", "b2", "a3", "b3"]);
    expect(queue.take(any)).toBeNull();
    expect(queue.size).toBe(0);
  });

  it("gives no credit for absence: a tenant that comes later does not take over", () => {
    const queue = createFairQueue<string>();
    for (let n = 0; n < 100; n += 1) queue.push("old", `o${n}`);
    serve(queue, 50, () => 10);
    for (let n = 0; n < 100; n += 1) queue.push("new", `n${n}`);
    const order = serve(queue, 20, () => 10);
    expect(order.filter((tenant) => tenant === "old").length).toBeGreaterThanOrEqual(8);
  });

  it("has back what was not served, in front, without a charge", () => {
    const queue = createFairQueue<string>();
    for (const item of ["a1", "a2", "a3"]) queue.push("a", item);
    const [first, second] = [queue.take(any), queue.take(any)];
    if (first === null || second === null) throw new Error("nothing was taken");
    queue.putBack(second);
    queue.putBack(first);
    expect(queue.size).toBe(3);
    expect(queue.take(any)).toEqual(first);
    expect(queue.take(any)?.item).toBe("a2");
    expect(queue.take(() => false)).toBeNull();
    expect(queue.take(any)?.item).toBe("a3");
  });
});

describe("the budget of a tenant's slow rows", () => {
  function budgetAt(): { budget: ReturnType<typeof createBudget>; pass: (ms: number) => void } {
    let now = 0;
    return { budget: createBudget(() => now), pass: (ms) => (now += ms) };
  }

  it("leaves out fast rows, however many, and other tenants", () => {
    const { budget } = budgetAt();
    for (let n = 0; n < 100_000; n += 1) budget.charge("fast", 9);
    for (let n = 0; n < 5; n += 1) budget.charge("slow", 500);
    expect(["fast", "slow", "other"].map((tenant) => budget.isOver(tenant))).toEqual([false, true, false]);
  });

  it("is over above 750 ms, and comes back by a tenth of the time that passes", () => {
    const { budget, pass } = budgetAt();
    budget.charge("slow", 750);
    expect(budget.isOver("slow")).toBe(false);
    budget.charge("slow", 500);
    expect(budget.isOver("slow")).toBe(true);
    pass(4990);
    expect(budget.isOver("slow")).toBe(true);
    pass(20);
    expect(budget.isOver("slow")).toBe(false);
  });

  it("gives each row that waits another time, at most 15 minutes from now", () => {
    const { budget } = budgetAt();
    for (let n = 0; n < 5; n += 1) budget.charge("slow", 500);
    expect(Array.from({ length: 3 }, () => budget.reserve("slow"))).toEqual([17_500, 22_500, 27_500]);
    for (let n = 0; n < 1000; n += 1) expect(budget.reserve("slow")).toBeLessThanOrEqual(900_000);
    expect(budget.reserve("other")).toBe(0);
  });
});
