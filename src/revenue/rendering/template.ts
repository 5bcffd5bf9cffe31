// Liquid for templates that tenants write: no file access, no access to prototypes, bounded in time and size. Runs in
// the rendering thread.
import { Context, Liquid, LiquidError, RenderError, TokenKind, type FilterImplOptions, type Template } from "liquidjs";
import { BrainOpsError, messageOf } from "../../errors.ts";
import { LIMITS, shown } from "./limits.ts";
import { createLruCache } from "./lruCache.ts";
import { boundedValue, countOutput, countStep, enterBlock, leaveBlock, metered, refusal, tooDeep } from "./meter.ts";

const options = {
  ownPropertyOnly: true,
  strictFilters: true,
  memoryLimit: LIMITS.allocations,
  templates: {}, // {% include %} and {% render %} always fail
} as const;

const html = bounded(new Liquid({ ...options, outputEscape: "escape" }));
const text = bounded(new Liquid(options));

/**
 * Makes the engine count while it renders. liquidjs has limits of its own, but they leave out the length of the output,
 * count wall-clock time, and see no value that is large because it holds others many times.
 */
function bounded(engine: Liquid): Liquid {
  // As liquidjs does it, with meter.ts. Every template, block and {% capture %} is rendered by this function.
  engine.renderer.renderTemplates = function* (templates, context, emitter): Generator<unknown, string> {
    const output = enterBlock(emitter);
    for (const template of templates) {
      countStep();
      try {
        const written: unknown = yield template.render(context, output);
        if (written) output.write(written);
      } catch (error) {
        if (error instanceof BrainOpsError || LiquidError.is(error)) throw error;
        throw new RenderError(error instanceof Error ? error : new Error(String(error)), template);
      }
      if (context.breakCalled || context.continueCalled) break;
    }
    leaveBlock();
    return output.buffer;
  };
  for (const [name, filter] of Object.entries(engine.filters)) engine.registerFilter(name, boundedFilter(filter));
  return engine;
}

function boundedFilter(filter: FilterImplOptions): FilterImplOptions {
  const { handler, raw } = typeof filter === "function" ? { handler: filter, raw: false } : filter;
  return {
    raw,
    *handler(...given): Generator<unknown, unknown> {
      countStep();
      return boundedValue(yield handler.apply(this, given));
    },
  };
}

/** Renders HTML; values are escaped unless the template uses `| raw`. Throws on Liquid that does not parse or render. */
export function renderHtml(template: string, variables: object): string {
  return html.renderSync(parsedHtml(template), variables) as string;
}

/** Renders plain text, e.g. a subject; values are not escaped. Throws on Liquid that does not parse or render. */
export function renderText(template: string, variables: object): string {
  return text.renderSync(parsedText(template), variables) as string;
}

const MAX_REASON_CHARACTERS = 1000;

/** As `metered`, with errors that begin with the part of the row. */
export function rendered<T>(what: string, limit: number, render: () => T): T {
  try {
    return metered(what, limit, render);
  } catch (error) {
    if (error instanceof BrainOpsError) throw error;
    const reason = messageOf(error).slice(0, MAX_REASON_CHARACTERS).replaceAll(/\s+/g, " ");
    if (reason.includes("memory alloc limit exceeded")) {
      throw refusal(
        "takes too much memory for filters and ranges",
        `${shown(LIMITS.allocations)} characters and items`,
      );
    }
    throw new Error(`${what}: Liquid cannot be rendered: ${reason}`, { cause: error });
  }
}

function parse(engine: Liquid, template: string): Template[] {
  checkTags(template);
  return engine.parse(template);
}

const TAG = /\{\{|\{%-?\s*(?:(end)?(if|unless|for|case|capture|comment|tablerow|raw|block)\b)?/g;

/** A linear scan before the parser, whose time grows with the square of the number of tags. */
function checkTags(template: string): void {
  const linesCount = /\{%-?\s*liquid\b/.test(template);
  let tags = linesCount ? template.split("\n").length : 0;
  let depth = 0;
  for (const [, end, block] of template.matchAll(TAG)) {
    tags += 1;
    if (block !== undefined) depth += end === undefined ? 1 : -1;
    if (depth > LIMITS.blockDepth) throw tooDeep();
  }
  if (tags > LIMITS.tags) throw refusal(`has ${shown(tags)} tags`, shown(LIMITS.tags), "use fewer");
}

const parsedHtml = createLruCache((template) => parse(html, template));
const parsedText = createLruCache((template) => parse(text, template));

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
  for (const node of parse(engine, template)) {
    if (node.token.kind === TokenKind.HTML) fixed[nodes.length] += String(engine.renderSync([node], {}));
    else fixed[nodes.push(node)] = "";
  }
  const names = nodes.map((node) => BARE_NAME.exec(node.token.getText())?.[1]);
  return {
    fixed,
    values: (variables) => {
      // One context for all nodes, so that {% assign %} affects later nodes. On a copy, because
      // {% increment %} writes into the variables.
      const context = new Context({ ...variables }, engine.options, { sync: true });
      const values = nodes.map((node, place) => {
        countStep();
        const value = ownText(context, names[place]);
        if (value === null) return String(engine.renderSync([node], context));
        const shownValue = engine === html ? escapeHtml(value) : value;
        countOutput(shownValue.length);
        return shownValue;
      });
      // {% break %} at the outermost level ends the template, so later fixed pieces must not appear.
      return context.breakCalled || context.continueCalled ? null : values;
    },
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
