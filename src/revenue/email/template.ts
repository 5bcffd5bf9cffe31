// Liquid as tenants may write it: no file access, no prototype of ours, bounded in time and size.
import { Context, Liquid, TokenKind, type Template } from "liquidjs";

const limits = {
  ownPropertyOnly: true,
  strictFilters: true,
  cache: 500,
  parseLimit: 2_000_000, // characters
  renderLimit: 200, // milliseconds; nothing else runs meanwhile
  memoryLimit: 20_000_000,
  templates: {}, // {% include %} and {% render %} find nothing
} as const;

const html = new Liquid({ ...limits, outputEscape: "escape" });
const text = new Liquid(limits);

/** Renders HTML; values are escaped unless the template says `| raw`. Throws on Liquid that does not parse. */
export function renderHtml(template: string, variables: object): string {
  return html.parseAndRenderSync(template, variables) as string;
}

/** Renders plain text, e.g. a subject; nothing is escaped. */
export function renderText(template: string, variables: object): string {
  return text.parseAndRenderSync(template, variables) as string;
}

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
  return {
    fixed,
    values: (variables) => {
      // One context for all of them: {% assign %} reaches what comes after it.
      const context = new Context(variables, engine.options, { sync: true });
      const values = nodes.map((node) => String(engine.renderSync([node], context)));
      // A {% break %} at the outermost level ends the template, fixed pieces and all.
      return context.breakCalled || context.continueCalled ? null : values;
    },
  };
}
