// Row -> text. Pure: what it throws is the row's own fault and makes it fail with that sentence.
import { messageOf } from "../../errors.ts";
import { cleanText } from "../../text.ts";
import { renderText } from "../email/template.ts";
import type { SmsRow } from "./load.ts";
import { segmentsOf } from "./segments.ts";

/** Twilio takes no more. */
const LONGEST = 1600;
const OPT_OUT_WORDS = "Reply STOP to opt out";

export interface ComposedText {
  readonly text: string;
  readonly segments: number;
}

export function composeSms(row: SmsRow): ComposedText {
  const text = withWayOut(rendered(row), row.must_tell);
  const { length } = [...text];
  if (length > LONGEST) {
    throw new Error(
      `body: has ${length} characters once its variables are filled in, at most ${LONGEST} are allowed; shorten it`,
    );
  }
  return { text, segments: segmentsOf(text).count };
}

/** Variables of the template: metadata's keys at the top, and metadata, lead and tenant by name. */
function rendered(row: SmsRow): string {
  const { name, slug } = row.tenant;
  const variables = { ...row.metadata, metadata: row.metadata, lead: row.lead, tenant: { name, slug } };
  let text: string;
  try {
    text = renderText(row.body, variables);
  } catch (error) {
    const reason = messageOf(error).replaceAll(/\s+/g, " ");
    throw new Error(`body: its Liquid cannot be rendered: ${reason}`, { cause: error });
  }
  // U+0000 is dropped, not replaced: the text is read by a person, and one U+FFFD doubles the number of segments.
  text = cleanText(text.replaceAll("\0", "")).replaceAll("\r\n", "\n").trim();
  if (text === "") throw new Error("body: is empty once its variables are filled in");
  return text;
}

/**
 * The first marketing text to a person tells how to opt out (CTIA, Messaging Principles 5.1.3), in
 * the writer's own words where these name the keyword.
 */
function withWayOut(text: string, mustTell: boolean): string {
  if (
    !mustTell ||
    /\b(?:reply|text|send|txt)\b.{0,20}\bstop\b|\bstop\b.{0,20}\bto\s+(?:opt|end|unsub|cancel|quit)/is.test(text)
  ) {
    return text;
  }
  return `${text}${/[.!?…]$/.test(text) ? " " : ". "}${OPT_OUT_WORDS}`;
}
