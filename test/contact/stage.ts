// Applies the steps of a test (or of fast-check) to the database and to the oracle.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import assert from "node:assert/strict";
import { setNow } from "../support/clock.ts";
import type { TestDatabase } from "../support/database.ts";
import { asWorker } from "../support/jobs.ts";
import { addressOf, type Channel, type Person } from "./people.ts";
import { World, type Policy } from "./world.ts";
import { timeOf } from "./wallClock.ts";

export const TABLES = { email: "ai_email_queue", sms: "ai_sms_queue" } as const;
const CHANNELS: readonly Channel[] = ["email", "sms"];

export interface Answer {
  readonly id: string;
  readonly outcome: string;
  readonly lease: string | null;
  readonly reason: string | null;
}

/** Claims as a worker does. */
export function claimFrom(
  client: pg.Client,
  tenantId: string,
  channel: Channel,
  ids: readonly string[],
): Promise<Answer[]> {
  return asWorker(client, tenantId, async () => {
    const { rows } = await client.query<Answer>(
      "select id, outcome, lease, reason from brainops_internal.claim($1, $2, $3)",
      [TABLES[channel], ids, randomUUID()],
    );
    return rows;
  });
}

export class Stage {
  readonly world: World;
  readonly #db: TestDatabase;
  readonly #clients: readonly [pg.Client, pg.Client];
  readonly #leads: ReadonlyMap<string, string>;
  readonly #leases = new Map<string, string>();

  private constructor(
    db: TestDatabase,
    clients: readonly [pg.Client, pg.Client],
    leads: ReadonlyMap<string, string>,
    world: World,
  ) {
    this.#db = db;
    this.#clients = clients;
    this.#leads = leads;
    this.world = world;
  }

  /** An empty stage at an instant, under a policy for both channels. */
  static async set(
    db: TestDatabase,
    clients: readonly [pg.Client, pg.Client],
    leads: ReadonlyMap<string, string>,
    now: number,
    policy: Policy,
  ): Promise<Stage> {
    await db.query(
      `truncate ai_email_queue, ai_sms_queue, contact_suppressions, contact_consents, contact_policies, marketing_holds,
         brainops.contact_counts, brainops.pauses, graphile_worker._private_jobs cascade`,
    );
    await setNow(db, new Date(now));
    for (const channel of CHANNELS) {
      await db.query(
        `insert into contact_policies (tenant_id, channel, window_start, window_end, weekdays, cap, cap_window, hourly_limit, expires_after)
         values ($1, $2, $3, $4, $5, $6, $7, $8, '90 days')`,
        [
          db.tenantA,
          channel,
          timeOf(policy.from),
          timeOf(policy.to),
          policy.weekdays,
          policy.cap,
          `${policy.capHours} hours`,
          policy.hourlyLimit,
        ],
      );
    }
    return new Stage(db, clients, leads, new World(now, policy));
  }

  async moveClock(to: number): Promise<void> {
    this.world.now = to;
    await setNow(this.#db, new Date(to));
  }

  async insert(channel: Channel, person: Person, marketing: boolean, dueAt: number, byLead: boolean): Promise<void> {
    const recipient = (byLead ? this.#leads.get(person.name) : undefined) ?? addressOf(person, channel);
    const columns = channel === "email" ? "subject, body" : "body";
    const values = channel === "email" ? "'Hello', 'Hi'" : "'Hi'";
    const metadata = channel === "email" ? { marketing } : { transactional: !marketing };
    const [row] = await this.#db.query<{ id: string }>(
      `insert into ${TABLES[channel]} (tenant_id, recipient, scheduled_for, metadata, ${columns}) values ($1, $2, $3, $4, ${values}) returning id`,
      [this.#db.tenantA, recipient, new Date(dueAt), metadata],
    );
    if (row === undefined) throw new Error("nothing was inserted");
    this.world.messages.set(row.id, { id: row.id, channel, person, marketing, wentAt: null, status: "pending" });
  }

  /** Two workers claim at once, each its share of the pending messages (3: all); checks what was sent. */
  async claim(channels: readonly [Channel, Channel], shares: readonly [number, number]): Promise<number> {
    const pending = (channel: Channel, share: number): string[] =>
      [...this.world.messages.values()]
        .filter(
          (one, index) => one.channel === channel && one.status === "pending" && (share === 3 || index % 3 !== share),
        )
        .map((one) => one.id);
    const answers = await Promise.all(
      this.#clients.map((client, n) =>
        claimFrom(client, this.#db.tenantA, channels[n] ?? "email", pending(channels[n] ?? "email", shares[n] ?? 3)),
      ),
    );
    const all = answers.flat();
    for (const { id, lease } of all) if (lease !== null) this.#leases.set(id, lease);
    this.world.went(all.filter(({ outcome }) => outcome === "go").map(({ id }) => id));
    for (const { id, outcome, reason } of all) {
      if (outcome === "skip") this.world.ended(id, reason ?? "");
      else if (outcome !== "go") {
        assert.match(outcome, /^(defer|hold)$/, id);
        assert.ok(reason, `${id} waits without a reason`);
      }
    }
    return all.length;
  }

  async settle(id: string, outcome: "completed" | "retry" | "fail" | "unconfirmed"): Promise<void> {
    const message = this.world.messages.get(id);
    if (message === undefined) return;
    const [client] = this.#clients;
    const { rows } = await asWorker(client, this.#db.tenantA, () =>
      client.query<{ status: string }>(
        "select status from brainops_internal.settle($1, array[row($2, $3, $4, null, 'a test', '{}')::brainops.settlement])",
        [TABLES[message.channel], id, this.#leases.get(id), outcome],
      ),
    );
    // A text that was never handed over is not unconfirmed: it is due again.
    const status = rows[0]?.status ?? "none";
    assert.match(status, /^(completed|unconfirmed|pending|failed)$/, `${id} settled as ${outcome}`);
    this.world.settled(id, /^(completed|unconfirmed)$/.test(status), status === "pending");
  }

  async suppress(channel: Channel, person: Person, on: boolean): Promise<void> {
    const address = addressOf(person, channel);
    if (address === undefined) return;
    if (on) {
      const insert =
        "insert into contact_suppressions (tenant_id, channel, address, reason) values ($1, $2, $3, 'unsubscribed')";
      await this.#db.query(`${insert} on conflict do nothing`, [this.#db.tenantA, channel, address]);
      this.world.suppressed.add(`${channel} ${address}`);
    } else {
      await this.#db.query("delete from contact_suppressions where channel = $1 and address = $2", [channel, address]);
      this.world.suppressed.delete(`${channel} ${address}`);
    }
  }

  async consent(channel: Channel, person: Person, granted: boolean): Promise<void> {
    const address = addressOf(person, channel);
    if (address === undefined) return;
    await this.#db.query("insert into contact_consents (tenant_id, channel, address, state) values ($1, $2, $3, $4)", [
      this.#db.tenantA,
      channel,
      address,
      granted ? "granted" : "denied",
    ]);
    this.world.recordConsent(channel, address, granted);
  }

  async pause(channel: Channel, on: boolean): Promise<void> {
    await this.#db.as("admin", `select brainops.${on ? "pause" : "resume"}($1, 'tenant-a')`, [TABLES[channel]]);
    if (on) this.world.paused.add(channel);
    else this.world.paused.delete(channel);
  }

  async hold(channel: Channel, on: boolean): Promise<void> {
    if (on) await this.#db.as("admin", "select brainops.hold_marketing('tenant-a', $1, 'a test')", [channel]);
    else await this.#db.as("admin", "select brainops.lift_marketing_hold('tenant-a', $1)", [channel]);
    if (on) this.world.held.add(channel);
    else this.world.held.delete(channel);
  }

  /** The next instant at which a pending message is due; null without one. */
  async nextDue(): Promise<number | null> {
    const [row] = await this.#db.query<{ at: Date | null }>(
      "select min(scheduled_for) as at from brainops.jobs where status = 'pending' and table_name = any ($1)",
      [Object.values(TABLES)],
    );
    return row?.at?.getTime() ?? null;
  }
}
