// brainops.next_contact_time against Temporal: random zones, windows and instants, most of them within two
// days of a change of the clocks.
import fc from "fast-check";
import { Temporal } from "temporal-polyfill";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";
import { everyDay, firstOpen, timeOf } from "./wallClock.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
  zonesAgreed = await agreed();
});

afterAll(() => db.close());

const HOUR = 3_600_000;
// Half hours and quarters, half an hour and two hours of summer time, clocks that change at midnight.
const ZONES = [
  "America/New_York",
  "America/Denver",
  "America/Phoenix",
  "America/St_Johns",
  "America/Havana",
  "America/Santiago",
  "Antarctica/Troll",
  "Asia/Beirut",
  "Asia/Kathmandu",
  "Asia/Kolkata",
  "Australia/Adelaide",
  "Australia/Lord_Howe",
  "Europe/London",
  "Europe/Berlin",
  "Pacific/Auckland",
  "Pacific/Chatham",
  "Pacific/Honolulu",
  "UTC",
] as const;

let zonesAgreed: readonly string[] = [];

/** Zones on which Postgres and Temporal agree: countries change their rules, and each has its own copy of them. */
async function agreed(): Promise<string[]> {
  const rows = await db.query<{ zone: string; clocks: string[] }>(
    `select zone, array_agg(to_char(at at time zone zone, 'YYYY-MM-DD"T"HH24:MI:SS') order by at) as clocks
     from unnest($1::text[]) as zone, generate_series(timestamptz '2025-01-01Z', '2029-06-01Z', '24 hours') as at
     group by zone`,
    [ZONES],
  );
  const start = Temporal.Instant.from("2025-01-01T00:00Z");
  return rows
    .filter(({ zone, clocks }) =>
      clocks.every((clock, day) => {
        const here = start.add({ hours: 24 * day }).toZonedDateTimeISO(zone);
        return here.toPlainDateTime().toString({ smallestUnit: "second" }) === clock;
      }),
    )
    .map(({ zone }) => zone);
}

interface Case {
  readonly at: number;
  readonly zones: readonly string[];
  readonly from: number;
  readonly to: number;
  readonly weekdays: readonly number[] | null;
}

async function nextContactTime({ at, zones, from, to, weekdays }: Case): Promise<number | null> {
  const [row] = await db.query<{ at: Date | null }>("select brainops.next_contact_time($1, $2, $3, $4, $5) as at", [
    new Date(at).toISOString(),
    zones,
    timeOf(from),
    timeOf(to),
    weekdays,
  ]);
  return row?.at?.getTime() ?? null;
}

/** An instant near the next change of the clocks, or anywhere. */
const instantIn = (zone: string): fc.Arbitrary<number> =>
  fc
    .record({
      day: fc.integer({ min: 0, max: 4 * 365 }),
      near: fc.integer({ min: 0, max: 3 }).map((n) => n > 0),
      shift: fc.integer({ min: -48 * 3600, max: 48 * 3600 }),
    })
    .map(({ day, near, shift }) => {
      const anywhere = Temporal.Instant.from("2025-01-01T00:00Z").add({ hours: 24 * day });
      const change = near ? anywhere.toZonedDateTimeISO(zone).getTimeZoneTransition("next") : null;
      return (change?.epochMilliseconds ?? anywhere.epochMilliseconds) + shift * 1000;
    });

const minutes = fc.integer({ min: 0, max: 287 }).map((n) => n * 5);
const casesIn = (known: readonly string[]): fc.Arbitrary<Case> =>
  fc.uniqueArray(fc.constantFrom(...known), { minLength: 1, maxLength: 3 }).chain((zones) =>
    fc.record({
      at: instantIn(zones[0] ?? "UTC"),
      zones: fc.constant(zones),
      from: minutes,
      to: minutes,
      weekdays: fc.option(fc.uniqueArray(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 7 })),
    }),
  );

describe("next_contact_time", () => {
  it("is the first instant at which the local time of every zone is inside the window", async () => {
    expect(zonesAgreed.length).toBeGreaterThan(11);
    await fc.assert(
      fc.asyncProperty(casesIn(zonesAgreed), async (one) => {
        const answer = await nextContactTime(one);
        const week = everyDay(one.from, one.to, one.weekdays);
        const common = firstOpen(one.at, one.at + 14 * 24 * HOUR, one.zones, week, 5);
        // Zones that are never open together: the first one decides.
        const expected = common ?? firstOpen(one.at, one.at + 15 * 24 * HOUR, one.zones.slice(0, 1), week, 5);
        expect(answer === null ? null : new Date(answer)).toEqual(expected === null ? null : new Date(expected));
      }),
      { numRuns: 300 },
    );
  }, 120_000);

  it("of an open instant is itself, to the microsecond", async () => {
    const [row] = await db.query(
      `select brainops.next_contact_time(t, '{Europe/London}', '08:00', '21:00') = t as same
       from (values (timestamptz '2026-06-01 12:00:00.123457+00')) as v (t)`,
    );
    expect(row).toEqual({ same: true });
  });

  it.each([
    ["an hour that is skipped: the day after", "2026-03-08T06:00Z", "02:10", "02:50", "2026-03-09T06:10Z"],
    [
      "a window across the gap: when the clocks have jumped",
      "2026-03-08T06:00Z",
      "02:30",
      "04:00",
      "2026-03-08T07:00Z",
    ],
    ["an hour that occurs twice: the second time too", "2026-11-01T06:00Z", "01:00", "01:30", "2026-11-01T06:00Z"],
    ["between the two: waits for the second", "2026-11-01T05:40Z", "01:00", "01:30", "2026-11-01T06:00Z"],
    ["the morning after the long night", "2026-11-01T02:00Z", "08:00", "21:00", "2026-11-01T13:00Z"],
    ["the morning after the short night", "2026-03-08T02:00Z", "08:00", "21:00", "2026-03-08T12:00Z"],
  ])("in New York, %s", async (_name, at, from, to, expected) => {
    const [row] = await db.query<{ at: Date }>(
      "select brainops.next_contact_time($1, '{America/New_York}', $2, $3) as at",
      [at, from, to],
    );
    expect(row?.at).toEqual(new Date(expected));
  });

  it("refuses missing zones and an infinite time, with a hint", async () => {
    const ask = (args: string): Promise<unknown> => db.query(`select brainops.next_contact_time(${args})`);
    for (const args of [
      "now(), '{}', '08:00', '21:00'",
      "now(), null, '08:00', '21:00'",
      "'infinity', '{UTC}', '08:00', '21:00'",
    ]) {
      expect(await refusal(ask(args))).toMatchObject({ code: "OP015", hint: expect.stringContaining("IANA") });
    }
    expect(await ask("now(), '{UTC}', '08:00', '21:00', '{}'")).toEqual([{ next_contact_time: null }]);
  });
});
