// What Twilio's error codes mean: the same in SQL (reported later) and in TypeScript (refused at once).
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { classOf, outcomeOf, type TwilioError } from "../../src/providers/twilio.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.close());

const now = new Date("2026-03-01T12:00:00Z");
const refusal = (changes: Partial<TwilioError>): TwilioError => ({
  status: 400,
  code: null,
  networkCode: null,
  retryAfterSeconds: null,
  message: "Twilio answered",
  ...changes,
});
const outcome = (changes: Partial<TwilioError>, isTenants = false) =>
  outcomeOf(refusal(changes), now, isTenants ? "tenant" : "platform");

describe("error codes", () => {
  it("have one class each, in both languages", async () => {
    const rows = await db.query<{ code: number; class: string }>(
      "select code, brainops_internal.sms_error_class(code) as class from generate_series(20000, 63100) as code",
    );
    expect(rows.filter(({ code, class: name }) => classOf(code) !== name)).toEqual([]);
    const classes = new Set(rows.map((row) => row.class));
    expect(classes).toEqual(
      new Set(["recipient", "opted_out", "sender", "route", "account", "unreachable", "later", "unknown", "text"]),
    );
  });
});

describe("a refusal", () => {
  it.each([21211, 21614, 21217, 21408, 21612, 21617])("%i is about this text: fail", (code) => {
    expect(outcome({ code }).kind).toBe("fail");
  });

  it("21610 means that the person opted out: skip", () => {
    expect(outcome({ code: 21610 })).toMatchObject({ kind: "skip", reason: expect.stringMatching(/^opted out/) });
  });

  it.each([
    [{ code: 21606 }, false, "tenant_first"],
    [{ code: 21606 }, true, "tenant"],
    [{ status: 401, code: 20003 }, false, "everyone"],
    [{ status: 401, code: 20003 }, true, "tenant"],
    [{ status: 403 }, true, "tenant"],
    [{ status: 403 }, false, "tenant_first"],
    [{ status: 401 }, false, "everyone"],
    [{ status: 404, code: 20404 }, false, "tenant_first"],
  ])("%j of a tenant's own account (%s) pauses %s", (changes, own, scope) => {
    expect(outcome(changes, own)).toMatchObject({ kind: "hold", scope });
  });

  it.each([
    [{ status: 429, retryAfterSeconds: 7 }, 7],
    [{ status: 429 }, 10],
    [{ status: 400, code: 20429, retryAfterSeconds: 0 }, 1],
    [{ status: 429, retryAfterSeconds: 86_400 }, 3600],
  ])("%j holds the provider account for %i s", (changes, seconds) => {
    const at = new Date(now.getTime() + seconds * 1000);
    expect(outcome(changes)).toMatchObject({ kind: "defer", at, holdsAccount: true });
  });

  it.each([
    ["21611 (too many are queued)", { code: 21611 }],
    ["429 with a code that may be about the two numbers", { status: 429, code: 14107 }],
  ])("%s defers only this text", (_name, changes) => {
    const found = outcome(changes);
    expect(found).toMatchObject({ kind: "defer" });
    expect(found).not.toHaveProperty("holdsAccount");
  });

  it.each([
    { status: 500, code: 20500 },
    { status: 502 },
    { status: null, networkCode: "ECONNRESET" },
    { status: null, networkCode: "ECONNABORTED" },
    { status: null, networkCode: null },
  ])("%j leaves the outcome unknown", (changes) => {
    expect(outcome(changes).kind).toBe("unconfirmed");
  });

  it.each(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN"])("%s has sent nothing: retry", (networkCode) => {
    expect(outcome({ status: null, networkCode }).kind).toBe("retry");
  });

  it("20503 is certainly not sent: retry", () => {
    expect(outcome({ status: 503, code: 20503 }).kind).toBe("retry");
  });
});
