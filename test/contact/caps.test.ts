// The frequency cap: one person, however many leads, addresses, channels, campaigns and workers.
import type pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { setNow } from "../support/clock.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { asWorker, beginAsWorker } from "../support/jobs.ts";
import { refusal } from "../support/refusal.ts";
import { createPeople, type Channel } from "./people.ts";
import { claimFrom, TABLES, type Answer } from "./stage.ts";

let db: TestDatabase;
let one: pg.Client;
let two: pg.Client;
let leads: ReadonlyMap<string, string>;
const START = Date.parse("2026-06-03T18:00Z");
const HOUR = 3_600_000;
const CLAIM = "select id, outcome, lease, reason from brainops_internal.claim($1, $2, gen_random_uuid())";

beforeAll(async () => {
  db = await createTestDatabase();
  [one, two] = await Promise.all([db.connect("worker"), db.connect("worker")]);
  leads = await createPeople(db);
});

beforeEach(async () => {
  await db.query(
    "truncate ai_email_queue, ai_sms_queue, contact_policies, contact_consents, graphile_worker._private_jobs cascade",
  );
  await setNow(db, new Date(START));
  for (const channel of ["email", "sms"]) {
    await db.query(
      "insert into contact_policies (tenant_id, channel, cap, cap_window, consent, spread) values ($1, $2, 2, '24 hours', 'opt_out', '0')",
      [db.tenantA, channel],
    );
  }
});

// Transactions that a failed test left open would block all later tests.
afterEach(() => Promise.all([one.query("rollback"), two.query("rollback")]));

afterAll(() => db.close());

async function insert(channel: Channel, recipient: string | undefined, count = 1): Promise<string[]> {
  const [columns, values] =
    channel === "email" ? ["subject, body, metadata", `'Hi', 'Hi', '{"marketing": true}'`] : ["body", "'Hi'"];
  const rows = await db.query<{ id: string }>(
    `insert into ${TABLES[channel]} (tenant_id, recipient, scheduled_for, ${columns})
     select $1, $2, brainops.now() - n * interval '1 second', ${values} from generate_series($3::int, 1, -1) as n returning id`,
    [db.tenantA, recipient, count],
  );
  return rows.map(({ id }) => id);
}

const outcomes = (answers: readonly Answer[]): string[] => answers.map((answer) => answer.outcome).toSorted();

describe("the cap", () => {
  it("counts one person's messages by lead, address and shared phone, over both channels", async () => {
    const hal = leads.get("Hal, who shares a phone");
    expect(outcomes(await claimFrom(one, db.tenantA, "email", await insert("email", hal)))).toEqual(["go"]);
    expect(outcomes(await claimFrom(one, db.tenantA, "sms", await insert("sms", "+16025550107")))).toEqual(["go"]);
    for (const [channel, recipient] of [
      ["email", "HAL@example.com"],
      ["email", "hope@example.com"],
      ["sms", leads.get("Hope, with the same phone")],
    ] as const) {
      const [answer] = await claimFrom(one, db.tenantA, channel, await insert(channel, recipient));
      expect(answer, `${channel} to ${recipient}`).toMatchObject({
        outcome: "defer",
        reason: expect.stringContaining("frequency cap"),
      });
    }
    expect(outcomes(await claimFrom(one, db.tenantA, "email", await insert("email", "dana@example.com")))).toEqual([
      "go",
    ]);
  });

  it("counts several rows of one claim against each other, and gives each its own slot", async () => {
    const ids = await insert("email", "dana@example.com", 5);
    const answers = await claimFrom(one, db.tenantA, "email", ids);
    expect(outcomes(answers)).toEqual(["defer", "defer", "defer", "go", "go"]);
    // The first in line went, as if they had been claimed one by one.
    expect(new Set(answers.filter(({ outcome }) => outcome === "go").map(({ id }) => id))).toEqual(
      new Set(ids.slice(0, 2)),
    );
    await setNow(db, new Date(START + 24 * HOUR));
    expect(outcomes(await claimFrom(one, db.tenantA, "email", ids.slice(2)))).toEqual(["defer", "go", "go"]);
  });

  it("frees a slot when a message was not sent after all, and when it leaves the window", async () => {
    const [first = "", second = "", third = ""] = await insert("email", "dana@example.com", 3);
    const [answer] = await claimFrom(one, db.tenantA, "email", [first]);
    await claimFrom(one, db.tenantA, "email", [second]);
    await asWorker(one, db.tenantA, () =>
      one.query(
        "select * from brainops_internal.settle('ai_email_queue', array[row($1, $2, 'fail', null, 'a test', null)::brainops.settlement])",
        [first, answer?.lease],
      ),
    );
    expect(outcomes(await claimFrom(one, db.tenantA, "email", [third]))).toEqual(["go"]);
    const [fourth = ""] = await insert("email", "dana@example.com");
    await claimFrom(one, db.tenantA, "email", [fourth]);
    const [row] = await db.query("select scheduled_for, last_error from ai_email_queue where id = $1", [fourth]);
    expect(row).toMatchObject({
      scheduled_for: new Date(START + 24 * HOUR),
      last_error: expect.stringContaining("the next may go from 2026-06-04 18:00"),
    });
  });

  it("of the law applies as well: three texts a day to Florida, whatever the tenant's cap", async () => {
    await db.query("update contact_policies set cap = 10");
    const answers = await claimFrom(one, db.tenantA, "sms", await insert("sms", "+13055550102", 5));
    expect(outcomes(answers)).toEqual(["defer", "defer", "go", "go", "go"]);
    expect(outcomes(await claimFrom(one, db.tenantA, "sms", await insert("sms", "+12145550103", 5)))).toEqual(
      Array(5).fill("go"),
    );
  });

  it("cannot have a window longer than the queue keeps its rows", async () => {
    await db.query("update brainops.job_tables set archive_after = '10 days' where table_name = 'ai_email_queue'");
    const set = (window: string): Promise<unknown> =>
      db.as("tenantA", "update contact_policies set cap_window = $1", [window]);
    expect(await refusal(set("11 days"))).toMatchObject({
      code: "OP014",
      hint: expect.stringContaining("archive_after"),
    });
    await set("9 days");
    const keep = "update brainops.job_tables set archive_after = '8 days' where table_name = 'ai_email_queue'";
    expect(await refusal(db.as("admin", keep))).toMatchObject({ code: "OP014" });
    await db.query("update contact_policies set cap_window = '24 hours'");
    await db.query("update brainops.job_tables set archive_after = '30 days' where table_name = 'ai_email_queue'");
  });
});

const waiting =
  "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')";

describe.skipIf(!isServer)("two workers at once (needs a server)", () => {
  it.each([
    ["commits: the second sees what was sent", "commit", "defer"],
    ["is rolled back: the second may send", "rollback", "go"],
  ])("wait for each other over one person on two channels; when the first %s", async (_name, end, expected) => {
    await db.query("update contact_policies set cap = 1");
    const [mail] = await insert("email", "dana@example.com");
    const [text] = await insert("sms", "+13035550101");
    await beginAsWorker(one, db.tenantA);
    await beginAsWorker(two, db.tenantA);
    expect((await one.query<Answer>(CLAIM, [TABLES.email, [mail]])).rows).toMatchObject([{ outcome: "go" }]);
    const second = two.query<Answer>(CLAIM, [TABLES.sms, [text]]);
    await db.until(waiting);
    await one.query(end);
    expect((await second).rows).toMatchObject([{ outcome: expected }]);
    await two.query("commit");
  });

  it("do not wait for each other over different people", async () => {
    // Two people may share a lock.
    const [other] = await db.query<{ address: string }>(
      `select address from (select 'crowd' || n || '@example.com' as address from generate_series(1, 9) as n) as c
       where brainops_internal.lock_bucket(address) <> brainops_internal.lock_bucket('crowd0@example.com') limit 1`,
    );
    const [a] = await insert("email", "crowd0@example.com");
    const [b] = await insert("email", other?.address ?? "");
    await beginAsWorker(one, db.tenantA);
    await beginAsWorker(two, db.tenantA);
    await two.query("set local lock_timeout = '1s'");
    expect((await one.query<Answer>(CLAIM, [TABLES.email, [a]])).rows).toMatchObject([{ outcome: "go" }]);
    expect((await two.query<Answer>(CLAIM, [TABLES.email, [b]])).rows).toMatchObject([{ outcome: "go" }]);
    await Promise.all([one.query("commit"), two.query("commit")]);
  });

  it("with many people in opposite order neither deadlock nor exceed the cap", async () => {
    await db.query("update contact_policies set cap = 1");
    const persons = Array.from({ length: 120 }, (_, n) => `crowd${n}@example.com`);
    const mails: string[] = [];
    const again: string[] = [];
    for (const person of persons) mails.push(...(await insert("email", person)));
    for (const person of persons.toReversed()) again.push(...(await insert("email", person)));
    const halves = [mails.slice(0, 60), mails.slice(60), again.slice(0, 60), again.slice(60)];
    const answers = [
      ...(await Promise.all([
        claimFrom(one, db.tenantA, "email", halves[0] ?? []),
        claimFrom(two, db.tenantA, "email", again),
      ])),
      ...(await Promise.all([
        claimFrom(one, db.tenantA, "email", halves[1] ?? []),
        claimFrom(two, db.tenantA, "email", halves[2] ?? []),
      ])),
    ].flat();
    expect(answers.filter(({ outcome }) => outcome === "go")).toHaveLength(120);
    const [row] = await db.query(
      "select count(distinct recipient)::int as persons, count(*)::int as mails from ai_email_queue where status = 'processing'",
    );
    expect(row).toEqual({ persons: 120, mails: 120 });
  });
});
