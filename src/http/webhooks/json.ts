// JSON from outside, made fit for jsonb. Postgres refuses U+0000 and lone surrogates, and with one
// such character in one event the whole batch; so they become U+FFFD before it sees them.
import { cleanText } from "../../text.ts";

// Events are two or three levels deep. JSON.stringify and Postgres both walk recursively, so what
// goes to them is bounded; the walk here is not recursive.
const DEEPEST = 32;

/** The array that the bytes spell, cleaned; null where they spell none, or one that is too deep. */
export function parseEvents(body: Buffer): unknown[] | null {
  const value = parse(body);
  return Array.isArray(value) && clean(value) ? value : null;
}

/** The object that the bytes spell, cleaned; null where they spell none, or one that is too deep. */
export function parseEvent(body: Buffer): object | null {
  const value = parse(body);
  return typeof value === "object" && value !== null && !Array.isArray(value) && clean(value) ? value : null;
}

/** Undefined where the bytes spell no JSON. */
function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    return undefined;
  }
}

/** Cleans keys and strings in place. False where it is too deep. */
function clean(root: object): boolean {
  let level: object[] = [root];
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > DEEPEST) return false;
    level = level.flatMap(cleanOne);
  }
  return true;
}

/** Cleans the node's own strings; returns the nodes right below it. */
function cleanOne(node: object): object[] {
  const below: object[] = [];
  for (const [key, value] of Object.entries(node) as [string, unknown][]) {
    if (typeof value === "object" && value !== null) below.push(value);
    const cleanKey = cleanText(key);
    const cleanValue = typeof value === "string" ? cleanText(value) : value;
    if (cleanKey === key && cleanValue === value) continue;
    if (cleanKey !== key) Reflect.deleteProperty(node, key);
    // Not by assignment, which for the key __proto__ would be another thing.
    Object.defineProperty(node, cleanKey, { value: cleanValue, enumerable: true, configurable: true, writable: true });
  }
  return below;
}
