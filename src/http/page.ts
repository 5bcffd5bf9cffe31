// Pages for people: no script, no external resource, readable without the style.
import { createHash } from "node:crypto";
import type { FastifyReply } from "fastify";

const style = `
:root { color-scheme: light dark; }
body { font: 1.125rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 12vh auto; padding: 0 1.25rem; }
h1 { font-size: 1.5rem; line-height: 1.25; }
button { font: inherit; padding: 0.6rem 1.2rem; cursor: pointer; }
`;

// The hash of the style instead of unsafe-inline; everything else is forbidden, except posts to the page's own origin.
const policy = [
  "default-src 'none'",
  `style-src 'sha256-${createHash("sha256").update(style).digest("base64")}'`,
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join("; ");

export interface Page {
  readonly title: string;
  readonly paragraphs: readonly string[];
  /** A form that posts to the page's own URL: one hidden field, and check boxes. */
  readonly form?: Form;
  /** A link to another page; href is relative to this one. */
  readonly link?: { readonly href: string; readonly text: string };
}

interface Form {
  readonly name: string;
  readonly value: string;
  readonly button: string;
  readonly boxes?: readonly Box[];
}

/** A check box. Its name is posted if it is ticked, and always in the field `shown`, so that a box that was not on the page does not count as a "no". */
export interface Box {
  readonly name: string;
  readonly label: string;
  readonly note?: string;
  readonly ticked: boolean;
}

export function sendPage(reply: FastifyReply, status: number, page: Page): FastifyReply {
  return reply
    .code(status)
    .headers({
      "content-security-policy": policy,
      "cross-origin-opener-policy": "same-origin",
      "x-robots-tag": "noindex",
    })
    .type("text/html; charset=utf-8")
    .send(render(page));
}

function render({ title, paragraphs, form, link }: Page): string {
  const text = paragraphs.map((paragraph) => `<p>${escape(paragraph)}</p>`).join("\n");
  const elsewhere = link === undefined ? "" : `\n<p><a href="${escape(link.href)}">${escape(link.text)}</a></p>`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(title)}</title>
<style>${style}</style>
</head>
<body>
<main>
<h1>${escape(title)}</h1>
${text}${form === undefined ? "" : renderForm(form)}${elsewhere}
</main>
</body>
</html>
`;
}

function renderForm({ name, value, button, boxes = [] }: Form): string {
  // Without an action, the form posts to the URL in the address bar, behind any proxy.
  return (
    `\n<form method="post"><input type="hidden" name="${escape(name)}" value="${escape(value)}">` +
    `${boxes.map(renderBox).join("")}<button type="submit">${escape(button)}</button></form>`
  );
}

function renderBox({ name, label, note, ticked }: Box): string {
  const small = note === undefined || note === "" ? "" : `<br><small>${escape(note)}</small>`;
  return (
    `<p><label><input type="checkbox" name="${escape(name)}"${ticked ? " checked" : ""}> ${escape(label)}${small}</label>` +
    `<input type="hidden" name="shown" value="${escape(name)}"></p>\n`
  );
}

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

function escape(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => entities[character] ?? "");
}
