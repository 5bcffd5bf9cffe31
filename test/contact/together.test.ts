// The rules are checked for a thousand messages at once, with look-ups for all of them. The verdict on each must be the
// one that it gets alone, whatever the others are.
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import type pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { setNow } from "../support/clock.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { asWorker } from "../support/jobs.ts";

// Leads are not deleted, so each run has its own people.
let run = 0;
const NOW = new Date("2026-06-03T18:00Z"); // a Wednesday, noon in Denver, six in the evening in London
const HOUR = 3_600_000;

let db: TestDatabase;
let worker: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  worker = await db.connect("worker");
  await setNow(db, NOW);
  await db.query(
    `update tenants set settings = '{"postal_address": "1 Main St, Denver"}', time_zone = 'America/Denver'`,
  );
});

afterAll(() => db.close());

const hoursAgo = fc.integer({ min: 1, max: 24 * 12 });
const person = fc.record({
  named: fc.constantFrom("address", "ADDRESS ", "lead", "alias"),
  known: fc.boolean(),
  email: fc.boolean(),
  phone: fc.boolean(),
  // Another lead with the same number: one person.
  mate: fc.boolean(),
  zone: fc.constantFrom(null, "America/Denver", "Asia/Tokyo"),
  state: fc.constantFrom(null, "FL", "CO"),
  suppressed: fc.constantFrom("no", "no", "no", "address", "digest", "until yesterday"),
  consents: fc.array(
    fc.record({ state: fc.constantFrom("granted", "denied", "pending"), confirmed: fc.boolean(), ago: hoursAgo }),
    { maxLength: 3 },
  ),
  history: fc.array(
    fc.record({ channel: fc.constantFrom("email", "sms"), whose: fc.constantFrom("own", "mate"), ago: hoursAgo }),
    {
      maxLength: 3,
    },
  ),
  marketing: fc.integer({ min: 0, max: 4 }).map((n) => n > 0),
  expires: fc.constantFrom(null, -1, 1),
  dueAgo: fc.constantFrom(0, 2, 24 * 40),
});
type Person = typeof person extends fc.Arbitrary<infer T> ? T : never;
type Policy = typeof policy extends fc.Arbitrary<infer T> ? T : never;

const policy = fc.record({
  consent: fc.constantFrom("opt_out", "opt_in", "double_opt_in"),
  cap: fc.integer({ min: 1, max: 2 }),
  window: fc.constantFrom(["00:00", "23:59"], ["09:00", "17:00"]),
});

it("a message gets the same verdict among many as alone", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(person, { minLength: 8, maxLength: 40 }), policy, async (people, rules) => {
      await stage(people, rules);
      for (const channel of ["email", "sms"] as const) {
        const ids = (await db.query<{ id: string }>(`select id from ${TABLES[channel]} where status = 'pending'`)).map(
          ({ id }) => id,
        );
        const together = await verdicts(channel, ids);
        const alone = new Map<string, string>();
        for (const id of ids) for (const [key, verdict] of await verdicts(channel, [id])) alone.set(key, verdict);
        expect(together).toEqual(alone);
      }
    }),
    { numRuns: 12 },
  );
}, 120_000);

// If their callers had the setting, every enrolment's campaign would be searched among all tenants' campaigns.
it("only the look-ups of many rows disable nested loops", async () => {
  const rows = await db.query<{ name: string; calls: string[] }>(
    `select p.proname as name, array(
         select distinct o.proname::text from pg_proc as o
         where o.pronamespace::regnamespace::text like 'brainops%'
           and p.prosrc like '%' || o.pronamespace::regnamespace || '.' || o.proname || '(%'
         order by 1
       ) as calls
     from pg_proc as p
     where p.pronamespace = 'brainops_internal'::regnamespace and 'enable_nestloop=off' = any (p.proconfig)
     order by 1`,
  );
  expect(rows).toEqual([
    { name: "contact_history", calls: [] },
    { name: "last_consents", calls: [] },
    { name: "message_verdicts", calls: ["address_digest", "now", "timestamptz_or_null"] },
    { name: "recipient_contexts", calls: ["phone_e164"] },
  ]);
});

const TABLES = { email: "ai_email_queue", sms: "ai_sms_queue" } as const;

/** The gate's verdicts, rolled back. The time of the next attempt is left out, because it is spread at random. */
async function verdicts(channel: "email" | "sms", ids: readonly string[]): Promise<Map<string, string>> {
  const undo = new Error("undo");
  const found = new Map<string, string>();
  await asWorker(worker, db.tenantA, async () => {
    const { rows } = await worker.query<{ id: string; outcome: string; reason: string }>(
      `select id, outcome, reason from brainops_internal.gate_${channel}($1)`,
      [ids],
    );
    for (const { id, outcome, reason } of rows) found.set(id, `${outcome}: ${reason}`);
    throw undo;
  }).catch((error: unknown) => {
    if (error !== undo) throw error;
  });
  return found;
}

interface Row {
  readonly [column: string]: unknown;
}

async function stage(people: readonly Person[], rules: Policy): Promise<void> {
  run += 1;
  await db.query(
    `truncate ai_email_queue, ai_sms_queue, contact_suppressions, contact_consents, contact_policies,
       brainops.contact_counts, graphile_worker._private_jobs cascade`,
  );
  await insert(
    "contact_policies",
    ["email", "sms"].map((channel) => ({
      channel,
      consent: rules.consent,
      cap: rules.cap,
      cap_window: "7 days",
      window_start: rules.window[0],
      window_end: rules.window[1],
      expires_after: "30 days",
    })),
  );
  const all = people.map((one, n) => ({
    ...one,
    n,
    id: randomUUID(),
    alias: randomUUID(),
    mateId: randomUUID(),
    address: `person${run}x${n}@example.com`,
    number: `+1303${2_000_000 + run * 100 + n}`,
  }));
  const leads = all.flatMap(({ known, email, phone, mate, zone, state, named, ...one }) => {
    if (!known && named !== "lead" && named !== "alias") return [];
    const base = { time_zone: zone, metadata: {}, state };
    const own = { ...base, id: one.id, email: email || !phone ? one.address : null, phone: phone ? one.number : null };
    return mate && phone
      ? [own, { ...base, id: one.mateId, email: `mate${run}x${one.n}@example.com`, phone: one.number }]
      : [own];
  });
  await insert("revenue_leads", leads);
  const ids = new Set(leads.map(({ id }) => id));
  await insert(
    "revenue_lead_aliases",
    all.filter(({ id }) => ids.has(id)).map(({ id, alias }) => ({ id: alias, lead_id: id })),
  );
  for (const channel of ["email", "sms"] as const) {
    const addressOf = ({ address, number }: { address: string; number: string }): string =>
      channel === "email" ? address : number;
    await insert(
      "contact_suppressions",
      all.flatMap((one) =>
        one.suppressed === "no" || one.suppressed === "digest"
          ? []
          : [
              {
                channel,
                address: addressOf(one),
                reason: "manual",
                source: "test",
                expires_at: one.suppressed === "address" ? null : at(24),
              },
            ],
      ),
    );
    await db.query(
      `insert into contact_suppressions (tenant_id, channel, address, reason, source)
       select $1, $2, brainops_internal.address_digest(a), 'forgotten', 'test' from unnest($3::text[]) as a`,
      [db.tenantA, channel, all.filter(({ suppressed }) => suppressed === "digest").map(addressOf)],
    );
    await insert(
      "contact_consents",
      all.flatMap((one) =>
        one.consents.map(({ state, confirmed, ago }) => ({
          channel,
          address: addressOf(one),
          state,
          evidence: confirmed ? { confirmed_at: at(ago) } : {},
          occurred_at: at(ago),
          source: "test",
        })),
      ),
    );
    const content = channel === "email" ? { subject: "Hello", body: "Hi" } : { body: "Hi" };
    const past = all.flatMap((one) =>
      one.history.flatMap(({ channel: on, whose, ago }) => {
        if (on !== channel || (whose === "mate" && !ids.has(one.mateId))) return [];
        const recipient = whose === "mate" ? one.mateId : addressOf(one);
        return [{ ...content, recipient, metadata: channel === "email" ? { marketing: true } : {}, ago }];
      }),
    );
    await went(channel, past);
    await insert(
      TABLES[channel],
      all.map((one) => ({
        ...content,
        recipient:
          one.named === "lead"
            ? one.id
            : one.named === "alias"
              ? one.alias
              : one.named === "address"
                ? addressOf(one)
                : addressOf(one).toUpperCase(),
        scheduled_for: at(one.dueAgo),
        metadata: {
          ...(channel === "email" ? { marketing: one.marketing } : { transactional: !one.marketing }),
          ...(one.expires === null ? {} : { expires_at: at(-one.expires) }),
        },
      })),
    );
  }
}

function at(hours: number): string {
  return new Date(NOW.getTime() - hours * HOUR).toISOString();
}

/** Inserts rows of tenant A in one statement; all have the columns of the first. */
async function insert(table: string, rows: readonly Row[]): Promise<void> {
  const [first] = rows;
  if (first === undefined) return;
  const columns = Object.keys(first).join(", ");
  await db.query(
    `insert into ${table} (tenant_id, ${columns}) select $1, ${columns} from jsonb_populate_recordset(null::${table}, $2)`,
    [db.tenantA, JSON.stringify(rows)],
  );
}

/** Inserts messages that were sent some hours ago. */
async function went(channel: "email" | "sms", rows: readonly (Row & { ago: number })[]): Promise<void> {
  await insert(
    TABLES[channel],
    rows.map(({ ago, ...row }) => ({ ...row, scheduled_for: at(ago) })),
  );
  await db.query(
    `update ${TABLES[channel]} set status = 'processing', lease = gen_random_uuid(), started_at = scheduled_for, attempts = 1`,
  );
  await db.query(`update ${TABLES[channel]} set status = 'completed', lease = null, finished_at = started_at`);
}
