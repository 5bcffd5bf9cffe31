// Row -> text. Pure. An error it throws is caused by the row, which fails with the error's message.
import { messageOf } from "../../errors.ts";
import { cleanText } from "../../text.ts";
import { renderText } from "../email/template.ts";
import type { SmsRow } from "./load.ts";
import { segmentsOf } from "./segments.ts";

/** Twilio's limit. */
const MAX_CHARACTERS = 1600;
const OPT_OUT_NOTICE = "Reply STOP to opt out";

export interface ComposedText {
  readonly text: string;
  readonly segments: number;
}

export function composeSms(row: SmsRow): ComposedText {
  const text = withOptOutNotice(rendered(row), row.must_tell);
  const { length } = [...text];
  if (length > MAX_CHARACTERS) {
    throw new Error(
      `body: has ${length} characters after rendering; at most ${MAX_CHARACTERS} are allowed; shorten it`,
    );
  }
  return { text, segments: segmentsOf(text).count };
}

/** Variables of the template: the keys of metadata, and the objects metadata, lead and tenant. */
function rendered(row: SmsRow): string {
  const { name, slug } = row.tenant;
  const variables = { ...row.metadata, metadata: row.metadata, lead: row.lead, tenant: { name, slug } };
  let text: string;
  try {
    text = renderText(row.body, variables);
  } catch (error) {
    const reason = messageOf(error).replaceAll(/\s+/g, " ");
    throw new Error(`body: Liquid cannot be rendered: ${reason}`, { cause: error });
  }
  // U+0000 is dropped, not replaced: the text is read by a person, and one U+FFFD doubles the number of segments.
  text = cleanText(text.replaceAll("\0", "")).replaceAll("\r\n", "\n").trim();
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
