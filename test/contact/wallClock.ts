// Quiet hours computed in another way than sql/functions/contact/wall-clock.sql does: an instant is open if each zone's
// wall clock, as Temporal reads it, is inside the hours. No arithmetic with offsets.
import { Temporal } from "temporal-polyfill";

/** Minutes after midnight, [from, to); to at or before from: past midnight. Null: closed. */
export type Hours = readonly [from: number, to: number] | null;

/** The hours that begin on a day of the week, 1 Monday to 7 Sunday. */
export type Week = (isoDay: number) => Hours;

const DAY = 24 * 60;
const MINUTE = 60_000;

export function isOpen(at: number, zones: readonly string[], week: Week): boolean {
  return zones.every((zone) => isOpenIn(Temporal.Instant.fromEpochMilliseconds(at).toZonedDateTimeISO(zone), week));
}

function isOpenIn(clock: Temporal.ZonedDateTime, week: Week): boolean {
  const minute = clock.hour * 60 + clock.minute;
  const today = week(clock.dayOfWeek);
  const yesterday = week(clock.dayOfWeek === 1 ? 7 : clock.dayOfWeek - 1);
  const wraps = (hours: readonly [number, number]): boolean => hours[1] <= hours[0];
  if (today !== null && minute >= today[0] && (wraps(today) || minute < today[1])) return true;
  return yesterday !== null && wraps(yesterday) && minute < yesterday[1];
}

/** The first open instant from `at` on, looked for every `step` minutes; null without one before `until`. */
export function firstOpen(
  at: number,
  until: number,
  zones: readonly string[],
  week: Week,
  step: number,
): number | null {
  if (isOpen(at, zones, week)) return at;
  for (let next = (Math.floor(at / (step * MINUTE)) + 1) * step * MINUTE; next <= until; next += step * MINUTE) {
    if (isOpen(next, zones, week)) return next;
  }
  return null;
}

/** The same hours on the given days, or on all. */
export function everyDay(from: number, to: number, isoDays: readonly number[] | null = null): Week {
  return (day) => (isoDays === null || isoDays.includes(day) ? [from, to] : null);
}

/** Hours within the day that all of the weeks allow. */
export function allOf(weeks: readonly Week[]): Week {
  return (day) => {
    const hours = weeks.map((week) => week(day));
    if (hours.some((one) => one === null)) return null;
    const from = Math.max(...hours.map((one) => one?.[0] ?? DAY));
    const to = Math.min(...hours.map((one) => one?.[1] ?? 0));
    return from < to ? [from, to] : null;
  };
}

/** 90 -> "01:30", as Postgres writes a time; the end of a day is 24:00. */
export function timeOf(minutes: number): string {
  return `${String(Math.floor(minutes / 60)).padStart(2, "0")}:${String(minutes % 60).padStart(2, "0")}`;
}
