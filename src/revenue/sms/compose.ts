// The text of a row, as it is sent. An error it throws is caused by the row. Runs in the rendering thread.
import { cleanText } from "../../text.ts";
import { LIMITS, limitError, shown } from "../rendering/limits.ts";
import type { RenderedText, TextTask } from "../rendering/tasks.ts";
import { renderText, rendered } from "../rendering/template.ts";
import { segmentsOf } from "./segments.ts";

const OPT_OUT_NOTICE = "Reply STOP to opt out";

export function composeSms(task: TextTask): RenderedText {
  const text = withOptOutNotice(plainText(task), task.mustTell);
  const characters = countCharacters(text);
  const most = LIMITS.textCharacters;
  if (characters > most) {
    throw limitError("body", `has ${characters} characters after rendering`, shown(most));
  }
  return { text, segments: segmentsOf(text).count };
}

/** Characters as Twilio counts them: a surrogate pair is one. */
function countCharacters(text: string): number {
  let count = 0;
  for (let at = 0; at < text.length; at += (text.codePointAt(at) ?? 0) > 0xff_ff ? 2 : 1) count += 1;
  return count;
}

/** Variables of the template: the keys of metadata, and the objects metadata, lead and tenant. */
function plainText({ body, metadata, lead, tenant: { name, slug } }: TextTask): string {
  const variables = { ...metadata, metadata, lead, tenant: { name, slug } };
  const liquid = rendered("body", LIMITS.textCharacters, () => renderText(body, variables));
  // U+0000 is dropped, not replaced: the text is read by a person, and one U+FFFD doubles the number of segments.
  const text = cleanText(liquid.replaceAll("\0", "")).replaceAll("\r\n", "\n").trim();
  if (text === "") throw new Error("body: is empty after rendering");
  return text;
}

/**
 * The first marketing text to a person must say how to opt out (CTIA, Messaging Principles 5.1.3).
 * Appends the notice unless the text already names the keyword STOP.
 */
function withOptOutNotice(text: string, isRequired: boolean): string {
  if (
    !isRequired ||
    /\b(?:reply|text|send|txt)\b.{0,20}\bstop\b|\bstop\b.{0,20}\bto\s+(?:opt|end|unsub|cancel|quit)/is.test(text)
  ) {
    return text;
  }
  return `${text}${/[.!?…]$/.test(text) ? " " : ". "}${OPT_OUT_NOTICE}`;
}
