// A broadcast's content as a template with substitution tags. SendGrid replaces the tags with each
// recipient's values; the result equals what composeEmail returns, except for white space between
// values and fixed text, and line breaks in the text part.
import { randomInt } from "node:crypto";
import { EMPTY, escaped, oneLine, paragraph, rendered, withBreaks } from "./compose.ts";
import { toText } from "./html.ts";
import { cutHtml, cutText, isHtml, type Cut } from "./template.ts";

export interface BulkContent {
  readonly subject: string;
  readonly body: string;
}

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
export function compileBulkTemplate(content: BulkContent): BulkTemplate {
  // Random, so that no template or value can contain a tag. Digits only, so that upper-casing and
  // escaping leave tags unchanged.
  const nonce = randomInt(1e11, 1e12);
  const partOf = (part: number, cut: Cut, show: Part["show"]): Part => ({
    cut,
    tags: cut.fixed.slice(1).map((_, place) => `-${nonce}.${part}.${place + 1}-`),
    show,
  });
  const subject = rendered("subject", () =>
    partOf(1, cutText(content.subject), (value) => value.replaceAll(/\s+/g, " ")),
  );
  const body = rendered("body", () => bodyParts(content.body, partOf));
  const whole = { subject: oneLine(withTags(subject)), html: body.html, text: body.text };
  const subjectIsBare = isBare(subject, whole.subject);
  const textIsBare = isBare(body.textPart, whole.text);

  return {
    ...whole,
    substitutions: (variables) => {
      const { htmlPart, textPart } = body;
      const subjectRaw = rendered("subject", () => subject.cut.values(variables));
      const htmlRaw = rendered("body", () => htmlPart.cut.values(variables));
      // HTML and text usually share the template: rendered once for both.
      const textRaw = textPart.cut === htmlPart.cut ? htmlRaw : rendered("body", () => textPart.cut.values(variables));
      if (subjectRaw === null || htmlRaw === null || textRaw === null) return null;
      if (subjectIsBare && areBlank(subject, subjectRaw)) throw new Error(EMPTY.subject);
      if (textIsBare && areBlank(textPart, textRaw)) throw new Error(EMPTY.body);
      const substitutions: Record<string, string> = {};
      fillIn(substitutions, subject, subjectRaw);
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

/** Whether the part is blank when every value is blank. */
function isBare({ tags }: Part, whole: string): boolean {
  return tags.reduce((left, tag) => left.replaceAll(tag, ""), whole).trim() === "";
}

function areBlank({ show }: Part, values: readonly string[]): boolean {
  return values.every((value) => show(value).trim() === "");
}
