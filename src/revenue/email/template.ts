// Liquid for templates that tenants write: no file access, no access to prototypes, bounded in time and size.
import { Context, Liquid, TokenKind, type Template } from "liquidjs";
import { messageOf } from "../../errors.ts";
import { createLruCache } from "./lruCache.ts";

const limits = {
  ownPropertyOnly: true,
  strictFilters: true,
  parseLimit: 2_000_000, // characters
  renderLimit: 200, // milliseconds; rendering blocks the event loop
  memoryLimit: 20_000_000,
  templates: {}, // {% include %} and {% render %} always fail
} as const;

const html = new Liquid({ ...limits, outputEscape: "escape" });
const text = new Liquid(limits);

/** Renders HTML; values are escaped unless the template uses `| raw`. Throws on Liquid that does not parse or render. */
export function renderHtml(template: string, variables: object): string {
  return inTime(() => html.renderSync(parsedHtml(template), variables) as string);
}

/** Renders plain text, e.g. a subject; values are not escaped. Throws on Liquid that does not parse or render. */
export function renderText(template: string, variables: object): string {
  return inTime(() => text.renderSync(parsedText(template), variables) as string);
}

const ATTEMPTS = 3;

/**
 * Retries a render that exceeded renderLimit. The limit counts wall-clock time, and a busy machine may
 * suspend the process for that long; only a template that exceeds it every time is too slow.
 */
function inTime<T>(render: () => T): T {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return render();
    } catch (error) {
      if (attempt === ATTEMPTS || !messageOf(error).includes("template render limit exceeded")) throw error;
    }
  }
}

const parsedHtml = createLruCache((template) => html.parse(template));
const parsedText = createLruCache((template) => text.parse(template));

/** A template, split at its outermost nodes into fixed text and values. */
export interface Cut {
  /** The fixed text around the values: one piece more than there are values. */
  readonly fixed: readonly string[];
  /**
   * The values of one recipient, in order. Null if fixed text and values do not add up to the mail
   * ({% break %} at the outermost level). Throws as rendering does.
   */
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
        // One context for all nodes, so that {% assign %} affects later nodes. On a copy, because
        // {% increment %} writes into the variables.
        const context = new Context({ ...variables }, engine.options, { sync: true });
        const values = nodes.map((node, place) => {
          const value = ownText(context, names[place]);
          if (value === null) return String(engine.renderSync([node], context));
          return engine === html ? escapeHtml(value) : value;
        });
        // {% break %} at the outermost level ends the template, so later fixed pieces must not appear.
        return context.breakCalled || context.continueCalled ? null : values;
      }),
  };
}

// {{ name }}, the most common tag: a property look-up is ten times as fast as the interpreter.
const BARE_NAME = /^\{\{-?\s*(?!(?:true|false|nil|null|empty|blank)\b)([a-z_]\w*)\s*-?\}\}$/i;

/** The string value of a bare name; null for anything else, which the interpreter renders. */
function ownText(context: Context, name: string | undefined): string | null {
  if (name === undefined) return null;
  // {% assign %} takes precedence; at the outermost level no other scope exists.
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

/** Same as Liquid's filter `escape`. */
function escapeHtml(value: string): string {
  return /[&<>"']/.test(value) ? value.replaceAll(/[&<>"']/g, (found) => ESCAPES[found] ?? found) : value;
}

/** Whether the template contains an HTML tag; plain text otherwise. */
export function isHtml(template: string): boolean {
  return /<[a-z!/]/i.test(template);
}
