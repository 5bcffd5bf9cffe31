import { describe, expect, it } from "vitest";
import type { SmsRow } from "../../src/revenue/sms/load.ts";
import { composeSms } from "../support/rendering.ts";

function row(changes: Partial<SmsRow>): SmsRow {
  return {
    id: "00000000-0000-4000-8000-000000000001",
    tenant_id: "00000000-0000-4000-8000-000000000002",
    attempts: 1,
    max_attempts: 5,
    lease: "00000000-0000-4000-8000-000000000003",
    body: "Hello",
    metadata: {},
    address: "+13035550100",
    lead: null,
    tenant: { name: "Acme", slug: "acme", settings: { secret: "s3cret" }, country: "US" },
    own_account: null,
    endpoint_token: null,
    sender: null,
    must_tell: false,
    ...changes,
  };
}

const textOf = (changes: Partial<SmsRow>): string => composeSms(row(changes)).text;

describe("a text", () => {
  it("is its Liquid rendered with metadata, lead and tenant", () => {
    const body = "Hi {{ name }}{{ lead.contact_name }}, {{ metadata.name }} of {{ tenant.name }}";
    expect(textOf({ body, metadata: { name: "Ann" }, lead: { contact_name: "!" } })).toBe("Hi Ann!, Ann of Acme");
  });

  it("cannot read the tenant's settings", () => {
    expect(textOf({ body: "x{{ tenant.settings.secret }}" })).toBe("x");
  });

  it("is not escaped as HTML, and has no NUL, lone surrogate or carriage return", () => {
    expect(textOf({ body: " {{ v }} ", metadata: { v: "Q&A <now>\0 \uD83D!\r\nok" } })).toBe("Q&A <now> \uFFFD!\nok");
  });

  it.each([
    ["one character too many", "{{ v }}", { v: "x".repeat(1601) }, /^body: has 1601 characters/],
    ["nothing", "{{ v }}", {}, /^body: is empty after rendering$/],
    ["Liquid that does not parse", "{% if %}", {}, /^body: Liquid cannot be rendered/],
  ])("cannot be %s", (_name, body, metadata, message) => {
    expect(() => composeSms(row({ body, metadata }))).toThrow(message);
  });

  it("counts segments of the rendered text, not of the template", () => {
    expect(composeSms(row({ body: "{{ v }}", metadata: { v: "a".repeat(161) } })).segments).toBe(2);
    expect(composeSms(row({ body: "{{ v }}", metadata: { v: "ы" } })).segments).toBe(1);
  });
});

describe("the opt-out notice", () => {
  it.each([
    ["Hello", "Hello. Reply STOP to opt out"],
    ["Hello!", "Hello! Reply STOP to opt out"],
  ])("is added to the first text to a person: %s", (body, expected) => {
    expect(textOf({ body, must_tell: true })).toBe(expected);
  });

  it.each(["Hello. Text STOP to end.", "Msg rates apply, reply 'stop' any time", "STOP to unsubscribe"])(
    "is not added if the text contains one: %s",
    (body) => {
      expect(textOf({ body, must_tell: true })).toBe(body);
    },
  );

  it("is added if the word stop means something else", () => {
    expect(textOf({ body: "Our bus stop moved", must_tell: true })).toBe("Our bus stop moved. Reply STOP to opt out");
  });

  it("makes a text of 1600 characters too long instead of being left out", () => {
    expect(() => composeSms(row({ body: "x".repeat(1600), must_tell: true }))).toThrow(/has 162\d characters/);
  });
});
