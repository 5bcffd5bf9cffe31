// Where a tenant is. The country decides how phone numbers without a country code, dates and amounts are read; the time
// zone, which instant a date without one means. The rule for the country is SQL (brainops.tenant_country), because the
// queue's triggers apply it as well.
import type pg from "pg";

export interface Place {
  /** ISO 3166, two letters. */
  readonly country: string;
  /** An IANA name. */
  readonly timeZone: string;
}

/** The tenant's settings.country if it is valid, else US; and its time zone. */
export async function placeOf(database: pg.Pool | pg.ClientBase, tenantId: string): Promise<Place> {
  const { rows } = await database.query<{ country: string; time_zone: string | null }>(
    `select brainops.tenant_country($1) as country, (select time_zone from public.tenants where id = $1) as time_zone`,
    [tenantId],
  );
  return { country: rows[0]?.country ?? "US", timeZone: rows[0]?.time_zone ?? "UTC" };
}

/** How people in a country write numbers and dates. */
export interface Customs {
  readonly decimal: "." | ",";
  /** Order of the parts of a date with slashes; null if the country writes dates in another way. */
  readonly order: "day first" | "month first" | null;
}

/** By the Unicode CLDR, for the country's most common language. */
export function customsOf(country: string): Customs {
  const locale = localeOf(country);
  const decimal = new Intl.NumberFormat(locale).formatToParts(1.5).find(({ type }) => type === "decimal")?.value;
  const first = new Intl.DateTimeFormat(locale)
    .formatToParts(0)
    .find(({ type }) => type === "day" || type === "month" || type === "year");
  const order = { day: "day first", month: "month first" } as const;
  return {
    decimal: decimal === "," ? "," : ".",
    order: first?.type === "day" || first?.type === "month" ? order[first.type] : null,
  };
}

/** Without the script, with which ICU does not know en-GB. */
function localeOf(country: string): string {
  try {
    return `${new Intl.Locale(`und-${country}`).maximize().language}-${country}`;
  } catch {
    return "en-US";
  }
}

/**
 * The instant at which clocks in the zone show the date and time. A time that is skipped in spring is taken as if the
 * clocks had not been changed, and of two equal times in autumn the first.
 * @param shown the date and time as milliseconds since 1970, as if it were UTC
 */
export function instantIn(timeZone: string, shown: number): Date {
  const before = shown - offsetAt(timeZone, shown - 86_400_000);
  if (offsetAt(timeZone, before) === shown - before) return new Date(before);
  const after = shown - offsetAt(timeZone, shown + 86_400_000);
  return new Date(offsetAt(timeZone, after) === shown - after ? after : before);
}

/** What clocks in the zone show at the instant, minus UTC, in milliseconds. */
function offsetAt(timeZone: string, instant: number): number {
  const parts = new Intl.DateTimeFormat("en", {
    timeZone,
    calendar: "iso8601",
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  }).formatToParts(instant);
  const part = (type: Intl.DateTimeFormatPartTypes): number => Number(parts.find((one) => one.type === type)?.value);
  const shown = Date.UTC(part("year"), part("month") - 1, part("day"), part("hour"), part("minute"), part("second"));
  return shown - Math.floor(instant / 1000) * 1000;
}
