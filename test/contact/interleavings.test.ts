// No message is sent in quiet hours, over a cap or to a person who denied consent, however inserts, claims of two
// workers, outcomes, opt-outs, pauses and jumps of the clock interleave; and all that may be sent is sent in the end.
import assert from "node:assert/strict";
import fc from "fast-check";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { setNow } from "../support/clock.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { addressOf, createPeople, people, personOf, type Channel } from "./people.ts";
import { Stage } from "./stage.ts";
import type { Policy } from "./world.ts";

let db: TestDatabase;
let clients: [pg.Client, pg.Client];
let leads: ReadonlyMap<string, string>;

beforeAll(async () => {
  db = await createTestDatabase();
  clients = await Promise.all([db.connect("worker"), db.connect("worker")]);
  leads = await createPeople(db);
});

afterAll(() => db.close());

type Step =
  | { kind: "insert"; channel: Channel; person: string; marketing: boolean; inMinutes: number; byLead: boolean }
  | { kind: "clock"; minutes: number }
  | { kind: "claim"; channels: [Channel, Channel]; shares: [number, number] }
  | { kind: "settle"; nth: number; outcome: "completed" | "retry" | "fail" | "unconfirmed" }
  | { kind: "suppress" | "consent"; channel: Channel; person: string; on: boolean }
  | { kind: "pause" | "hold"; channel: Channel; on: boolean };

const MINUTE = 60_000;
const channel = fc.constantFrom<Channel>("email", "sms");
const person = fc.constantFrom(...people.map(({ name }) => name));
const share = fc.integer({ min: 0, max: 3 });
const insert = fc.record({
  kind: fc.constant("insert" as const),
  channel,
  person,
  marketing: fc.integer({ min: 0, max: 4 }).map((n) => n > 0),
  inMinutes: fc.integer({ min: -60, max: 600 }),
  byLead: fc.boolean(),
});
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: insert },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("clock" as const),
      minutes: fc.oneof(fc.integer({ min: 1, max: 90 }), fc.integer({ min: 1, max: 2 * 24 * 60 })),
    }),
  },
  {
    weight: 9,
    arbitrary: fc.record({
      kind: fc.constant("claim" as const),
      channels: fc.tuple(channel, channel),
      shares: fc.tuple(share, share),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("settle" as const),
      nth: fc.nat(20),
      outcome: fc.constantFrom<"completed" | "retry" | "fail" | "unconfirmed">(
        "completed",
        "retry",
        "fail",
        "unconfirmed",
      ),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom("suppress" as const, "consent" as const),
      channel,
      person,
      on: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom("pause" as const, "hold" as const), channel, on: fc.boolean() }),
  },
);

const policy: fc.Arbitrary<Policy> = fc.record({
  from: fc.integer({ min: 0, max: 20 }).map((n) => n * 30),
  to: fc.integer({ min: 35, max: 46 }).map((n) => n * 30),
  weekdays: fc.option(fc.constant([1, 2, 3, 4, 5])),
  cap: fc.integer({ min: 1, max: 4 }),
  capHours: fc.constantFrom(6, 24, 72),
  hourlyLimit: fc.option(fc.integer({ min: 1, max: 5 })),
});

// Shortly before the clocks change, in the US and in Europe.
const start = fc
  .constantFrom("2026-03-07T12:00Z", "2026-10-31T12:00Z", "2027-03-27T12:00Z", "2026-10-24T06:00Z")
  .map(Date.parse);

async function take(stage: Stage, one: Step): Promise<void> {
  const { world } = stage;
  switch (one.kind) {
    case "insert":
      if (addressOf(personOf(one.person), one.channel) === undefined) return;
      return stage.insert(
        one.channel,
        personOf(one.person),
        one.marketing,
        world.now + one.inMinutes * MINUTE,
        one.byLead,
      );
    case "clock":
      return stage.moveClock(world.now + one.minutes * MINUTE);
    case "claim":
      await stage.claim(one.channels, one.shares);
      return;
    case "settle": {
      const inFlight = [...world.messages.values()].filter((message) => message.status === "processing");
      const message = inFlight[one.nth % Math.max(inFlight.length, 1)];
      return message === undefined ? undefined : stage.settle(message.id, one.outcome);
    }
    case "suppress":
      return stage.suppress(one.channel, personOf(one.person), one.on);
    case "consent":
      return stage.consent(one.channel, personOf(one.person), one.on);
    case "pause":
      return stage.pause(one.channel, one.on);
    case "hold":
      return stage.hold(one.channel, one.on);
    default:
      return one satisfies never;
  }
}

/** Ends all pauses and holds, and advances the clock until every message is decided. */
async function finish(stage: Stage): Promise<void> {
  const { world } = stage;
  for (const each of ["email", "sms"] as const) {
    await stage.pause(each, false);
    await stage.hold(each, false);
  }
  for (let turn = 0; ; turn += 1) {
    for (const message of world.messages.values()) {
      if (message.status === "processing") await stage.settle(message.id, "completed");
    }
    const due = await stage.nextDue();
    if (due === null) break;
    assert.ok(turn < 400, "messages are still due");
    // A Date has no microseconds.
    if (due >= world.now) await stage.moveClock(due + 1);
    assert.ok((await stage.claim(["email", "sms"], [3, 3])) > 0, "a due message was not decided");
  }
  assert.ok(
    [...world.messages.values()].every(({ status }) => status === "done"),
    "a message was lost",
  );
}

describe("messages, however the events interleave", () => {
  it("are sent only when they may be, and all that may be are sent", async () => {
    const runs = fc.assert(
      fc.asyncProperty(start, policy, fc.array(step, { minLength: 30, maxLength: 60 }), async (now, rules, steps) => {
        const stage = await Stage.set(db, clients, leads, now, rules);
        // Otherwise hardly any text could be sent.
        for (const one of people) await stage.consent("sms", one, true);
        for (const one of steps) await take(stage, one);
        await finish(stage);
      }),
      { numRuns: 15, endOnFailure: true },
    );
    await expect(runs).resolves.toBeUndefined();
    await setNow(db, null);
  }, 280_000);
});
