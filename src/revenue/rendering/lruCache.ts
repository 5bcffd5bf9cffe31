// LRU cache of compiled templates, bounded by estimated bytes. Campaigns send one template to many leads.

// Memory of one parsed tag in bytes (measured); a character of plain text takes one byte.
const TAG_BYTES = 1000;
const MAX_BYTES = 10_000_000;

/**
 * Wraps `compile` in a cache that keeps the most recently used results, up to about 10 MB (by
 * estimate). A result larger than that is returned but not kept. Errors are not cached.
 */
export function createLruCache<Value>(compile: (template: string) => Value): (template: string) => Value {
  const cache = new Map<string, { readonly value: Value; readonly bytes: number }>();
  let bytes = 0;
  return (template) => {
    const found = cache.get(template);
    const entry = found ?? { value: compile(template), bytes: bytesOf(template) };
    if (found === undefined) bytes += entry.bytes;
    else cache.delete(template);
    cache.set(template, entry);
    for (const [oldest, { bytes: freed }] of cache) {
      if (bytes <= MAX_BYTES) break;
      cache.delete(oldest);
      bytes -= freed;
    }
    return entry.value;
  };
}

function bytesOf(template: string): number {
  return template.length + TAG_BYTES * (template.match(/\{[{%]/g)?.length ?? 0);
}
