// A broadcast's content, cut into what all recipients get alike and what differs. SendGrid puts the
// values in the place of tags; put together, a recipient's mail is what composeEmail would make of
// it, but for white space where value and fixed text meet, and where lines of the text part break.
import { randomInt } from "node:crypto";
import { EMPTY, escaped, oneLine, paragraph, rendered, withBreaks } from "./compose.ts";
import { toText } from "./html.ts";
import { cutHtml, cutText, isHtml, type Cut } from "./template.ts";

export interface SheetContent {
  readonly subject: string;
  readonly body: string;
}

export interface Sheet {
  readonly subject: string;
  readonly html: string;
  readonly text: string;
  /** What stands in the tags' places for one recipient; null where tags cannot say it. Throws what composeEmail throws. */
  readonly substitutions: (variables: object) => Record<string, string> | null;
}

/** Subject, HTML or text: its template, the tag of each value, and how values look in it. */
interface Part {
  readonly cut: Cut;
  readonly tags: readonly string[];
  readonly show: (value: string) => string;
}

export function makeSheet(content: SheetContent): Sheet {
  // By chance, so that nothing anybody writes can be taken for a tag. Digits alone, so that nothing
  // done to text (upper case, escapes) changes them.
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
      // Mostly the same template: rendered once for both.
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

/** Whether nothing is left of it where every value is empty. */
function isBare({ tags }: Part, whole: string): boolean {
  return tags.reduce((left, tag) => left.replaceAll(tag, ""), whole).trim() === "";
}

function areBlank({ show }: Part, values: readonly string[]): boolean {
  return values.every((value) => show(value).trim() === "");
}
