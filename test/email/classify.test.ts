import { describe, expect, it } from "vitest";
import { classify } from "../../src/providers/sendgrid.ts";

const now = new Date("2026-01-01T00:00:00Z");

function answer(code: number, headers: Record<string, string> = {}, message = "no"): Error {
  return Object.assign(new Error("answered"), {
    code,
    response: { headers, body: { errors: [{ message, field: "f" }] } },
  });
}
const network = (code: string): Error => Object.assign(new Error("broken"), { code });

describe("what an error of SendGrid means", () => {
  it.each([400, 404, 405, 413])("%i: fails, with the provider's message", (status) => {
    expect(classify(answer(status, {}, "Does not contain a valid address."), now)).toEqual({
      kind: "fail",
      reason: `SendGrid answered ${status}: f: Does not contain a valid address.`,
    });
  });

  it("401: nothing can be sent, the table is paused for everyone", () => {
    expect(classify(answer(401), now)).toMatchObject({ kind: "hold", scope: "everyone" });
  });

  it("403: the row may be the cause, so the tenant is paused, and everyone after a second tenant", () => {
    expect(classify(answer(403), now)).toMatchObject({ kind: "hold", scope: "tenant_first" });
  });

  it("403 for the tenant's own From address: only the tenant is paused, with the setting to check", () => {
    const outcome = classify(answer(403), now, { fromTenant: true });
    expect(outcome).toMatchObject({ kind: "hold", scope: "tenant" });
    expect(outcome).toMatchObject({ reason: expect.stringContaining("settings.mail_from") });
  });

  it.each([401, 403])("%i on the tenant's own account: only the tenant is paused", (status) => {
    expect(classify(answer(status), now, { owner: "tenant" })).toMatchObject({ kind: "hold", scope: "tenant" });
  });

  it.each([500, 502, 503, 504])("%i: unconfirmed, because SendGrid sometimes responds so after accepting", (status) => {
    expect(classify(answer(status), now)).toMatchObject({ kind: "unconfirmed" });
  });

  it("429: deferred to the time that it names, and the provider account is held", () => {
    const reset = String(now.getTime() / 1000 + 90);
    expect(classify(answer(429, { "x-ratelimit-reset": reset }), now)).toMatchObject({
      kind: "defer",
      holdsAccount: true,
      at: new Date("2026-01-01T00:01:30Z"),
    });
  });

  it.each([
    ["no header", {}, "2026-01-01T00:00:30Z"],
    ["a time that has passed", { "x-ratelimit-reset": "1000000000" }, "2026-01-01T00:00:01Z"],
    ["a time far away", { "x-ratelimit-reset": "9000000000" }, "2026-01-01T01:00:00Z"],
    ["nonsense", { "x-ratelimit-reset": "soon" }, "2026-01-01T00:00:30Z"],
  ])("429 with %s: deferred to a time within the hour", (_name, headers, at) => {
    expect(classify(answer(429, headers), now)).toMatchObject({ kind: "defer", at: new Date(at) });
  });

  it.each(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN"])("%s: nothing was sent, so it is retried", (code) => {
    expect(classify(network(code), now)).toMatchObject({ kind: "retry" });
  });

  it.each(["ECONNRESET", "ECONNABORTED", "EPIPE", "ERR_BAD_RESPONSE"])(
    "%s: unconfirmed, so it is not retried blindly",
    (code) => {
      expect(classify(network(code), now)).toMatchObject({ kind: "unconfirmed" });
    },
  );
});
