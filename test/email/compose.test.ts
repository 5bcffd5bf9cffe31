import { describe, expect, it } from "vitest";
import type { EmailRow } from "../../src/revenue/email/load.ts";
import { composeEmail } from "../support/rendering.ts";
import { testConfig } from "../support/worker.ts";

const config = testConfig(null, { MAIL_FROM: "Ops <ops@sender.example>" });

function row(more: Partial<EmailRow>): EmailRow {
  return {
    id: "00000000-0000-4000-8000-000000000001",
    tenant_id: "00000000-0000-4000-8000-000000000002",
    attempts: 1,
    max_attempts: 5,
    subject: "Hello",
    body: "<p>Hi</p>",
    metadata: {},
    address: "ann@example.com",
    lead: null,
    tenant: { name: "Acme", slug: "acme", settings: {} },
    unsubscribe_token: null,
    credential: null,
    ...more,
  };
}

describe("what marketing mail must contain", () => {
  const settings = { postal_address: "1 Main Street, Denver" };
  const marketing = (body: string, metadata: object = {}): string =>
    composeEmail(
      row({
        body,
        metadata: { ...metadata },
        unsubscribe_token: "token",
        tenant: { name: "Acme", slug: "acme", settings },
      }),
      testConfig(null),
    ).text;

  it("is added if the template leaves it out", () => {
    expect(marketing("<p>News</p>")).toMatch(
      /^News\s+Acme, 1 Main Street, Denver\s+Unsubscribe \[https:\/\/ops\.example\/unsubscribe\/token\]$/,
    );
    expect(marketing("News")).toBe(
      "News\n\n-- \nAcme, 1 Main Street, Denver\nUnsubscribe: https://ops.example/unsubscribe/token",
    );
  });

  it("is not added twice", () => {
    expect(marketing("{{ unsubscribe_url }} of 1 Main Street, Denver")).toBe(
      "https://ops.example/unsubscribe/token of 1 Main Street, Denver",
    );
    expect(marketing("{{ postal_address }}, {{ unsubscribe_url }}")).toBe(
      "1 Main Street, Denver, https://ops.example/unsubscribe/token",
    );
  });

  it("cannot be replaced by metadata", () => {
    const metadata = { postal_address: "", unsubscribe_url: "https://elsewhere.example", tenant: { name: "" } };
    expect(marketing("News", metadata)).toBe(marketing("News"));
    expect(marketing("{{ postal_address }} {{ unsubscribe_url }}", metadata)).toBe(
      "1 Main Street, Denver https://ops.example/unsubscribe/token",
    );
  });

  it("is not added to any other mail", () => {
    expect(composeEmail(row({ body: "<p>Hi</p>" }), testConfig(null)).text).toBe("Hi");
  });
});

describe("composing a mail", () => {
  it("renders metadata, lead and tenant in subject and body", () => {
    const mail = composeEmail(
      row({
        subject: "{{ offer }} for {{ lead.contact_name }}",
        body: "<p>{{ metadata.offer }} from {{ tenant.name }}</p>",
        metadata: { offer: "A roof" },
        lead: { contact_name: "Ann" },
      }),
      config,
    );
    expect(mail).toMatchObject({
      subject: "A roof for Ann",
      html: "<p>A roof from Acme</p>",
      text: "A roof from Acme",
    });
  });

  it("escapes values in HTML, and leaves the subject as text", () => {
    const mail = composeEmail(
      row({ subject: "{{ name }}", body: "<p>{{ name }}</p>", metadata: { name: "A & B <script>" } }),
      config,
    );
    expect(mail.subject).toBe("A & B <script>");
    expect(mail.html).toBe("<p>A &amp; B &lt;script&gt;</p>");
    expect(mail.text).toBe("A & B <script>");
  });

  it("keeps the lines of a body without tags", () => {
    const mail = composeEmail(row({ body: "Hi {{ name }},\n1 > 0 & so on", metadata: { name: "A<B" } }), config);
    expect(mail.text).toBe("Hi A<B,\n1 > 0 & so on");
    expect(mail.html).toBe("<p>Hi A&lt;B,<br>\n1 &gt; 0 &amp; so on</p>");
  });

  it("sends from the tenant's own address if it has one", () => {
    expect(composeEmail(row({}), config).from).toBe("Ops <ops@sender.example>");
    const tenant = { name: "Acme", slug: "acme", settings: { mail_from: "Acme <hello@acme.example>" } };
    expect(composeEmail(row({ tenant }), config).from).toBe("Acme <hello@acme.example>");
  });

  it("gives marketing an unsubscribe link, in the headers and as a variable", () => {
    const mail = composeEmail(
      row({ body: '<a href="{{ unsubscribe_url }}">stop</a>', unsubscribe_token: "a".repeat(64) }),
      config,
    );
    expect(mail.unsubscribeUrl).toBe(`https://ops.example/unsubscribe/${"a".repeat(64)}`);
    expect(mail.html).toContain(mail.unsubscribeUrl);
  });

  it.each([
    ["an unclosed tag", { subject: "{{ name" }, /^subject: Liquid cannot be rendered: .*not closed/],
    ["an unknown tag", { body: "<p>{% steal %}</p>" }, /^body: Liquid cannot be rendered: .*steal/],
    ["an unknown filter", { body: "<p>{{ a | nope }}</p>" }, /^body: .*undefined filter: nope/],
    ["a file", { body: "<p>{% include '/etc/passwd' %}</p>" }, /^body: Liquid cannot be rendered/],
    ["an endless loop", { body: "<p>{% for i in (1..100000000) %}x{% endfor %}</p>" }, /^body: .*(limit|memory)/i],
    ["an empty subject", { subject: "{{ missing }}" }, /^subject: is empty after rendering$/],
    ["an empty body", { body: "{{ missing }}" }, /^body: is empty after rendering$/],
  ])("refuses %s with a message", (_name, more, message) => {
    expect(() => composeEmail(row(more), config)).toThrow(message);
  });

  it("lets no template reach a prototype", () => {
    const mail = composeEmail(row({ body: "<p>[{{ metadata.constructor.name }}][{{ lead.__proto__ }}]</p>" }), config);
    expect(mail.html).toBe("<p>[][]</p>");
  });
});
