// An HTML body's two parts for one recipient. The template is cut and turned into text once, and each
// mail fills its values in: turning every mail's HTML into text took a seventh of a sender's time.
import { randomInt } from "node:crypto";
import { compile } from "html-to-text";
import { createRecent } from "./recent.ts";
import { cutHtml, renderHtml, type Cut } from "./template.ts";

// Compiled once: `convert` would parse its selectors anew for each mail.
export const toText = compile({ wordwrap: 78 });

interface Form {
  readonly cut: Cut;
  /** The text around the values: one piece more than `places`. */
  readonly pieces: readonly string[];
  /** Which value stands after each piece: an attribute's may stand nowhere, a link's come after its words. */
  readonly places: readonly number[];
  /** What each value must be like for the text around it to stay as it is. */
  readonly fits: readonly RegExp[];
}

const MOST_CHARACTERS = 5_000_000;
const formOf = createRecent(makeForm, MOST_CHARACTERS);

function makeForm(template: string): Form {
  const cut = cutHtml(template);
  // By chance, so that nothing anybody writes can be taken for a tag.
  const nonce = randomInt(1e11, 1e12);
  const tagged = cut.fixed.map((piece, place) => (place === 0 ? piece : `-${nonce}.${place - 1}-${piece}`)).join("");
  const split = toText(tagged).split(new RegExp(`-${nonce}\\.(\\d+)-`));
  return {
    cut,
    pieces: split.filter((_, index) => index % 2 === 0),
    places: split.filter((_, index) => index % 2 === 1).map(Number),
    fits: fitsAfter(cut.fixed),
  };
}

// No elements, no line breaks, no quotes (from `| raw`, the end of an attribute). In a tag, plainly an address or a
// word; in a link, not nothing: a link to nowhere or without words is none in the text.
const IN_TEXT = /^[^<"'\r\n]*$/;
const IN_LINK = /^(?=[\s\S]*\S)[^<"'\r\n]*$/;
const IN_TAG = /^(?!mailto:)[a-z0-9][^\s<"']*$/i;

function fitsAfter(fixed: readonly string[]): RegExp[] {
  let inTag = false;
  let inLink = false;
  return fixed.slice(0, -1).map((piece) => {
    const [opens, closes] = [piece.lastIndexOf("<"), piece.lastIndexOf(">")];
    if (opens !== closes) inTag = opens > closes;
    const link = piece.match(/<\/?a\b/gi)?.at(-1);
    if (link !== undefined) inLink = !link.startsWith("</");
    return inTag ? IN_TAG : inLink ? IN_LINK : IN_TEXT;
  });
}

/**
 * The text is what the HTML as a whole would be turned into, but for where its lines break and for
 * the capitals of headings. Throws on Liquid that cannot be parsed or rendered.
 */
export function htmlParts(template: string, variables: object): { html: string; text: string } {
  const { cut, pieces, places, fits } = formOf(template);
  const values = cut.values(variables);
  if (values === null || !values.every((value, place) => fits[place]?.test(value))) {
    const html = renderHtml(template, variables);
    return { html, text: toText(html) };
  }
  return {
    html: between(cut.fixed, values),
    text: between(
      pieces,
      places.map((place) => asText(values[place] ?? "")),
    ),
  };
}

function asText(value: string): string {
  return value.includes("&") ? toText(value) : value.replaceAll(/\s+/g, " ");
}

function between(pieces: readonly string[], values: readonly string[]): string {
  return pieces.reduce((whole, piece, place) => whole + (place === 0 ? "" : (values[place - 1] ?? "")) + piece, "");
}
