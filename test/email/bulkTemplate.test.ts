import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { EmailRow } from "../../src/revenue/email/load.ts";
import { mailTaskOf } from "../../src/revenue/email/compose.ts";
import { compileBulkTemplate, type BulkTemplate } from "../../src/revenue/rendering/bulkTemplate.ts";
import { withFooter } from "../../src/revenue/rendering/footer.ts";
import { toText } from "../../src/revenue/rendering/html.ts";
import { variablesOf } from "../../src/revenue/rendering/mail.ts";
import { renderHtml } from "../../src/revenue/rendering/template.ts";
import { composeEmail } from "../support/rendering.ts";
import { testConfig } from "../support/worker.ts";

const config = testConfig(null);

function rowOf(subject: string, body: string, metadata: Record<string, unknown>): EmailRow {
  return {
    id: "row",
    tenant_id: "tenant",
    attempts: 1,
    max_attempts: 5,
    subject,
    body,
    metadata,
    address: "ann@example.com",
    lead: { contact_name: "Ann" },
    tenant: { name: "Harbor & Sons", slug: "harbor", settings: {} },
    credential: null,
    unsubscribe_token: "token",
  };
}

function variablesOfRow(row: EmailRow): object {
  const task = mailTaskOf(row, config);
  return variablesOf(task, task.unsubscribeUrl);
}

const compiled = ({ subject, body }: EmailRow): BulkTemplate =>
  compileBulkTemplate({ nonce: "123456789012", subject, body });

/** What SendGrid renders from it for one recipient. */
function filledIn(template: BulkTemplate, row: EmailRow): { subject: string; html: string; text: string } | null {
  const values = template.substitutions(variablesOfRow(row));
  if (values === null) return null;
  const fill = (text: string): string =>
    Object.entries(values).reduce((filled, [tag, value]) => filled.replaceAll(tag, () => value), text);
  return { subject: fill(template.subject), html: fill(template.html), text: fill(template.text) };
}

const loose = (text: string): string => text.replaceAll(/\s+/g, " ").trim();

const node = fc.constantFrom(
  "{{ name }}",
  "{{ lead.contact_name }}",
  "{% if city %}in {{ city }}{% else %}at home{% endif %}",
  "{% for item in items %}{{ item }}, {% endfor %}",
  "{% assign greeting = name | upcase %}",
  "{{ greeting }}",
  "{% assign city = 'Rome & more' %}",
  "{{- city -}}",
  "{{ items }}",
  "{{ count }}",
  "{{ nobody }}",
  "{{ unsubscribe_url }}",
  "{{ tenant.name }}",
  "plain words",
  "50 % off",
);
const htmlNode = fc.oneof(
  node,
  fc.constantFrom(
    '<a href="https://a.example/?q={{ city }}">{{ name }}</a>',
    '<a href="{{ city | raw }}">there</a>',
    '<a title="a > b" href="{{ city }}">there</a>',
    '<a title="{{ name }}" href="{{ unsubscribe_url }}">{{ nobody }}</a>',
    '<img alt="{{ name }}" src="cid:{{ count }}">',
    "<ul>{% for item in items %}<li>{{ item }}</li>{% endfor %}</ul>",
    '<ol start="{{ count }}"><li>{{ name }}</li><li>two</li></ol>',
    '<ol type="{{ kind }}"><li>one</li><li>two</li></ol>',
    "<{{ kind }}>x</{{ kind }}>",
    "<blockquote>{{ name | raw }}</blockquote>",
    "<pre>{{ name }}</pre>",
    "<title>{{ city }}</title>",
    "<!-- {{ name }} > -->",
    "{{ name | newline_to_br }}",
    "&{{ city }};",
    "{{ name | raw }}lt; 1",
    "1 < {{ count }}",
    "{% increment seen %}",
    "{% if city %} {{ city }}{% endif %}",
  ),
);
const word = fc.constantFrom(
  "Ann",
  "O'Brien & Co",
  "<b>bold</b>",
  "",
  "Åse",
  "$& $1",
  "-123.1.1-",
  "{{ name }}",
  "two\nlines",
  'a "b" c',
);
const kind = fc.constantFrom("a", "b", "i");
const variables = fc.record({
  name: word,
  city: word,
  items: fc.array(word, { maxLength: 3 }),
  count: fc.integer(),
  kind,
});

const plain = (text: string): string => loose(text).toLowerCase();

function mailOf(
  subject: readonly string[],
  body: readonly string[],
  asHtml: boolean,
  values: Record<string, unknown>,
): EmailRow {
  const inner = body.join(asHtml ? "</p><p>" : "\n");
  return rowOf(`News ${subject.join(" ")}`, asHtml ? `<h1>Hi</h1><p>${inner}</p>` : `Hi\n${inner}`, values);
}

describe("a single mail", () => {
  it("is its rendered template, with the text of that HTML", () => {
    fc.assert(
      fc.property(fc.array(htmlNode, { maxLength: 6 }), fc.boolean(), variables, (body, apart, values) => {
        const row = mailOf([], apart ? body : [body.join("")], true, values);
        const mail = composeEmail(row, config);
        const html = renderHtml(withFooter(row.body, null), variablesOfRow(row));
        expect(mail.html).toBe(html);
        expect(plain(mail.text)).toBe(plain(toText(html)));
      }),
      { numRuns: 1500 },
    );
  });

  it("keeps lists that Liquid creates, and the addresses of links", () => {
    const body =
      '<ul>{% for item in items %}<li>{{ item }}</li>{% endfor %}</ul><a href="https://a.example/?q={{ city }}">{{ name }}</a>';
    const row = rowOf("Hi", `<h1>Order</h1>${body}`, { items: ["tiles", "nails"], name: "Ann & Bo", city: "Rome" });
    expect(composeEmail({ ...row, unsubscribe_token: null }, config).text).toBe(
      "ORDER\n\n * tiles\n * nails\n\nAnn & Bo [https://a.example/?q=Rome]",
    );
  });
});

describe("the text of an HTML body", () => {
  it.each(["<ul></ul>", "<ol>\n</ol>", "<ul><!-- nothing today --></ul>"])(
    "separates the text around %j, an empty list",
    (list) => {
      const row = rowOf("Hi", `<p>Dear</p>Ann${list}Bye`, {});
      expect(composeEmail({ ...row, unsubscribe_token: null }, config).text).toBe("Dear\n\nAnn\n\nBye");
    },
  );

  it("keeps an empty list among the items of another", () => {
    const row = rowOf("Hi", "<ul><li>one<ul></ul>more</li><li>two</li></ul><ol><li>first</li></ol>", {});
    expect(composeEmail({ ...row, unsubscribe_token: null }, config).text).toBe(
      " * one\n   \n   more\n * two\n\n 1. first",
    );
  });
});

describe("a bulk template, filled in for one recipient", () => {
  it("is the same as a single mail to that recipient", () => {
    fc.assert(
      fc.property(
        fc.array(node, { maxLength: 5 }),
        fc.array(node, { maxLength: 8 }),
        fc.boolean(),
        variables,
        (subject, body, asHtml, values) => {
          const row = mailOf(subject, body, asHtml, values);
          const alone = composeEmail(row, config);
          const filled = filledIn(compiled({ ...row, body: withFooter(row.body, null) }), row);
          expect(filled?.html).toBe(alone.html);
          expect(loose(filled?.subject ?? "")).toBe(loose(alone.subject));
          // HTML in a value is laid out separately: only its text is the same.
          expect(plain(filled?.text ?? "")).toBe(plain(alone.text));
        },
      ),
      { numRuns: 300 },
    );
  });

  it("gives the same errors for empty content, and for Liquid that does not parse", () => {
    const empty = rowOf("{{ nothing }}", "<p>Hi</p>", {});
    expect(() => filledIn(compiled(empty), empty)).toThrow("subject: is empty after rendering");
    const bodyless = rowOf("Hi", "<p>{{ nothing }}</p>", {});
    expect(() => filledIn(compiled(bodyless), bodyless)).toThrow("body: is empty after rendering");
    expect(() => compiled(rowOf("Hi", "<p>{% if %}</p>", {}))).toThrow(/^body: Liquid cannot be rendered/);
  });

  it("is null if substitution tags cannot express it: a {% break %} that ends the template for some", () => {
    const row = rowOf("Hi", "<p>one</p>{% if name == 'Ann' %}{% break %}{% endif %}<p>two</p>", { name: "Ann" });
    expect(filledIn(compiled(row), row)).toBeNull();
    expect(composeEmail(row, config).html).toBe("<p>one</p>");
  });
});
