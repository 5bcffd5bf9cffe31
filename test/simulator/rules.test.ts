// Every rule for the request body, with allowed and refused bodies.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkMailSend } from "../../src/simulator/sendgrid/validate.ts";
import { createBody } from "./helpers.ts";

const now = 1_700_000_000;

function errorsOf(body: unknown): { message: string; field: string | null; help: string | null }[] {
  return checkMailSend(body, now).errors ?? [];
}

function to(personalization: object, rest: object = {}): object {
  return createBody("", { personalizations: [{ to: [{ email: "ann@example.com" }], ...personalization }], ...rest });
}

function addresses(count: number, prefix = "a"): { email: string }[] {
  return Array.from({ length: count }, (_, index) => ({ email: `${prefix}${index}@example.com` }));
}

/** {"k":"xx…"} with exactly this many bytes as JSON. */
function mapOfBytes(bytes: number): Record<string, string> {
  return { k: "x".repeat(bytes - '{"k":""}'.length) };
}

const without = (name: string): object => {
  const { [name]: _, ...rest } = createBody();
  return rest;
};
const templated = (rest: object): object => ({ ...without("subject"), template_id: "d-1", ...rest });

const allowed: [string, object][] = [
  ["a plain mail", createBody()],
  ["1000 personalizations", createBody("", { personalizations: addresses(1000).map((each) => ({ to: [each] })) })],
  ["1000 recipients", to({ to: addresses(400), cc: addresses(300, "c"), bcc: addresses(300, "b") })],
  [
    "one address in two personalizations",
    createBody("", { personalizations: [{ to: addresses(1) }, { to: addresses(1) }] }),
  ],
  ["List-Unsubscribe", to({ headers: { "List-Unsubscribe": "<mailto:u@example.com>", "List-Unsubscribe-Post": "x" } })],
  ["custom_args of 9,999 bytes", to({ custom_args: mapOfBytes(9999) })],
  ["10 categories of 255", createBody("", { ...to({}), categories: [..."abcdefghij"].map((c) => c.repeat(255)) })],
  ["send_at in 72 hours", to({}, { send_at: now + 72 * 3600 })],
  ["send_at in the past", to({ send_at: now - 100 })],
  [
    "subjects in every personalization",
    { ...without("subject"), personalizations: [{ to: addresses(1), subject: "s" }] },
  ],
  ["a template without subject and content", templated({ content: undefined })],
  [
    "plain, html, calendar",
    to({}, { content: ["text/plain", "text/html", "text/calendar"].map((type) => ({ type, value: "x" })) }),
  ],
  ["html alone", to({}, { content: [{ type: "text/html", value: "x" }] })],
  [
    "an attachment in base64",
    to({}, { attachments: [{ content: "dGVzdA==", filename: "a.txt", type: "text/plain" }] }),
  ],
  ["substitutions", to({ substitutions: { "-name-": "Ann" } })],
  ["a name in any script", to({ to: [{ email: "ann@example.com", name: "Ännchen 安" }] })],
];

test.each(allowed)("allowed: %s", (_name, body) => {
  expect(errorsOf(JSON.parse(JSON.stringify(body)))).toEqual([]);
});

const refused: [string, object, string | null, string][] = [
  ["no personalizations", without("personalizations"), "personalizations", "must have at least one personalization"],
  ["empty personalizations", createBody("", { personalizations: [] }), "personalizations", "must have at least one"],
  [
    "1001 personalizations",
    createBody("", { personalizations: addresses(1001).map((each) => ({ to: [each] })) }),
    "personalizations",
    "limited to 1000 personalizations per API request. You have provided 1001 personalizations",
  ],
  ["1001 recipients", to({ to: addresses(501), cc: addresses(500, "c") }), "personalizations", "1000 total recipients"],
  ["no to", createBody("", { personalizations: [{}] }), "personalizations.0.to", "The to array is required"],
  ["empty to", to({ to: [] }), "personalizations.0.to", "The to array is required"],
  [
    "to without address",
    to({ to: [{ name: "Ann" }] }),
    "personalizations.0.to.0.email",
    "The to email parameter is required.",
  ],
  [
    "to malformed",
    to({ to: [{ email: "ann" }] }),
    "personalizations.0.to.0.email",
    "Does not contain a valid address.",
  ],
  [
    "to of a wrong type",
    to({ to: [{ email: ["a@example.com"] }] }),
    "personalizations.0.to.0.email",
    "Expected: string, given: array.",
  ],
  [
    "an address twice",
    to({ bcc: [{ email: "ANN@example.com" }] }),
    "personalizations.0",
    "We found the first duplicate instance of [ANN@example.com] in the personalizations.0.bcc field.",
  ],
  [
    "; in to.name",
    to({ to: [{ email: "a@example.com", name: "A; B" }] }),
    "personalizations.0.to.0.name",
    "';' or ','",
  ],
  [
    ", in to.name",
    to({ to: [{ email: "a@example.com", name: "B, A" }] }),
    "personalizations.0.to.0.name",
    "';' or ','",
  ],
  ["no from", without("from"), "from.email", "The from object must be provided for every email send."],
  ["from without address", to({}, { from: { name: "Shop" } }), "from.email", "The from object must be provided"],
  [
    "Unicode in from",
    to({}, { from: { email: "büro@example.com" } }),
    "from.email",
    "The from email does not contain a valid address.",
  ],
  ["Unicode in the domain of from", to({}, { from: { email: "a@büro.de" } }), "from.email", "does not contain a valid"],
  ["from as text", to({}, { from: "shop@example.com" }), "from", "Invalid type. Expected: object, given: string."],
  ["no subject", without("subject"), "subject", "The subject is required."],
  [
    "a subject in one of two",
    { ...without("subject"), personalizations: [{ to: addresses(1), subject: "s" }, { to: addresses(1) }] },
    "subject",
    "if every personalization has a subject defined",
  ],
  ["an empty subject", to({}, { subject: "" }), "subject", "at least one character"],
  [
    "no content",
    without("content"),
    "content",
    "Unless a valid template_id is provided, the content parameter is required.",
  ],
  ["empty content", to({}, { content: [] }), "content", "There must be at least one defined content block."],
  [
    "an empty value",
    to({}, { content: [{ type: "text/plain", value: "" }] }),
    "content.0.value",
    "at least one character in length.",
  ],
  [
    "html before plain",
    to(
      {},
      {
        content: [
          { type: "text/html", value: "x" },
          { type: "text/plain", value: "x" },
        ],
      },
    ),
    "content",
    "Following RFC 1341, section 7.2",
  ],
  [
    "plain twice",
    to(
      {},
      {
        content: [
          { type: "text/plain", value: "x" },
          { type: "text/plain", value: "x" },
        ],
      },
    ),
    "content",
    "may only be provided once",
  ],
  [
    "; in a content type",
    to({}, { content: [{ type: "text/plain; charset=utf-8", value: "x" }] }),
    "content.0.type",
    "Cannot contain ';'",
  ],
  [
    "a reserved header",
    to({ headers: { "reply-to": "x@example.com" } }),
    "personalizations.0.headers",
    "reserved keys",
  ],
  ["a reserved header for all", to({}, { headers: { "X-SG-EID": "x" } }), "headers", "reserved keys"],
  ["a number as a header", to({}, { headers: { "X-N": 1 } }), "headers", "The header values must be strings."],
  ["a space in a header name", to({}, { headers: { "X N": "1" } }), "headers", "empty spaces"],
  ["a number in custom_args", to({ custom_args: { n: 1 } }), "personalizations.0.custom_args", "must be strings"],
  [
    "custom_args of 10,000 bytes",
    to({ custom_args: mapOfBytes(10_000) }),
    "personalizations.0.custom_args",
    "may not exceed",
  ],
  ["custom_args for all, too large", to({}, { custom_args: mapOfBytes(10_000) }), "custom_args", "may not exceed"],
  ["11 categories", to({}, { categories: [..."abcdefghijk"] }), "categories", "You provided 11 categories."],
  ["a category of 256", to({}, { categories: ["x".repeat(256)] }), "categories.0", "longer than 255 characters"],
  ["a category twice", to({}, { categories: ["cake", "pie", "cake"] }), "categories", "included 'cake' more than once"],
  ["a category beyond ASCII", to({}, { categories: ["käse"] }), "categories", "non-ASCII"],
  [
    "send_at in 72 hours and a second",
    to({}, { send_at: now + 72 * 3600 + 1 }),
    "send_at",
    "72 hours in advance is forbidden",
  ],
  ["send_at of one, too late", to({ send_at: now + 72 * 3600 + 1 }), "personalizations.0.send_at", "72 hours"],
  ["send_at as text", to({}, { send_at: "tomorrow" }), "send_at", "expecting a UNIX timestamp as an integer"],
  [
    "an attachment that is not base64",
    to({}, { attachments: [{ content: "not base64", filename: "a" }] }),
    "attachments.0.content",
    "base64 encoded",
  ],
  [
    "an attachment without a name",
    to({}, { attachments: [{ content: "dGVzdA==" }] }),
    "attachments.0.filename",
    "filename is required.",
  ],
  [
    "26 groups to display",
    to({}, { asm: { group_id: 1, groups_to_display: Array.from({ length: 26 }, (_, i) => i) } }),
    "asm.groups_to_display",
    "limit of 25",
  ],
  [
    "substitutions in a dynamic template",
    to({ substitutions: { a: "b" } }, { template_id: "d-1" }),
    "personalizations.0.substitutions",
    "dynamic templating",
  ],
  [
    "reply_to beside reply_to_list",
    to({}, { reply_to: { email: "a@example.com" }, reply_to_list: [{ email: "b@example.com" }] }),
    "reply_to_list",
    "but not both",
  ],
];

test.each(refused)("refused: %s", (_name, body, field, message) => {
  expect(errorsOf(JSON.parse(JSON.stringify(body)))).toContainEqual({
    field,
    message: expect.stringContaining(message),
    help: expect.stringMatching(/^http:\/\/sendgrid\.com\/docs\/API_Reference\/Web_API_v3\/Mail\/errors\.html#/),
  });
});

test.each(
  "x-sg-id x-sg-eid received dkim-signature Content-Type Content-Transfer-Encoding To From Subject Reply-To CC BCC".split(
    " ",
  ),
)("the header %s can't be overridden", (name) => {
  expect(errorsOf(to({ headers: { [name]: "x" } }))).toMatchObject([{ field: "personalizations.0.headers" }]);
});

describe("the responses quoted from the real service", () => {
  test("sendgrid-nodejs #1425", () => {
    expect(errorsOf(createBody("", { personalizations: [{ "to:": [{ email: "a@example.com" }] }] }))).toEqual([
      {
        field: "personalizations.0.to",
        help: "http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html#message.personalizations.to",
        message:
          "The to array is required for all personalization objects, and must have at least one email object with a valid email address.",
      },
    ]);
  });

  test("sendgrid-ruby #138", () => {
    const body = createBody("", { from: "akhan@example.com", personalizations: [{ to: ["akhan@example.com"] }] });
    expect(errorsOf(body)).toEqual(
      expect.arrayContaining([
        {
          message: "Invalid type. Expected: object, given: string.",
          field: "from",
          help: "http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html#message.from",
        },
        {
          message: "Invalid type. Expected: object, given: string.",
          field: "personalizations.0.to.0",
          help: "http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html#message.personalizations.to",
        },
      ]),
    );
  });
});

test("any value in any place is accepted, or refused with reasons, and never crashes", () => {
  const fields = Object.keys(createBody()).concat(
    "headers",
    "custom_args",
    "categories",
    "asm",
    "attachments",
    "send_at",
  );
  const parts = ["to", "cc", "from", "subject", "headers", "custom_args", "substitutions", "send_at"];
  const change = fc.oneof(
    fc.jsonValue(),
    fc.tuple(fc.constantFrom(...fields), fc.jsonValue()).map(([field, value]) => createBody("", { [field]: value })),
    fc.tuple(fc.constantFrom(...parts), fc.jsonValue()).map(([part, value]) => to({ [part]: value })),
  );
  fc.assert(
    fc.property(change, (body) => {
      const { mail, errors } = checkMailSend(body, now);
      const reasons = mail === null && errors.length > 0 && errors.every((error) => error.message !== "");
      expect(mail !== null || reasons).toBe(true);
    }),
    { numRuns: 500 },
  );
});
