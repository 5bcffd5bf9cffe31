// Splits with a winner: random until the figures decide, and then the winner for all later arrivals.
import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { setNow } from "../support/clock.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { deleting } from "../support/deleteRows.ts";
import { enrol, launch, makeLaunchable, newLead, touchesOf, workOff } from "./support.ts";

const START = new Date("2026-03-02T16:00:00Z");
const DAY = 86_400_000;

let db: TestDatabase;
let tenant: pg.Client;
let worker: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  await makeLaunchable(db);
  tenant = await db.connect("tenantA");
  worker = await db.connect("worker");
});
beforeEach(() => setNow(db, START));
afterAll(() => db.close());

type Winner = Readonly<Record<string, string | number>>;

/** One mail of two, and then the end. */
async function launchSplit(code: string, winner: Winner | null, weights: readonly [number, number] = [1, 1]) {
  await launch(tenant, code, [
    {
      step_number: 1,
      step_key: "which",
      kind: "split",
      config: {
        variants: [
          { name: "a", weight: weights[0], to: 2 },
          { name: "b", weight: weights[1], to: 3 },
        ],
        ...(winner === null ? {} : { winner }),
      },
    },
    { step_number: 2, step_key: "mail_a", kind: "send_email", template: "mail", next_step: 4 },
    { step_number: 3, step_key: "mail_b", kind: "send_email", template: "mail" },
    { step_number: 4, kind: "exit" },
  ]);
}

interface Arrival {
  readonly lead: string;
  readonly variant: string;
  /** The touch that queued the mail. */
  readonly touchId: string;
}

async function arrive(code: string): Promise<Arrival> {
  const lead = await newLead(tenant);
  const id = await enrol(tenant, lead, code);
  await workOff(worker, db.tenantA, id);
  const mail = (await touchesOf(db, id)).find((touch) => touch.step_key?.startsWith("mail_"));
  expect(mail?.step_key).toBe(`mail_${mail?.variant}`);
  return { lead, variant: mail?.variant ?? "", touchId: mail?.id ?? "" };
}

/** Lets people arrive until each variant has `each` of them; returns all. */
async function arriveUntil(code: string, each: number, before: readonly Arrival[] = []): Promise<Arrival[]> {
  const all = [...before];
  const of = (variant: string): number => all.filter((one) => one.variant === variant).length;
  while (Math.min(of("a"), of("b")) < each) all.push(await arrive(code));
  return all;
}

const variantsOfNext = async (code: string, n: number): Promise<string[]> => {
  const variants: string[] = [];
  for (let i = 0; i < n; i += 1) variants.push((await arrive(code)).variant);
  return variants;
};

const happens = (event: string, { lead, touchId }: Arrival): Promise<unknown> =>
  tenant.query("insert into lead_events (lead_id, event, channel, metadata) values ($1, $2, 'email', $3)", [
    lead,
    event,
    { touch_id: touchId },
  ]);

const winnerOf = async (code: string): Promise<unknown> =>
  (
    await tenant.query<{ variant: string; figures: unknown }>(
      "select w.variant, w.figures from campaign_split_winners as w inner join campaigns as c on c.id = w.campaign_id where c.code = $1",
      [code],
    )
  ).rows[0];

describe("a split with a winner", () => {
  it("is decided after a number of touches of each variant: later arrivals take the one with most clicks", async () => {
    await launchSplit("after_n", { by: "click", after_touches: 6 });
    const first = await arriveUntil("after_n", 2);
    const ofB = first.filter((one) => one.variant === "b").slice(0, 2);
    // The first of them clicks twice, which counts once.
    for (const one of [...ofB, ...ofB.slice(0, 1)]) await happens("email_clicked", one);
    // All of the others open the mail, which is not the criterion.
    for (const one of first.filter(({ variant }) => variant === "a")) await happens("email_opened", one);
    expect(await winnerOf("after_n")).toBeUndefined();
    await arriveUntil("after_n", 6, first);
    expect(await variantsOfNext("after_n", 8)).toEqual(Array(8).fill("b"));
    expect(await winnerOf("after_n")).toMatchObject({ variant: "b", figures: { a: { hits: 0 }, b: { hits: 2 } } });
  });

  it("is decided after a time: random before, the one with replies afterwards", async () => {
    await launchSplit("after_t", { by: "reply", after: "2 days" });
    const first = await arriveUntil("after_t", 2);
    const answered = first.find((one) => one.variant === "a");
    await happens("email_replied", answered!);
    await setNow(db, new Date(START.getTime() + 2 * DAY - 1000));
    const between = await arriveUntil("after_t", 1);
    expect(new Set(between.map((one) => one.variant))).toEqual(new Set(["a", "b"]));
    expect(await winnerOf("after_t")).toBeUndefined();
    await setNow(db, new Date(START.getTime() + 2 * DAY));
    expect(await variantsOfNext("after_t", 8)).toEqual(Array(8).fill("a"));
  });

  it("stays random while no variant has results", async () => {
    await launchSplit("nothing", { by: "open", after: "1 day" });
    const first = await arriveUntil("nothing", 1);
    await setNow(db, new Date(START.getTime() + 3 * DAY));
    await arriveUntil("nothing", 1);
    expect(await winnerOf("nothing")).toBeUndefined();
    await happens(
      "email_opened",
      first.find((one) => one.variant === "b")!,
    );
    expect(await variantsOfNext("nothing", 6)).toEqual(Array(6).fill("b"));
  });

  it("that a person set applies, until that person removes it", async () => {
    await launchSplit("by_hand", null, [1, 2]);
    await tenant.query(
      "insert into campaign_split_winners (campaign_id, version, step_key, variant) select id, 1, 'which', 'a' from campaigns where code = 'by_hand'",
    );
    expect(await variantsOfNext("by_hand", 6)).toEqual(Array(6).fill("a"));
    await tenant.query(
      deleting(
        "delete from campaign_split_winners where campaign_id = (select id from campaigns where code = 'by_hand')",
      ),
    );
    await arriveUntil("by_hand", 1);
  });
});

describe("a random split", () => {
  it("follows the weights, and keeps its choice", async () => {
    await launchSplit("weights", null, [1, 9999]);
    expect((await variantsOfNext("weights", 12)).filter((variant) => variant === "b").length).toBeGreaterThan(9);
  });
});
