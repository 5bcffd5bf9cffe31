// What the rendering of one row may take, in one place. A row that needs more fails with OP046, which names the limit.
import { BrainOpsError } from "../../errors.ts";

export const LIMITS = {
  /** Of a text, in characters: Twilio's limit. */
  textCharacters: 1600,
  /** Of a rendered subject, in characters: RFC 5322, 2.1.1. */
  subjectCharacters: 998,
  /** Of a mail's HTML, and of its text, in UTF-16 units. */
  bodyCharacters: 2_000_000,
  /** Tags and outputs of a template; in a template with {% liquid %} its lines count, too. */
  tags: 2000,
  /** Liquid blocks within each other. */
  blockDepth: 100,
  /** HTML elements of a body, and elements within each other. */
  elements: 20_000,
  elementDepth: 200,
  /** Of an HTML body's text part, estimated: characters, times the width of the indentation they may get. */
  indentedCharacters: 8_000_000,
  /** Of a value that a filter or a {% capture %} makes, in UTF-16 units and items, however deep. */
  valueCharacters: 1_000_000,
  /** Units that the filters of one template may allocate, as liquidjs counts them: characters, or items of arrays. */
  allocations: 4_000_000,
  /** Of what a row gives its template (subject, body, metadata, lead): characters, values, and values within each other. */
  inputCharacters: 2_500_000,
  inputValues: 50_000,
  inputDepth: 64,
  /** Reply-To, From and category, in characters; SendGrid's limit for a category. */
  headerCharacters: 255,
  /** Processor time of one row, in milliseconds. */
  cpuMs: 500,
  /**
   * Of one row, in milliseconds, whatever the machine is doing. Reached only if the thread gets no processor, or if its
   * processor time is unknown (wallMsWithoutCpuTime: Node 22). Says nothing about the row, so the row is tried again.
   */
  wallMs: 10_000,
  wallMsWithoutCpuTime: 2000,
  /** Heap of the thread, in MB. */
  heapMb: 256,
} as const;

/** The row needs more than a limit allows. `what` is the part of the row, such as subject; `has` says what of it is
 * too much. */
export function limitError(what: string, has: string, limit: string, remedy = "shorten it"): BrainOpsError {
  return new BrainOpsError("OP046", `${what}: ${has}; the limit is ${limit}; ${remedy}`);
}

/** A number with commas, as messages show it. */
export function shown(value: number): string {
  return value.toLocaleString("en");
}
