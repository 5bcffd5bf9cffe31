// Liquid as tenants may write it: no file access, no prototype of ours, bounded in time and size.
import { Liquid } from "liquidjs";

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
