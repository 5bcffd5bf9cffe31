// An HTML body's two parts for one recipient. The template is cut and turned into text once, and each
// mail fills its values in: turning every mail's HTML into text took a seventh of a sender's time.
import { randomInt } from "node:crypto";
import { compile, type FormatCallback } from "html-to-text";
import { createRecent } from "./recent.ts";
import { cutHtml, renderHtml, type Cut } from "./template.ts";

// html-to-text passes over a list without items, and the words before and after it run together.
const listOr =
  (list: "unorderedList" | "orderedList"): FormatCallback =>
  (element, walk, builder, options) => {
    const { formatters } = builder.options;
    const holdsAny = element.children.some(({ type, data }) => type === "tag" || (type === "text" && data?.trim()));
    if (holdsAny) formatters[list]?.(element, walk, builder, options);
    else formatters["block"]?.(element, walk, builder, { leadingLineBreaks: 1, trailingLineBreaks: 1 });
  };

// Compiled once: `convert` would parse its selectors anew for each mail.
export const toText = compile({
  wordwrap: 78,
  formatters: { ulOrBlock: listOr("unorderedList"), olOrBlock: listOr("orderedList") },
  selectors: [
    { selector: "ul", format: "ulOrBlock" },
    { selector: "ol", format: "olOrBlock" },
  ],
});

interface Form {
  readonly cut: Cut;
  /** The text around the values: one piece more than `places`. */
  readonly pieces: readonly string[];
  /** Which value stands after each piece: an attribute's may stand nowhere, a link's come after its words. */
  readonly places: readonly number[];
  /** What each value must be like for the text around it to stay as it is; null where none may be sure of that. */
  readonly fits: readonly (RegExp | null)[];
}

const formOf = createRecent(makeForm);

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
    fits: fitsOf(cut.fixed),
  };
}

// No elements, no line breaks, no quotes and no open entity (all from `| raw`). In a link, not nothing: one without
// words is none in the text. In an attribute, plainly an address or a word: a link to nowhere is none either.
const IN_TEXT = /^(?![\s\S]*&[\w#]*$)[^<"'\r\n]*$/;
const IN_LINK = /^(?![\s\S]*&[\w#]*$)(?=[\s\S]*\S)[^<"'\r\n]*$/;
const IN_ATTRIBUTE = /^(?!mailto:)[a-z0-9][^\s<>"'&]*(?:&amp;[^\s<>"'&]*)*$/i;
// Of a tag's beginning, up to a value: within quotes, in an attribute that lays nothing out.
const PLAIN_ATTRIBUTE =
  /^<[a-z][a-z0-9]*(?:\s+[a-z-]+(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'>]+))?)*\s+(?:href|src|alt|title|class|style)\s*=\s*(?:"[^"]*|'[^']*)$/i;
const MOST_OF_A_TAG = 2000;

function fitsOf(fixed: readonly string[]): (RegExp | null)[] {
  const scan = createScan();
  return fixed.slice(0, -1).map((piece) => {
    scan.read(piece);
    if (scan.tag === "") return /&[\w#]*$/.test(piece) ? null : scan.inLink ? IN_LINK : IN_TEXT;
    const plain = scan.tag.length < MOST_OF_A_TAG && PLAIN_ATTRIBUTE.test(scan.tag);
    // In what is read of the tag later, the value stands for itself.
    scan.read("x");
    return plain ? IN_ATTRIBUTE : null;
  });
}

/** Where in its markup an HTML text stands that is read piece by piece. */
interface Scan {
  /** The tag that is open, or its beginning; empty between tags. */
  readonly tag: string;
  readonly inLink: boolean;
  read(piece: string): void;
}

function createScan(): Scan {
  let tag = "";
  let quote = "";
  let tail = "";
  let inLink = false;
  const end = (): void => {
    if (/^<\/?a\b/i.test(tag)) inLink = !tag.startsWith("</");
    tag = "";
  };
  const next = (character: string): void => {
    if (tag === "") {
      if (character === "<") tag = character;
      return;
    }
    // The rest of a long one is read, but not kept.
    if (tag.length < MOST_OF_A_TAG) tag += character;
    if (tag.startsWith("<!--")) {
      tail = (tail + character).slice(-3);
      if (tail === "-->") end();
    } else if (quote !== "") {
      if (character === quote) quote = "";
    } else if (character === ">") end();
    else if (character === '"' || character === "'") quote = character;
    else if (tag.length === 2 && !/[a-z/!?]/i.test(character)) tag = "";
  };
  return {
    get tag() {
      return tag;
    },
    get inLink() {
      return inLink;
    },
    read: (piece) => {
      for (const character of piece) next(character);
    },
  };
}

/**
 * The text is what the HTML as a whole would be turned into, but for white space, for where its
 * lines break and for the capitals of headings. Throws on Liquid that cannot be parsed or rendered.
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

/** Turned into text by itself, but for the white space that may part it from its neighbours. */
function asText(value: string): string {
  if (!value.includes("&")) return value.replaceAll(/\s+/g, " ");
  return `${/^\s/.test(value) ? " " : ""}${toText(value)}${/\s$/.test(value) ? " " : ""}`;
}

function between(pieces: readonly string[], values: readonly string[]): string {
  return pieces.reduce((whole, piece, place) => whole + (place === 0 ? "" : (values[place - 1] ?? "")) + piece, "");
}
