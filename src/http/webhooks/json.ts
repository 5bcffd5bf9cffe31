// JSON from outside, cleaned for jsonb. Postgres refuses U+0000 and lone surrogates, and one such
// character in one event would fail the whole batch, so each is replaced by U+FFFD.
import { cleanText } from "../../text.ts";

// Events are two or three levels deep. JSON.stringify and Postgres recurse, so the depth is bounded;
// the walk here is iterative.
const MAX_DEPTH = 32;

/** The cleaned array; null if the body is not a JSON array or is nested deeper than MAX_DEPTH. */
export function parseEvents(body: Buffer): unknown[] | null {
  const value = parse(body);
  return Array.isArray(value) && clean(value) ? value : null;
}

/** The cleaned object; null if the body is not a JSON object or is nested deeper than MAX_DEPTH. */
export function parseEvent(body: Buffer): object | null {
  const value = parse(body);
  return typeof value === "object" && value !== null && !Array.isArray(value) && clean(value) ? value : null;
}

/** Undefined if the body is not JSON. */
function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    return undefined;
  }
}

/** Cleans keys and strings in place. False if nested deeper than MAX_DEPTH. */
function clean(root: object): boolean {
  let level: object[] = [root];
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > MAX_DEPTH) return false;
    level = level.flatMap(cleanOne);
  }
  return true;
}

/** Cleans the node's own keys and strings; returns its child nodes. */
function cleanOne(node: object): object[] {
  const below: object[] = [];
  for (const [key, value] of Object.entries(node) as [string, unknown][]) {
    if (typeof value === "object" && value !== null) below.push(value);
    const cleanKey = cleanText(key);
    const cleanValue = typeof value === "string" ? cleanText(value) : value;
    if (cleanKey === key && cleanValue === value) continue;
    if (cleanKey !== key) Reflect.deleteProperty(node, key);
    // Assignment to the key __proto__ would set the prototype instead.
    Object.defineProperty(node, cleanKey, { value: cleanValue, enumerable: true, configurable: true, writable: true });
  }
  return below;
}
