// The HTML and text parts of an HTML template for one recipient. The template is cut and converted to
// text once; each mail only inserts its values. Converting the HTML of every mail to text took a
// seventh of the time of a send.
import { randomInt } from "node:crypto";
import { compile, type FormatCallback } from "html-to-text";
import { Parser } from "htmlparser2";
import { LIMITS, shown } from "./limits.ts";
import { createLruCache } from "./lruCache.ts";
import { countOutput, countStep, refusal, restartOutput } from "./meter.ts";
import { cutHtml, renderHtml, type Cut } from "./template.ts";

// html-to-text drops a list without items and joins the text before and after it.
const listOr =
  (list: "unorderedList" | "orderedList"): FormatCallback =>
  (element, walk, builder, options) => {
    const { formatters } = builder.options;
    const holdsAny = element.children.some(({ type, data }) => type === "tag" || (type === "text" && data?.trim()));
    if (holdsAny) formatters[list]?.(element, walk, builder, options);
    else formatters["block"]?.(element, walk, builder, { leadingLineBreaks: 1, trailingLineBreaks: 1 });
  };

// Compiled once: `convert` would parse the selectors again for each mail.
const convert = compile({
  wordwrap: 78,
  formatters: { ulOrBlock: listOr("unorderedList"), olOrBlock: listOr("orderedList") },
  selectors: [
    { selector: "ul", format: "ulOrBlock" },
    { selector: "ol", format: "olOrBlock" },
  ],
});

/**
 * The text of HTML. html-to-text calls itself for each level of elements, and indents the text of lists and quotations
 * once for each level. So a scan without recursion, by the same parser, comes first. Throws OP046 at a limit.
 */
export function toText(html: string): string {
  checkElements(html);
  const text = convert(html);
  if (text.length > LIMITS.bodyCharacters) throw tooLongAsText();
  return text;
}

const INDENTED = new Set(["ul", "ol", "blockquote"]);
/** Characters before each line of a list or a quotation; a list of a million items has more. */
const INDENTATION = 8;

function checkElements(html: string): void {
  let elements = 0;
  let depth = 0;
  let indentation = 1;
  let characters = 0;
  const count = (text: string): void => {
    characters += text.length * indentation;
    if (characters > LIMITS.indentedCharacters) throw tooLongAsText();
  };
  const parser = new Parser({
    onopentag: (name, attributes) => {
      countStep();
      elements += 1;
      depth += 1;
      if (elements > LIMITS.elements) {
        throw refusal("has too many HTML elements", shown(LIMITS.elements), "use fewer");
      }
      if (depth > LIMITS.elementDepth) {
        throw refusal("nests HTML elements too deep", `${LIMITS.elementDepth} levels`, "close them or flatten it");
      }
      if (INDENTED.has(name)) indentation += INDENTATION;
      for (const value of Object.values(attributes)) count(value);
    },
    onclosetag: (name) => {
      depth -= 1;
      if (INDENTED.has(name)) indentation -= INDENTATION;
    },
    ontext: count,
  });
  parser.end(html);
}

function tooLongAsText(): Error {
  return refusal("has too long a text part", `${shown(LIMITS.bodyCharacters)} characters`);
}

interface CompiledHtml {
  readonly cut: Cut;
  /** The text between the values: one piece more than `places`. */
  readonly pieces: readonly string[];
  /**
   * The index of the value that follows each piece. Some values do not appear in the text, such as those in most
   * attributes; a link's href appears after the link's text.
   */
  readonly places: readonly number[];
  /**
   * For each value, a pattern: a value that matches it does not affect the surrounding text. Null if every value could
   * affect it; then the mail is converted as a whole.
   */
  readonly fits: readonly (RegExp | null)[];
}

const compiledHtml = createLruCache(compileHtml);

function compileHtml(template: string): CompiledHtml {
  const cut = cutHtml(template);
  // Random, so that no template or value can contain a tag.
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

// Text values: no elements, line breaks, quotes or unfinished entities (`| raw` lets them through). In a
// link the value must not be blank, or html-to-text drops the link. An attribute value must look like a
// URL or a single word, for the same reason.
const IN_TEXT = /^(?![\s\S]*&[\w#]*$)[^<"'\r\n]*$/;
const IN_LINK = /^(?![\s\S]*&[\w#]*$)(?=[\s\S]*\S)[^<"'\r\n]*$/;
const IN_ATTRIBUTE = /^(?!mailto:)[a-z0-9][^\s<>"'&]*(?:&amp;[^\s<>"'&]*)*$/i;
// The start of a tag up to a value: the value is inside quotes, in an attribute without effect on layout.
const PLAIN_ATTRIBUTE =
  /^<[a-z][a-z0-9]*(?:\s+[a-z-]+(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'>]+))?)*\s+(?:href|src|alt|title|class|style)\s*=\s*(?:"[^"]*|'[^']*)$/i;
const MAX_TAG_CHARACTERS = 2000;

function fitsOf(fixed: readonly string[]): (RegExp | null)[] {
  const scan = createScan();
  return fixed.slice(0, -1).map((piece) => {
    scan.read(piece);
    if (scan.tag === "") return /&[\w#]*$/.test(piece) ? null : scan.inLink ? IN_LINK : IN_TEXT;
    const plain = scan.tag.length < MAX_TAG_CHARACTERS && PLAIN_ATTRIBUTE.test(scan.tag);
    // A placeholder for the value, so that the rest of the tag is scanned with it.
    scan.read("x");
    return plain ? IN_ATTRIBUTE : null;
  });
}

/** Tracks the position in the markup of HTML that is read piece by piece. */
interface Scan {
  /** The open tag, up to MAX_TAG_CHARACTERS; "" between tags. */
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
    // The rest of a long tag is scanned but not kept.
    if (tag.length < MAX_TAG_CHARACTERS) tag += character;
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
 * Renders both parts. The text equals the conversion of the whole HTML, except for white space, line
 * breaks and the capitals of headings. Throws on Liquid that cannot be parsed or rendered.
 */
export function htmlParts(template: string, variables: object): { html: string; text: string } {
  const { cut, pieces, places, fits } = compiledHtml(template);
  restartOutput();
  for (const piece of cut.fixed) countOutput(piece.length);
  const values = cut.values(variables);
  if (values === null || !values.every((value, place) => fits[place]?.test(value))) {
    restartOutput();
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

/** Converts one value to text, keeping the white space that separates it from its neighbours. */
function asText(value: string): string {
  if (!value.includes("&")) return value.replaceAll(/\s+/g, " ");
  return `${/^\s/.test(value) ? " " : ""}${toText(value)}${/\s$/.test(value) ? " " : ""}`;
}

function between(pieces: readonly string[], values: readonly string[]): string {
  return pieces.reduce((whole, piece, place) => whole + (place === 0 ? "" : (values[place - 1] ?? "")) + piece, "");
}
