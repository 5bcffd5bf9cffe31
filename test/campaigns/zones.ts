// Local time without Postgres: how the oracle of the property test adds days.

function offsetAt(instant: number, zone: string): number {
  const parts = new Intl.DateTimeFormat("en-US", {
    timeZone: zone,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  }).formatToParts(instant);
  const part = (type: string): number => Number(parts.find((found) => found.type === type)?.value);
  const local = Date.UTC(part("year"), part("month") - 1, part("day"), part("hour"), part("minute"), part("second"));
  return local - (instant - (((instant % 1000) + 1000) % 1000));
}

const DAY = 86_400_000;

/**
 * The instant of a local time (as if it were UTC). In the hour that is skipped in spring the old offset
 * applies; of the two instants in autumn it is the later.
 */
function instantOf(local: number, zone: string): number {
  const before = offsetAt(local - DAY, zone);
  const after = offsetAt(local + DAY, zone);
  const late = local - after;
  const early = local - before;
  if (offsetAt(late, zone) === after && (before >= after || offsetAt(early, zone) !== before)) return late;
  return early;
}

/** Adds calendar days, at the same local time, and then milliseconds. */
export function addDelay(at: number, days: number, ms: number, zone: string): number {
  if (days === 0) return at + ms;
  return instantOf(at + offsetAt(at, zone) + days * DAY, zone) + ms;
}
