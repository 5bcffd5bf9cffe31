// Liquid as tenants may write it: no file access, no prototype of ours, bounded in time and size.
import { Context, Liquid, TokenKind, type Template } from "liquidjs";
import { messageOf } from "../../errors.ts";
import { createRecent } from "./recent.ts";

const limits = {
  ownPropertyOnly: true,
  strictFilters: true,
  parseLimit: 2_000_000, // characters
  renderLimit: 200, // milliseconds; nothing else runs meanwhile
  memoryLimit: 20_000_000,
  templates: {}, // {% include %} and {% render %} find nothing
} as const;

const html = new Liquid({ ...limits, outputEscape: "escape" });
const text = new Liquid(limits);

/** Renders HTML; values are escaped unless the template says `| raw`. Throws on Liquid that does not parse. */
export function renderHtml(template: string, variables: object): string {
  return inTime(() => html.renderSync(parsedHtml(template), variables) as string);
}

/** Renders plain text, e.g. a subject; nothing is escaped. */
export function renderText(template: string, variables: object): string {
  return inTime(() => text.renderSync(parsedText(template), variables) as string);
}

const TRIES = 3;

/**
 * The limit goes by the clock on the wall, and a busy machine may stop this process for as long:
 * only a template that is over it each time is too slow.
 */
function inTime<T>(render: () => T): T {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return render();
    } catch (error) {
      if (attempt === TRIES || !messageOf(error).includes("template render limit exceeded")) throw error;
    }
  }
}

const parsedHtml = createRecent((template) => html.parse(template));
const parsedText = createRecent((template) => text.parse(template));

/** A template cut at its outermost nodes: what is the same for everybody, and what is not. */
export interface Cut {
  /** One piece more than there are values: they stand between. */
  readonly fixed: readonly string[];
  /** The values of one recipient, in order; null where the pieces don't make up the whole. Throws as rendering does. */
  readonly values: (variables: object) => readonly string[] | null;
}

export function cutHtml(template: string): Cut {
  return cut(html, template);
}

export function cutText(template: string): Cut {
  return cut(text, template);
}

function cut(engine: Liquid, template: string): Cut {
  const fixed = [""];
  const nodes: Template[] = [];
  for (const node of engine.parse(template)) {
    if (node.token.kind === TokenKind.HTML) fixed[nodes.length] += String(engine.renderSync([node], {}));
    else fixed[nodes.push(node)] = "";
  }
  const names = nodes.map((node) => BARE_NAME.exec(node.token.getText())?.[1]);
  return {
    fixed,
    values: (variables) =>
      inTime(() => {
        // One context for all of them: {% assign %} reaches what comes after it. Of a copy, since {% increment %}
        // writes into what it is given.
        const context = new Context({ ...variables }, engine.options, { sync: true });
        const values = nodes.map((node, place) => {
          const value = ownText(context, names[place]);
          if (value === null) return String(engine.renderSync([node], context));
          return engine === html ? escapeHtml(value) : value;
        });
        // A {% break %} at the outermost level ends the template, fixed pieces and all.
        return context.breakCalled || context.continueCalled ? null : values;
      }),
  };
}

// {{ name }}, which is most of what tags are: a look-up needs no interpreter, and is ten times as fast.
const BARE_NAME = /^\{\{-?\s*(?!(?:true|false|nil|null|empty|blank)\b)([a-z_]\w*)\s*-?\}\}$/i;

/** The text that a bare name stands for; null for all else, which is the interpreter's. */
function ownText(context: Context, name: string | undefined): string | null {
  if (name === undefined) return null;
  // What {% assign %} made comes first; at the outermost level there is nothing between.
  const scope = [context.bottom(), context.environments].find((candidate) => Object.hasOwn(candidate, name));
  const value: unknown = scope === undefined ? undefined : Object.getOwnPropertyDescriptor(scope, name)?.value;
  return typeof value === "string" ? value : null;
}

const ESCAPES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&#34;",
  "'": "&#39;",
};

/** As Liquid's filter `escape`. */
function escapeHtml(value: string): string {
  return /[&<>"']/.test(value) ? value.replaceAll(/[&<>"']/g, (found) => ESCAPES[found] ?? found) : value;
}

export function isHtml(template: string): boolean {
  return /<[a-z!/]/i.test(template);
}
