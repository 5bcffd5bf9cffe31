// What was made of templates lately, kept because campaigns say the same to many.

// What a tag takes once it is parsed, in bytes (measured); a character of plain text takes one.
const TAG_BYTES = 1000;
const MOST_BYTES = 10_000_000;

/** Returns a function that makes something of a template, or has it still. Keeps what was asked for last, up to about 10 MB. */
export function createRecent<Value>(make: (template: string) => Value): (template: string) => Value {
  const known = new Map<string, { readonly value: Value; readonly bytes: number }>();
  let bytes = 0;
  return (template) => {
    const found = known.get(template);
    const entry = found ?? { value: make(template), bytes: bytesOf(template) };
    if (found === undefined) bytes += entry.bytes;
    else known.delete(template);
    known.set(template, entry);
    for (const [oldest, { bytes: freed }] of known) {
      if (bytes <= MOST_BYTES) break;
      known.delete(oldest);
      bytes -= freed;
    }
    return entry.value;
  };
}

function bytesOf(template: string): number {
  return template.length + TAG_BYTES * (template.match(/\{[{%]/g)?.length ?? 0);
}
