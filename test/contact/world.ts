// A second, independent record of what has happened: the oracle of the property tests. It gets every consent and every
// send, and checks whether each send was allowed.
import assert from "node:assert/strict";
import { addressOf, type Channel, type Person } from "./people.ts";
import { allOf, everyDay, isOpen, type Week } from "./wallClock.ts";

export interface Policy {
  readonly from: number;
  readonly to: number;
  readonly weekdays: readonly number[] | null;
  readonly cap: number;
  readonly capHours: number;
  readonly hourlyLimit: number | null;
}

export interface Message {
  readonly id: string;
  readonly channel: Channel;
  readonly person: Person;
  readonly marketing: boolean;
  /** When it was sent; null before, or if it was not sent after all. */
  wentAt: number | null;
  status: "pending" | "processing" | "done";
}

interface Consent {
  readonly at: number;
  readonly granted: boolean;
}

const HOUR = 3_600_000;

export class World {
  now: number;
  readonly policy: Policy;
  readonly messages = new Map<string, Message>();
  readonly suppressed = new Set<string>();
  readonly paused = new Set<Channel>();
  readonly held = new Set<Channel>();
  readonly #consents = new Map<string, Consent[]>();
  readonly #goesByHour = new Map<string, number>();

  constructor(now: number, policy: Policy) {
    this.now = now;
    this.policy = policy;
  }

  recordConsent(channel: Channel, address: string, granted: boolean): void {
    const key = `${channel} ${address}`;
    this.#consents.set(key, [...(this.#consents.get(key) ?? []), { at: this.now, granted }]);
  }

  /** Whether the latest consent allows marketing: mail needs no denial, texts need a grant. */
  consents(channel: Channel, address: string): boolean {
    const all = this.#consents.get(`${channel} ${address}`) ?? [];
    const at = Math.max(...all.map((consent) => consent.at));
    const latest = all.filter((consent) => consent.at === at);
    return latest.length === 0 ? channel === "email" : latest.every((consent) => consent.granted);
  }

  week(person: Person, channel: Channel): Week {
    const own = everyDay(this.policy.from, this.policy.to, this.policy.weekdays);
    return channel === "sms" && person.law !== null ? allOf([own, person.law]) : own;
  }

  /** Throws unless every message of a claim (or of claims that ran at once) was allowed to go now. */
  went(ids: readonly string[]): void {
    const gone = ids.map((id) => this.#message(id));
    assert.equal(new Set(ids).size, ids.length, "a message was claimed twice");
    for (const message of gone) {
      assert.equal(message.status, "pending", `${message.id} went`);
      message.status = "processing";
      message.wentAt = this.now;
    }
    for (const message of gone) this.#check(message);
  }

  #check({ person, channel, marketing }: Message): void {
    const address = addressOf(person, channel) ?? "";
    const when = `${marketing ? "marketing" : "transactional"} ${channel} to ${person.name} at ${new Date(this.now).toISOString()}`;
    assert.equal(this.paused.has(channel), false, `${when}: paused`);
    assert.equal(this.suppressed.has(`${channel} ${address}`), false, `${when}: suppressed`);
    if (!marketing) return;
    assert.ok(this.consents(channel, address), `${when}: no consent`);
    assert.equal(this.held.has(channel), false, `${when}: on hold`);
    assert.ok(isOpen(this.now, person.zones, this.week(person, channel)), `${when}: in quiet hours`);
    const { cap, capHours, hourlyLimit } = this.policy;
    atMost(cap, this.#sent(person.group, capHours), `${when}: within ${capHours} h`);
    if (channel === "sms" && person.group === "mia") {
      atMost(3, this.#sent("mia", 24, "sms"), `${when}: texts within 24 h in Florida`);
    }
    const hour = `${channel} ${Math.floor(this.now / HOUR)}`;
    this.#goesByHour.set(hour, (this.#goesByHour.get(hour) ?? 0) + 1);
    atMost(hourlyLimit ?? Infinity, this.#goesByHour.get(hour) ?? 0, `${when}: in this hour`);
  }

  #sent(group: string, hours: number, channel?: Channel): number {
    const counted = [...this.messages.values()].filter(
      (one) =>
        one.marketing &&
        one.person.group === group &&
        (channel === undefined || one.channel === channel) &&
        one.wentAt !== null &&
        one.wentAt > this.now - hours * HOUR,
    );
    return counted.length;
  }

  /** How a send ended: only what may have arrived counts. */
  settled(id: string, arrived: boolean, again: boolean): void {
    const message = this.#message(id);
    if (!arrived) message.wentAt = null;
    message.status = again ? "pending" : "done";
  }

  /** It will never be sent; throws unless that is the person's choice. */
  ended(id: string, reason: string): void {
    const message = this.#message(id);
    const address = addressOf(message.person, message.channel) ?? "";
    message.status = "done";
    if (reason.startsWith("suppressed")) {
      assert.ok(this.suppressed.has(`${message.channel} ${address}`), `${message.id}: ${reason}`);
    } else {
      assert.match(reason, /^consent denied$|^no consent for sms$/);
      assert.ok(!this.consents(message.channel, address), `${message.id}: ${reason}`);
    }
  }

  #message(id: string): Message {
    const message = this.messages.get(id);
    if (message === undefined) throw new Error(`no message ${id}`);
    return message;
  }
}

function atMost(most: number, count: number, what: string): void {
  assert.ok(count <= most, `${what}: ${count}, and ${most} is the most`);
}
