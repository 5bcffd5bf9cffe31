// No enrolment skips or repeats a touch, whatever happens in between: pauses, new versions, workers that die at
// any moment, jumps of the clock over DST. model.ts computes the expected state after each act.
// oxlint-disable vitest/no-standalone-expect -- the acts and the comparison are methods that the one test calls
import fc from "fast-check";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { asWorker } from "../support/jobs.ts";
import { Model, type ModelStep } from "./model.ts";
import {
  claimTouches,
  enrol,
  enrolmentOf,
  launch,
  makeLaunchable,
  messagesOf,
  newLead,
  perform,
  publish,
  settle,
  fixedClock,
  touchesOf,
  workOff,
  type ClaimedTouch,
  type StepColumns,
} from "./support.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** After this time without a settle the sweep makes a row due again. */
const ABANDONED_AFTER = 13 * MINUTE;

let db: TestDatabase;
let tenant: pg.Client;
let worker: pg.Client;
let setClock: (at: Date) => Promise<void>;
let campaigns = 0;

beforeAll(async () => {
  db = await createTestDatabase();
  await makeLaunchable(db);
  setClock = await fixedClock(db);
  tenant = await db.connect("tenantA");
  worker = await db.connect("worker");
});

afterAll(() => db.close());

// Versions -------------------------------------------------------------------------------------

const rawStep = fc.record({
  key: fc.integer({ min: 1, max: 8 }),
  kind: fc.constantFrom<ModelStep["kind"][]>(
    "send_email",
    "send_email",
    "send_sms",
    "wait",
    "wait_for",
    "branch",
    "split",
    "task",
  ),
  days: fc.integer({ min: 0, max: 3 }),
  ms: fc.constantFrom(0, 7 * MINUTE, HOUR, 24 * HOUR, 26 * HOUR + 1),
  from: fc.constantFrom<ModelStep["from"][]>("previous", "previous", "enrolment"),
  jump: fc.option(fc.integer({ min: 1, max: 3 })),
  otherwise: fc.option(fc.integer({ min: 1, max: 3 })),
});

/** A version whose paths lead forward, and to every step. */
const version = fc.uniqueArray(rawStep, { selector: ({ key }) => key, minLength: 1, maxLength: 6 }).map((raws) =>
  raws.map((raw, index): ModelStep => {
    const target = (by: number | null): number | null =>
      by !== null && index + by < raws.length && raw.kind !== "wait" ? index + by : null;
    const jump = target(raw.jump);
    const needsJump = raw.kind === "branch" || raw.kind === "split";
    const waits = raw.kind === "wait" || raw.kind === "wait_for";
    return {
      key: `k${raw.key}`,
      kind: needsJump && jump === null ? "task" : raw.kind,
      days: raw.days,
      ms: waits && raw.days === 0 ? Math.max(raw.ms, MINUTE) : raw.ms,
      from: raw.from,
      jump,
      otherwise: jump === null ? target(raw.otherwise) : null,
    };
  }),
);

const numberOf = (index: number): number => (index + 1) * 10;

function columnsOf(step: ModelStep, index: number): StepColumns {
  const to = numberOf(step.jump ?? index + 1);
  const config = ((): Record<string, unknown> => {
    switch (step.kind) {
      case "branch":
        return { when: [{ if: { field: "source", op: "=", value: "web" }, to }] };
      case "split":
        return {
          variants: [
            { name: "a", weight: 1, to: numberOf(index + 1) },
            { name: "b", weight: 1, to },
          ],
        };
      case "wait_for":
        return {
          event: "visited",
          // oxlint-disable-next-line unicorn/no-thenable -- the step's own name for it
          ...(step.jump === null ? {} : { then: to }),
          ...(step.otherwise === null ? {} : { else: numberOf(step.otherwise) }),
        };
      case "task":
        return { title: "Call" };
      default:
        return {};
    }
  })();
  return {
    step_number: numberOf(index),
    step_key: step.key,
    kind: step.kind,
    template: step.kind === "send_email" ? "mail" : step.kind === "send_sms" ? "text" : null,
    delay: `${step.days} days ${step.ms} milliseconds`,
    delay_from: step.from,
    config,
  };
}

// Acts -----------------------------------------------------------------------------------------

type Act =
  | { readonly do: "advance"; readonly ms: number }
  | { readonly do: "work" | "sweep" | "finish" | "zombie" | "visit" | "cancel" }
  | { readonly do: "die"; readonly when: "before" | "during" | "after" }
  | { readonly do: "pause" | "resume"; readonly who: "enrolment" | "campaign" }
  | { readonly do: "publish"; readonly steps: ModelStep[]; readonly move: boolean }
  | { readonly do: "move"; readonly ms: number }
  | { readonly do: "source"; readonly source: string };

const anyone = fc.constantFrom<("enrolment" | "campaign")[]>("enrolment", "campaign");
const anyAct: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("advance" as const),
      ms: fc.oneof(fc.integer({ min: 1, max: 3 * HOUR }), fc.integer({ min: HOUR, max: 4 * DAY })),
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constantFrom("work" as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("die" as const),
      when: fc.constantFrom("before" as const, "during" as const, "after" as const),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom("sweep" as const, "finish" as const, "zombie" as const, "visit" as const, "cancel" as const),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom("pause" as const, "resume" as const), who: anyone }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("publish" as const), steps: version, move: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("move" as const), ms: fc.integer({ min: 1, max: DAY }) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("source" as const), source: fc.constantFrom("web", "ads") }),
  },
);

// Two hours around both changes of each year, in zones that change by an hour, by half an hour, not at all.
const start = fc.record({
  zone: fc.constantFrom("America/Denver", "Europe/Berlin", "Australia/Lord_Howe", "UTC"),
  day: fc.constantFrom(
    "2026-03-06T12:00Z",
    "2026-03-27T01:10Z",
    "2026-10-30T07:40Z",
    "2026-10-23T00:30Z",
    "2026-04-03T15:00Z",
  ),
  ms: fc.integer({ min: 0, max: DAY }),
});

/** One enrolment and its model, and the acts on both. */
class Run {
  now: number;
  source = "web";
  readonly model: Model;
  readonly code: string;
  #enrolment = "";
  #lead = "";
  /** The claim that a slow worker holds on the open touch. */
  #claim: (ClaimedTouch & { at: number }) | null = null;
  readonly #oldClaims: ClaimedTouch[] = [];
  #deaths = 0;

  readonly first: ModelStep[];
  readonly zone: string;

  constructor(first: ModelStep[], zone: string, now: number) {
    this.first = first;
    this.zone = zone;
    campaigns += 1;
    this.code = `c${campaigns}`;
    this.now = now;
    this.model = new Model(first, now, zone);
  }

  async begin(): Promise<void> {
    await setClock(new Date(this.now));
    await launch(tenant, this.code, this.first.map(columnsOf));
    this.#lead = await newLead(tenant, { source: "web", time_zone: this.zone });
    this.#enrolment = await enrol(tenant, this.#lead, this.code);
  }

  async act(act: Act): Promise<void> {
    const { model } = this;
    switch (act.do) {
      case "advance":
        return this.advance(act.ms);
      case "work":
        return this.work();
      case "sweep":
        return this.sweep();
      case "die":
        return this.die(act.when);
      case "finish":
        return this.finish();
      case "zombie":
        for (const old of this.#oldClaims.slice(-2)) {
          await settle(worker, db.tenantA, old, await perform(worker, db.tenantA, old));
        }
        return;
      case "visit":
        await tenant.query("insert into lead_events (lead_id, event) values ($1, 'visited')", [this.#lead]);
        model.wake(this.now);
        return;
      case "cancel":
        await this.#updateOpen("status = 'cancelled'");
        model.skip(this.now);
        return;
      case "pause":
      case "resume":
        return this.steer(act.do, act.who);
      case "publish":
        await publish(tenant, this.code, act.steps.map(columnsOf), act.move);
        model.publish(act.steps, act.move);
        return;
      case "move":
        if (model.open === null || model.open.state === "processing") return;
        await this.#updateOpen("scheduled_for = $2", [new Date(this.now + act.ms)]);
        model.moveOpen(this.now + act.ms);
        return;
      case "source":
        this.source = act.source;
        await tenant.query("update revenue_leads set source = $2 where id = $1", [this.#lead, act.source]);
        return;
      default:
        return act satisfies never;
    }
  }

  async advance(ms: number): Promise<void> {
    this.now += ms;
    await setClock(new Date(this.now));
  }

  async work(): Promise<void> {
    await workOff(worker, db.tenantA, this.#enrolment);
    const variants = new Map((await touchesOf(db, this.#enrolment)).map((touch) => [touch.step_key, touch.variant]));
    for (let open = this.model.open; open !== null && this.model.due(this.now); open = this.model.open) {
      if (this.model.held) this.model.putOff(this.now + HOUR);
      else this.model.perform(this.now, this.source === "web", variants.get(open.key) ?? null);
    }
  }

  async sweep(): Promise<void> {
    await db.query("select brainops_internal.sweep()");
    if (this.#claim !== null && this.now - this.#claim.at >= ABANDONED_AFTER) {
      this.#oldClaims.push(this.#claim);
      this.#claim = null;
      this.model.abandon(this.now);
    }
  }

  async die(when: "before" | "during" | "after"): Promise<void> {
    const { model } = this;
    if (this.#claim !== null || this.#deaths === 8 || !model.due(this.now)) return;
    const claims = await claimTouches(worker, db.tenantA, this.#enrolment);
    if (model.held) {
      expect(claims).toEqual([]);
      model.putOff(this.now + HOUR);
      return;
    }
    const open = (await touchesOf(db, this.#enrolment)).find((touch) => touch.performed_at === null);
    const claim = claims.find(({ id }) => id === open?.id);
    if (claim === undefined) throw new Error("the open touch was due, and not claimed");
    if (when === "after") {
      await perform(worker, db.tenantA, claim);
      this.#oldClaims.push(claim);
      const touches = await touchesOf(db, this.#enrolment);
      model.perform(this.now, this.source === "web", touches.find(({ id }) => id === claim.id)?.variant ?? null);
      return;
    }
    if (when === "during") {
      const killed = asWorker(worker, db.tenantA, async () => {
        await worker.query("select * from brainops_internal.perform_touch($1, $2)", [claim.id, claim.lease]);
        throw new Error("killed");
      });
      await expect(killed).rejects.toThrow("killed");
    }
    this.#deaths += 1;
    this.#claim = { ...claim, at: this.now };
    model.claim();
  }

  /** The worker was slow, not dead. */
  async finish(): Promise<void> {
    const { model } = this;
    if (this.#claim === null) return;
    const claim = this.#claim;
    this.#claim = null;
    this.#oldClaims.push(claim);
    const open = model.open;
    const answer = await perform(worker, db.tenantA, claim);
    const touch = (await touchesOf(db, this.#enrolment)).find(({ id }) => id === claim.id);
    await settle(worker, db.tenantA, claim, answer);
    if (open === null || open.state !== "processing") {
      expect(answer.outcome).not.toBe("defer");
    } else if (!model.held) {
      model.perform(this.now, this.source === "web", touch?.variant ?? null);
    } else if (open.cancelRequested) {
      open.state = "pending";
      model.skip(this.now);
    } else {
      model.putOff(this.now + HOUR);
    }
  }

  async steer(what: "pause" | "resume", who: "enrolment" | "campaign"): Promise<void> {
    const { model } = this;
    if (who === "campaign") {
      if ((what === "pause") === model.campaignPaused) return;
      await tenant.query(`select brainops.${what}_campaign($1)`, [this.code]);
    } else {
      if (model.status !== (what === "pause" ? "active" : "paused")) return;
      await tenant.query("update ai_nurture_campaigns set status = $2 where id = $1", [
        this.#enrolment,
        what === "pause" ? "paused" : "active",
      ]);
    }
    model[what](who, this.now);
  }

  async #updateOpen(set: string, values: readonly unknown[] = []): Promise<void> {
    await tenant.query(
      `update ai_campaign_touches set ${set} where campaign_id = $1 and step_key is not null and performed_at is null
         and status in ('pending', 'awaiting_approval', 'processing')`,
      [this.#enrolment, ...values],
    );
  }

  async compare(): Promise<void> {
    const { model } = this;
    const touches = await touchesOf(db, this.#enrolment);
    const states = { pending: "pending", awaiting: "awaiting_approval", processing: "processing" } as const;
    expect({
      enrolment: await enrolmentOf(db, this.#enrolment),
      open: touches
        .filter((touch) => touch.performed_at === null)
        .map(({ step_key, status, due_at, woken_at }) => ({
          key: step_key,
          status,
          due: due_at,
          woken: woken_at !== null,
        })),
      runsAt: touches.find((touch) => touch.performed_at === null && touch.status === "pending")?.scheduled_for ?? null,
      decided: touches
        .filter((touch) => touch.performed_at !== null)
        .map(({ step_key, outcome, next_key }) => ({
          key: step_key,
          kind: outcome?.startsWith("skipped") === true ? "skipped" : "performed",
          next: next_key,
        }))
        .toSorted(byKey),
      messages: (await messagesOf(db, this.#enrolment)).length,
    }).toEqual({
      enrolment: {
        status: model.status,
        exit_reason: null,
        next_touch_date: model.open === null ? null : new Date(model.open.due),
        touch_count: model.messages,
        version: model.version + 1,
      },
      open:
        model.open === null
          ? []
          : [
              {
                key: model.open.key,
                status: states[model.open.state],
                due: new Date(model.open.due),
                woken: model.open.woken,
              },
            ],
      runsAt: model.open?.state === "pending" ? new Date(model.open.notBefore) : null,
      decided: model.decided.toSorted(byKey),
      messages: model.messages,
    });
  }

  /** Resumes everything, and runs to the end. */
  async end(): Promise<void> {
    const { model } = this;
    await this.steer("resume", "enrolment");
    await this.steer("resume", "campaign");
    for (let round = 0; model.live && round < 40; round += 1) {
      await this.advance(Math.max((model.open?.notBefore ?? 0) - this.now, ABANDONED_AFTER));
      await this.sweep();
      await this.work();
      await this.compare();
    }
    expect(model.status).toBe("completed");
    const sent = (await messagesOf(db, this.#enrolment)).map((message) => message.step_key);
    expect(new Set(sent).size).toBe(sent.length);
  }
}

const byKey = (one: { key: string | null }, other: { key: string | null }): number =>
  String(one.key) < String(other.key) ? -1 : 1;

describe("an enrolment", () => {
  it("neither skips nor repeats a touch under pauses, new versions, worker deaths and clock jumps", async () => {
    const checked = fc.assert(
      fc.asyncProperty(version, start, fc.array(anyAct, { minLength: 5, maxLength: 30 }), async (first, at, acts) => {
        const run = new Run(first, at.zone, new Date(at.day).getTime() + at.ms);
        await run.begin();
        await run.compare();
        for (const one of acts) {
          await run.act(one);
          await run.compare();
        }
        await run.end();
      }),
      { numRuns: Number(process.env["TEST_RUNS"] ?? (isServer ? 60 : 8)), interruptAfterTimeLimit: 100_000 },
    );
    await expect(checked).resolves.toBeUndefined();
  }, 120_000);
});
