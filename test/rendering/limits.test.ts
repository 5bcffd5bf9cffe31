// Each limit of rendering, at the limit and above it.
import { describe, expect, it } from "vitest";
import { BrainOpsError } from "../../src/errors.ts";
import { sizeOf } from "../../src/revenue/rendering/input.ts";
import { LIMITS, shown } from "../../src/revenue/rendering/limits.ts";
import { renderMail } from "../../src/revenue/rendering/mail.ts";
import { startMeter } from "../../src/revenue/rendering/meter.ts";
import type { MailTask, TextTask } from "../../src/revenue/rendering/tasks.ts";
import { composeSms } from "../../src/revenue/sms/compose.ts";

const variables = { metadata: {}, lead: null, tenant: { name: "Acme", slug: "acme", postalAddress: null } };

function mail(more: Partial<MailTask>): MailTask {
  return { kind: "mail", subject: "Hello", body: "Hi", unsubscribeUrl: null, ...variables, ...more };
}

function text(body: string, x: string): TextTask {
  return { kind: "text", body, mustTell: false, ...variables, metadata: { x } };
}

const body =
  (template: string, metadata = {}): (() => unknown) =>
  () =>
    renderMail(mail({ body: template, metadata }));
const subject =
  (template: string, metadata = {}): (() => unknown) =>
  () =>
    renderMail(mail({ subject: template, metadata }));
const sms =
  (template: string, x = ""): (() => unknown) =>
  () =>
    composeSms(text(template, x));
const input =
  (metadata: Record<string, unknown>): (() => unknown) =>
  () =>
    sizeOf(mail({ metadata }));
const nested = (depth: number): unknown => Array.from({ length: depth }).reduce((inner: unknown) => [inner], 1);
const half = "x".repeat(LIMITS.bodyCharacters / 4);

/** Name, within the limit, above it, and what the message says. */
const pairs: readonly [string, () => unknown, () => unknown, string][] = [
  ["characters of a text", sms("{{ x }}", "😀".repeat(1600)), sms("{{ x }}", "😀".repeat(1601)), "body: .* 1,600"],
  [
    "characters that a text produces",
    sms(`{% for i in (1..${LIMITS.textCharacters}) %}x{% endfor %}`),
    sms("{% for i in (1..100000) %}{{ x }}{% endfor %}", "x".repeat(1000)),
    "body: renders to too many characters; the limit is 1,600",
  ],
  [
    "characters of a subject",
    subject("{{ x }}  {{ x }}", { x: "x".repeat(498) }),
    subject("{{ x }}  {{ x }}x", { x: "x".repeat(499) }),
    "subject: has 1,000 characters after rendering; the limit is 998",
  ],
  [
    "characters of a body",
    body("<p>{{ x }}{{ x }}{{ x }}", { x: half }),
    body("<p>{{ x }}{{ x }}{{ x }}{{ x }}", { x: half }),
    `body: .* ${shown(LIMITS.bodyCharacters)}`,
  ],
  [
    "characters of a body, with another value in each tag",
    body("<p>{{ x }}{{ x | upcase | raw }}", { x: half }),
    body("<p>{{ x }}{{ x | upcase | raw }}{{ x }}{{ x | raw }}", { x: half }),
    `body: .* ${shown(LIMITS.bodyCharacters)}`,
  ],
  ["tags", body(`x${"{{ a }}".repeat(2000)}`), body(`x${"{{ a }}".repeat(2001)}`), "body: has 2,001 tags; .* 2,000"],
  [
    "lines of {% liquid %}",
    body(`{% liquid\n${"echo 1\n".repeat(1990)}%}`),
    body(`{% liquid\n${"echo 1\n".repeat(2000)}%}`),
    "body: has 2,00\\d tags",
  ],
  ...(["if true", "for i in (1..1)", "unless false", "capture a", "case 1"] as const).map(
    (tag): [string, () => unknown, () => unknown, string] => {
      const [name = ""] = tag.split(" ");
      const blocks = (depth: number): string =>
        `x${`{% ${tag} %}${name === "case" ? "{% when 1 %}" : ""}`.repeat(depth)}y${`{% end${name} %}`.repeat(depth)}`;
      return [
        `blocks of {% ${name} %} within each other`,
        body(blocks(99)),
        body(blocks(101)),
        "body: nests Liquid blocks too deep; the limit is 100 levels",
      ];
    },
  ),
  ["HTML elements", body("<br>".repeat(19_999) + "<p>x"), body("<br>".repeat(20_001)), "body: .* 20,000"],
  [
    "HTML elements that values bring",
    body("<p>{{ x | raw }}", { x: "<br>".repeat(19_999) + "x" }),
    body("<p>{{ x | raw }}", { x: "<br>".repeat(20_000) }),
    "body: .* 20,000",
  ],
  [
    "HTML elements within each other",
    body(`${"<div>".repeat(200)}x`),
    body(`${"<div>".repeat(201)}x`),
    "body: nests HTML elements too deep; the limit is 200 levels",
  ],
  [
    "indented text",
    body(`${"<blockquote>".repeat(20)}<pre>${"x\n".repeat(20_000)}`),
    body(`${"<blockquote>".repeat(150)}<pre>${"x\n".repeat(20_000)}`),
    "body: has too long a text part",
  ],
  [
    "what a {% capture %} holds",
    body("{% capture a %}{{ x }}{{ x }}{% endcapture %}ok", { x: half }),
    body("{% capture a %}{{ x }}{{ x }}{{ x }}{% endcapture %}ok", { x: half }),
    "body: makes too large a value; the limit is 1,000,000 characters",
  ],
  [
    "an array that holds another many times",
    body(`{% assign a = "x" | split: "," %}${"{% assign a = a | push: a %}".repeat(15)}{{ a }}`),
    body(`{% assign a = "x" | split: "," %}${"{% assign a = a | push: a | push: a %}".repeat(40)}{{ a }}`),
    "body: makes too large a value",
  ],
  [
    "an array that becomes text in a filter, an index or a condition",
    body(`{% assign a = x | split: "," %}{{ a | append: "" }}`, { x: half }),
    body(`{% assign a = x | split: "," %}${"{% assign a = a | concat: a %}".repeat(9)}{{ metadata[a] }}`, { x: half }),
    "body: makes too large a value",
  ],
  [
    "items of a range",
    body("{% assign a = (1..1000000) %}ok"),
    body("{% assign a = (1..4000001) %}ok"),
    "body: takes too much memory for filters and ranges; the limit is 4,000,000",
  ],
  [
    "values of metadata",
    input({ x: Array(49_000).fill(1) }),
    input({ x: Array(51_000).fill(1) }),
    "metadata .* 50,000",
  ],
  [
    "characters of metadata",
    input({ x: "x".repeat(2_400_000) }),
    input({ x: "x".repeat(2_600_000) }),
    "metadata and lead: .* 2,500,000 characters",
  ],
  ["levels of metadata", input({ x: nested(60) }), input({ x: nested(70) }), "metadata and lead: .* 64 levels"],
  ["levels of metadata, of any depth", input({ x: 1 }), input({ x: nested(100_000) }), "64 levels"],
];

describe("a limit of rendering", () => {
  it.each(pairs)("%s", (_name, within, above, message) => {
    startMeter(60_000);
    expect(within).not.toThrow();
    expect(above).toThrow(new RegExp(message));
    expect(above).toThrow(BrainOpsError);
  });

  it("is processor time, counted within loops", () => {
    startMeter(60_000);
    const loop = "{% for i in (1..300) %}{% for j in (1..300) %}{% endfor %}{% endfor %}ok";
    expect(renderMail(mail({ body: loop })).text).toBe("ok");
    startMeter(0);
    expect(() => renderMail(mail({ body: loop }))).toThrow(
      "body: takes too much processor time to render; the limit is 500 ms",
    );
  });
});

describe("a mail", () => {
  it("has no control characters but tabs and line breaks, and no lone surrogates", () => {
    startMeter(60_000);
    const given = renderMail(mail({ body: "<p>a{{ x }}b</p>", metadata: { x: "\0\u0007\u001B\t\uD83D" } }));
    expect(given.html).toBe("<p>a\t\uFFFDb</p>");
    expect(renderMail(mail({ body: "a\r\n{{ x }}b", metadata: { x: "\u0001" } })).text).toBe("a\r\nb");
  });

  it("has a subject in one line, without control characters and overrides of the direction", () => {
    startMeter(60_000);
    const metadata = { x: "a\0b\u202Ec\u2066d\r\n\u0085e" };
    expect(renderMail(mail({ subject: " {{ x }} ", metadata })).subject).toBe("a bcd e");
  });
});
