// What an e-mail address is: src/emailAddress.ts against the queue's trigger, and "name <address>".
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { inspectEnvironment } from "../../src/config.ts";
import { isEmailAddress, splitMailbox } from "../../src/emailAddress.ts";
import { codeOf } from "../../src/errors.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.close());

const label = (length: number): string => "x".repeat(length);
const ADDRESSES = [
  "ann@example.com",
  "Ann.O'Neil+news@Sub.Example.COM",
  "!#$%&'*+/=?^_`{|}~-@example.com",
  "ann@xn--exmple-cua.com",
  "ann@a.b",
  "ann@a.bc",
  "ann@a.b-",
  "ann@example",
  "ann@localhost",
  "ann@-a.com",
  "ann@a-.com",
  "ann@a..com",
  "ann@.com",
  "@example.com",
  "ann@",
  "ann",
  "ann@b@example.com",
  "a@b.c_d",
  "ann@exa_mple.com",
  "jörg@example.com",
  "ann@exämple.com",
  "ann @example.com",
  "ann@example.com, bob@example.com",
  "Ann <ann@example.com>",
  `${label(64)}@example.com`,
  `${label(65)}@example.com`,
  `ann@${label(63)}.com`,
  `ann@${label(64)}.com`,
  `ann@a.${label(63)}`,
  `ann@a.${label(64)}`,
  `${label(64)}@${label(63)}.${label(63)}.${label(57)}.com`,
  `${label(64)}@${label(63)}.${label(63)}.${label(58)}.com`,
];

describe("an e-mail address", () => {
  it("is the same in TypeScript and in the queue", async () => {
    const differences: string[] = [];
    for (const address of ADDRESSES) {
      const error: unknown = await db
        .as("tenantA", "insert into ai_email_queue (recipient, subject, body) values ($1, 'Hi', 'Hello')", [address])
        .then(() => null, codeOf);
      if (error !== (isEmailAddress(address) ? null : "OP004")) differences.push(`${address}: ${String(error)}`);
    }
    expect(differences).toEqual([]);
    expect(ADDRESSES.filter(isEmailAddress)).toHaveLength(10);
  });

  it("has no white space around it, which the queue trims", () => {
    expect([" ann@example.com", "ann@example.com\n", ""].map(isEmailAddress)).toEqual([false, false, false]);
  });
});

describe("a mailbox", () => {
  it.each([
    ["ann@example.com", "", "ann@example.com"],
    [" ann@example.com ", "", "ann@example.com"],
    ["Ann Lee <ann@example.com>", "Ann Lee", "ann@example.com"],
    ['"Lee, Ann" <ann@example.com>', "Lee, Ann", "ann@example.com"],
    ["<ann@example.com>", "", "ann@example.com"],
    ["Ann <ann@example.com", "", "Ann <ann@example.com"],
  ])("%j is %j and %j", (mailbox, name, address) => {
    expect(splitMailbox(mailbox)).toEqual({ name, address });
  });

  it("of MAIL_FROM has an address that can be sent from", () => {
    const isTaken = (mailbox: string): boolean => inspectEnvironment({ MAIL_FROM: mailbox }).faults.length === 0;
    expect(["ann@example.com", "Ann <ann@example.com>"].map(isTaken)).toEqual([true, true]);
    expect(["Ann", "Ann <ann@localhost>", "Ann <ann@example.com", ""].map(isTaken)).toEqual(Array(4).fill(false));
  });
});
