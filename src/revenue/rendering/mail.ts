// A mail's subject, HTML and text. An error it throws is caused by the row. Runs in the rendering thread.
import { withFooter } from "./footer.ts";
import { htmlParts } from "./html.ts";
import { LIMITS, limitError, shown } from "./limits.ts";
import type { MailTask, RenderedMail, Variables } from "./tasks.ts";
import { isHtml, renderHtml, renderText, rendered } from "./template.ts";

/**
 * The variables of a template: the keys of metadata, and what they cannot replace: the objects metadata, lead and
 * tenant, postal_address, and unsubscribe_url (null unless the mail is marketing).
 */
export function variablesOf({ metadata, lead, tenant }: Variables, unsubscribeUrl: string | null): object {
  const { name, slug, postalAddress } = tenant;
  return {
    ...metadata,
    metadata,
    lead,
    tenant: { name, slug },
    postal_address: postalAddress,
    unsubscribe_url: unsubscribeUrl,
  };
}

export const EMPTY = {
  subject: "subject: is empty after rendering",
  body: "body: is empty after rendering",
} as const;

export function renderMail(task: MailTask): RenderedMail {
  const { unsubscribeUrl } = task;
  const variables = variablesOf(task, unsubscribeUrl);
  const subject = oneLine(rendered("subject", LIMITS.subjectCharacters, () => renderText(task.subject, variables)));
  if (subject === "") throw new Error(EMPTY.subject);
  const most = LIMITS.subjectCharacters;
  if (subject.length > most) {
    throw limitError("subject", `has ${shown(subject.length)} characters after rendering`, `${most}`);
  }
  const body = unsubscribeUrl === null ? task.body : withFooter(task.body, task.tenant.postalAddress);
  const { html, text } = partsOf(body, variables);
  if (text.trim() === "") throw new Error(EMPTY.body);
  return { subject, html: printable(html), text: printable(text) };
}

// JSON needs six characters for each, and HTML does not allow them.
// oxlint-disable-next-line no-control-regex
const CONTROL = /[\0-\x08\v\f\x0E-\x1F\x7F]/g;

/** Without lone surrogates, and without control characters except tab and line breaks. */
function printable(text: string): string {
  return text.toWellFormed().replaceAll(CONTROL, "");
}

/** A body without an HTML tag is plain text; its line breaks become <br> in the HTML part. */
function partsOf(body: string, variables: object): { html: string; text: string } {
  if (isHtml(body)) return rendered("body", LIMITS.bodyCharacters, () => htmlParts(body, variables));
  const html = rendered("body", LIMITS.bodyCharacters, () => renderHtml(escaped(body), variables));
  return { html: paragraph(html), text: rendered("body", LIMITS.bodyCharacters, () => renderText(body, variables)) };
}

export function escaped(body: string): string {
  return body.replaceAll("&", "&amp;").replaceAll(">", "&gt;");
}

export function paragraph(text: string): string {
  return `<p>${withBreaks(text)}</p>`;
}

export function withBreaks(text: string): string {
  return text.replaceAll(/\r?\n/g, "<br>\n");
}

// Embeddings, overrides and isolates of the direction of writing: they can make a subject read as another.
const DIRECTIONS = /[\u202A-\u202E\u2066-\u2069]/g;

/** As one line: white space and control characters become one blank. */
export function oneLine(text: string): string {
  return blanks(text).trim();
}

export function blanks(text: string): string {
  return text.replaceAll(DIRECTIONS, "").replaceAll(/[\s\p{Cc}]+/gu, " ");
}
