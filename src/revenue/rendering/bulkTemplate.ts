// A broadcast's content as a template with substitution tags. SendGrid replaces the tags with each
// recipient's values; the result equals what composeEmail returns, except for white space between
// values and fixed text, and line breaks in the text part.
import { toText } from "./html.ts";
import { LIMITS } from "./limits.ts";
import { blanks, EMPTY, escaped, oneLine, paragraph, withBreaks } from "./mail.ts";
import type { BulkSource } from "./tasks.ts";
import { cutHtml, cutText, isHtml, rendered, type Cut } from "./template.ts";

export interface BulkTemplate {
  readonly subject: string;
  readonly html: string;
  readonly text: string;
  /**
   * Tag -> value for one recipient. Null if the mail cannot be expressed by tags and must be sent on its
   * own. Throws what composeEmail throws.
   */
  readonly substitutions: (variables: object) => Record<string, string> | null;
}

/** Subject, HTML or text: its template in pieces, the tag of each value, and how a value is rendered in it. */
interface Part {
  readonly cut: Cut;
  readonly tags: readonly string[];
  readonly show: (value: string) => string;
}

/** Compiles subject and body. Throws on Liquid that cannot be parsed. */
export function compileBulkTemplate(content: Pick<BulkSource, "nonce" | "subject" | "body">): BulkTemplate {
  const { nonce } = content;
  const partOf = (part: number, cut: Cut, show: Part["show"]): Part => ({
    cut,
    tags: cut.fixed.slice(1).map((_, place) => `-${nonce}.${part}.${place + 1}-`),
    show,
  });
  const subject = rendered("subject", LIMITS.subjectCharacters, () => partOf(1, cutText(content.subject), blanks));
  const body = rendered("body", LIMITS.bodyCharacters, () => bodyParts(content.body, partOf));
  const whole = { subject: oneLine(withTags(subject)), html: body.html, text: body.text };
  const withoutTags = (part: string): string => part.replaceAll(new RegExp(`-${nonce}\\.\\d+\\.\\d+-`, "g"), "");
  const fixedSubject = withoutTags(whole.subject);
  const subjectIsBare = fixedSubject.trim() === "";
  const textIsBare = withoutTags(whole.text).trim() === "";

  return {
    ...whole,
    substitutions: (variables) => {
      const { htmlPart, textPart } = body;
      const inBody = (part: Part): readonly string[] | null =>
        rendered("body", LIMITS.bodyCharacters, () => part.cut.values(variables));
      const subjectRaw = rendered("subject", LIMITS.subjectCharacters, () => subject.cut.values(variables));
      const htmlRaw = inBody(htmlPart);
      // HTML and text usually share the template: rendered once for both.
      const textRaw = textPart.cut === htmlPart.cut ? htmlRaw : inBody(textPart);
      if (subjectRaw === null || htmlRaw === null || textRaw === null) return null;
      if (subjectIsBare && areBlank(subject, subjectRaw)) throw new Error(EMPTY.subject);
      if (textIsBare && areBlank(textPart, textRaw)) throw new Error(EMPTY.body);
      const substitutions: Record<string, string> = {};
      fillIn(substitutions, subject, subjectRaw);
      // As a mail of its own, its white space is taken together before it is measured.
      if (fixedSubject.length + charactersIn(substitutions) > LIMITS.subjectCharacters) return null;
      fillIn(substitutions, htmlPart, htmlRaw);
      fillIn(substitutions, textPart, textRaw);
      return substitutions;
    },
  };
}

function bodyParts(
  body: string,
  partOf: (part: number, cut: Cut, show: Part["show"]) => Part,
): { html: string; htmlPart: Part; text: string; textPart: Part } {
  if (isHtml(body)) {
    const cut = cutHtml(body);
    const htmlPart = partOf(2, cut, (value) => value);
    const textPart = partOf(3, cut, (value) => (/[<&]/.test(value) ? toText(value) : value));
    return { html: withTags(htmlPart), htmlPart, text: toText(withTags(textPart)), textPart };
  }
  const htmlPart = partOf(2, cutHtml(escaped(body)), withBreaks);
  const textPart = partOf(3, cutText(body), (value) => value);
  return { html: paragraph(withTags(htmlPart)), htmlPart, text: withTags(textPart), textPart };
}

function withTags({ cut, tags }: Part): string {
  return cut.fixed.map((piece, place) => (tags[place - 1] ?? "") + piece).join("");
}

function fillIn(substitutions: Record<string, string>, { tags, show }: Part, values: readonly string[]): void {
  for (const [place, tag] of tags.entries()) substitutions[tag] = show(values[place] ?? "");
}

function charactersIn(substitutions: Readonly<Record<string, string>>): number {
  return Object.values(substitutions).reduce((sum, value) => sum + value.length, 0);
}

function areBlank({ show }: Part, values: readonly string[]): boolean {
  return values.every((value) => show(value).trim() === "");
}
