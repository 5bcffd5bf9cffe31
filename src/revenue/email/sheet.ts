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

/** Subject, HTML or text: its template, its tags, and how values look in it. */
interface Part {
  readonly cut: Cut;
  readonly tag: (place: number) => string;
  readonly show: (value: string) => string;
}

export function makeSheet(content: SheetContent): Sheet {
  // By chance, so that nothing anybody writes can be taken for a tag. Digits alone, so that nothing
  // done to text (upper case, escapes) changes them.
  const nonce = randomInt(1e11, 1e12);
  const tagOf = (part: number) => (place: number) => `-${nonce}.${part}.${place}-`;
  const subject: Part = {
    cut: rendered("subject", () => cutText(content.subject)),
    tag: tagOf(1),
    show: (value) => value.replaceAll(/\s+/g, " "),
  };
  const body = rendered("body", () => bodyParts(content.body, tagOf(2), tagOf(3)));
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
      const subjectValues = tagged(subject, subjectRaw);
      const htmlValues = tagged(htmlPart, htmlRaw);
      const textValues = tagged(textPart, textRaw);
      if (subjectIsBare && areBlank(subjectValues)) throw new Error(EMPTY.subject);
      if (textIsBare && areBlank(textValues)) throw new Error(EMPTY.body);
      return Object.fromEntries([...subjectValues, ...htmlValues, ...textValues]);
    },
  };
}

function bodyParts(
  body: string,
  htmlTag: Part["tag"],
  textTag: Part["tag"],
): { html: string; htmlPart: Part; text: string; textPart: Part } {
  if (isHtml(body)) {
    const cut = cutHtml(body);
    const htmlPart: Part = { cut, tag: htmlTag, show: (value) => value };
    const textPart: Part = { cut, tag: textTag, show: (value) => (/[<&]/.test(value) ? toText(value) : value) };
    return { html: withTags(htmlPart), htmlPart, text: toText(withTags(textPart)), textPart };
  }
  const htmlPart: Part = { cut: cutHtml(escaped(body)), tag: htmlTag, show: withBreaks };
  const textPart: Part = { cut: cutText(body), tag: textTag, show: (value) => value };
  return { html: paragraph(withTags(htmlPart)), htmlPart, text: withTags(textPart), textPart };
}

function withTags({ cut, tag }: Part): string {
  return cut.fixed.map((piece, place) => (place === 0 ? piece : tag(place) + piece)).join("");
}

function tagged({ tag, show }: Part, values: readonly string[]): [tag: string, value: string][] {
  return values.map((value, index) => [tag(index + 1), show(value)]);
}

/** Whether nothing is left of it where every value is empty. */
function isBare({ cut, tag }: Part, whole: string): boolean {
  return cut.fixed.reduce((left, _, place) => left.replaceAll(tag(place), ""), whole).trim() === "";
}

function areBlank(values: readonly (readonly [string, string])[]): boolean {
  return values.every(([, value]) => value.trim() === "");
}
