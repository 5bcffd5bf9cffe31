// The people of the contact tests: who they are, where they are, and which hours apply to them. The legal
// hours are repeated here, independently of the database.
import type { TestDatabase } from "../support/database.ts";
import { allOf, everyDay, type Week } from "./wallClock.ts";

export type Channel = "email" | "sms";

export interface Person {
  readonly name: string;
  /** The messages of a group count together: two leads with one phone are one person. */
  readonly group: string;
  readonly email?: string;
  readonly phone?: string;
  readonly zone?: string;
  /** Not in revenue_leads: known by the address only. */
  readonly stranger?: true;
  /** The zones whose quiet hours apply. */
  readonly zones: readonly string[];
  /** The legal hours of texts to them; null: no law applies. */
  readonly law: Week | null;
}

const at = (hour: number): number => hour * 60;
const FEDERAL = everyDay(at(8), at(21));
const FLORIDA = everyDay(at(8), at(20));
const CONNECTICUT = everyDay(at(9), at(20));
const TEXAS: Week = (day) => [at(day === 7 ? 12 : 9), at(21)];
const RHODE_ISLAND: Week = (day) => (day > 5 ? [at(10), at(17)] : [at(9), at(18)]);
const EVERY_STATE = allOf([FEDERAL, FLORIDA, CONNECTICUT, TEXAS, RHODE_ISLAND]);
const FIFTY_STATES = [
  "America/New_York",
  "America/Chicago",
  "America/Denver",
  "America/Phoenix",
  "America/Los_Angeles",
  "America/Anchorage",
  "America/Adak",
  "Pacific/Honolulu",
];

export const people: readonly Person[] = [
  {
    name: "Dana of Denver",
    group: "dana",
    email: "dana@example.com",
    phone: "+13035550101",
    zone: "America/Denver",
    zones: ["America/Denver"],
    law: FEDERAL,
  },
  {
    name: "Mia of Miami",
    group: "mia",
    email: "mia@example.com",
    phone: "+13055550102",
    zones: ["America/New_York"],
    law: allOf([FEDERAL, FLORIDA]),
  },
  {
    name: "Dale of Dallas",
    group: "dale",
    email: "dale@example.com",
    phone: "+12145550103",
    zones: ["America/Chicago"],
    law: allOf([FEDERAL, TEXAS]),
  },
  {
    name: "Boyd of Boise, or of the Panhandle",
    group: "boyd",
    phone: "+12085550104",
    zones: ["America/Denver", "America/Los_Angeles"],
    law: FEDERAL,
  },
  { name: "Toll-free Tom, anywhere", group: "tom", phone: "+18005550105", zones: FIFTY_STATES, law: EVERY_STATE },
  {
    name: "Lena of London",
    group: "lena",
    email: "lena@example.com",
    phone: "+442075550106",
    zones: ["Europe/London"],
    law: null,
  },
  {
    name: "Hal, who shares a phone",
    group: "home",
    email: "hal@example.com",
    phone: "+16025550107",
    zones: ["America/Phoenix"],
    law: FEDERAL,
  },
  {
    name: "Hope, with the same phone",
    group: "home",
    email: "hope@example.com",
    phone: "+16025550107",
    zones: ["America/Phoenix"],
    law: FEDERAL,
  },
  {
    name: "a stranger with a mailbox",
    group: "mailbox",
    email: "stranger@example.com",
    stranger: true,
    zones: ["America/Denver"], // the tenant's
    law: null,
  },
  {
    name: "a stranger with a phone",
    group: "phone",
    phone: "+18085550109",
    stranger: true,
    zones: ["Pacific/Honolulu"],
    law: FEDERAL,
  },
];

/** Inserts them as leads of tenant A; returns the ids by name. */
export async function createPeople(db: TestDatabase): Promise<ReadonlyMap<string, string>> {
  const ids = new Map<string, string>();
  for (const { name, email, phone, zone, stranger } of people) {
    if (stranger) continue;
    const [lead] = await db.query<{ id: string }>(
      "insert into revenue_leads (tenant_id, contact_name, email, phone, time_zone) values ($1, $2, $3, $4, $5) returning id",
      [db.tenantA, name, email ?? null, phone ?? null, zone ?? null],
    );
    if (lead !== undefined) ids.set(name, lead.id);
  }
  await db.query(`update tenants set settings = settings || '{"postal_address": "1 Main St, Denver"}' where id = $1`, [
    db.tenantA,
  ]);
  return ids;
}

export function addressOf(person: Person, channel: Channel): string | undefined {
  return channel === "email" ? person.email : person.phone;
}

export function personOf(name: string): Person {
  const found = people.find((person) => person.name === name);
  if (found === undefined) throw new Error(`no person is called ${name}`);
  return found;
}
