// Values of a CSV file or a form, as people write them -> values of a lead's columns. What could mean two things is
// refused with an example of what is clear.
import { isEmailAddress } from "../../emailAddress.ts";
import { e164 } from "../sms/number.ts";
import { customsOf, instantIn, type Place } from "./place.ts";

/** Converts a text to the column's value, or says what was expected. */
export type Reader = (text: string, place: Place) => { readonly value: unknown } | { readonly expected: string };

const asText: Reader = (text) => ({ value: text });
const asEmail: Reader = (text) =>
  isEmailAddress(text) ? { value: text } : { expected: "one e-mail address such as ann@example.com" };
// The same list as brainops_internal.is_yes in SQL; test/leads/import.test.ts compares the two.
const YES = new Set(["true", "t", "yes", "y", "1", "on", "x", "ja", "si", "oui"]);
const NO = new Set(["false", "f", "no", "n", "0", "off"]);
const asYesOrNo: Reader = (text) => {
  const answer = text.toLowerCase();
  if (YES.has(answer)) return { value: true };
  return NO.has(answer) ? { value: false } : { expected: "yes or no" };
};
const asScore: Reader = (text) =>
  /^\d{1,3}(\.\d{1,6})?$/.test(text) && Number(text) <= 100
    ? { value: text }
    : { expected: "a number from 0 to 100 (or a share of 1)" };
const asTimeZone: Reader = (text) =>
  isTimeZone(text) ? { value: text } : { expected: "an IANA time zone such as America/Denver" };
const asPhone: Reader = (text, { country }) =>
  e164(text, country) === null
    ? {
        expected: `a phone number with its country code, such as +1 303 555 0101 (a number without one is read as one of ${country})`,
      }
    : { value: text };

const AMOUNT = "an amount such as 12500 or 12500.50";

/**
 * An amount in the customs of the tenant's country. A single separator before exactly three digits is a thousands
 * separator if the country uses it so, and refused if it is the country's decimal sign: 12.500 may be either.
 */
const asAmount: Reader = (text, { country }) => {
  const bare = text.replaceAll(/^(?:[$€£¥]|[A-Z]{3}\b)|(?:[$€£¥]|\b[A-Z]{3})$|[\s'’]/gu, "");
  const shape =
    /^(?<whole>\d{1,3}(?<group>[.,])\d{3}(?:\k<group>\d{3})*|\d{1,15})(?:(?<sign>[.,])(?<rest>\d{1,6}))?$/.exec(
      bare,
    )?.groups;
  if (shape === undefined) return { expected: AMOUNT };
  const { whole = "", group, sign, rest = "" } = shape;
  if (group !== undefined && sign === group) return { expected: AMOUNT };
  const single = group !== undefined && sign === undefined && whole.split(group).length === 2;
  const { decimal } = customsOf(country);
  if (single && group === decimal) return { expected: `${AMOUNT}; ${text} may mean thousands or a fraction` };
  const digits = whole.replaceAll(/[.,]/g, "");
  if (digits.length > 15) return { expected: AMOUNT };
  return { value: rest === "" ? digits : `${digits}.${rest}` };
};

const DATE = "a date or time such as 2026-03-31 or 2026-03-31T09:00:00Z";
const TIME =
  /(?:[T ](?<hour>\d{1,2}):(?<minute>\d{2})(?::(?<second>\d{2})(?:\.\d{1,6})?)?)?\s*(?<zone>Z|[+-]\d{2}:?\d{2})?$/
    .source;
const YEAR_FIRST = new RegExp(`^(?<year>\\d{4})[-/](?<month>\\d{1,2})[-/](?<day>\\d{1,2})${TIME}`, "i");
const DAY_FIRST = new RegExp(`^(?<day>\\d{1,2})\\.\\s?(?<month>\\d{1,2})\\.\\s?(?<year>\\d{4})${TIME}`, "i");
const SLASHES = new RegExp(`^(?<one>\\d{1,2})[/-](?<two>\\d{1,2})[/-](?<year>\\d{4})${TIME}`, "i");

/** A real day, at midnight of the tenant's time zone unless the text has a time or a zone. */
const asTime: Reader = (text, place) => {
  const found = (YEAR_FIRST.exec(text) ?? DAY_FIRST.exec(text) ?? SLASHES.exec(text))?.groups;
  if (found === undefined) {
    const hint = /^\d{5}(\.\d+)?$/.test(text) ? "; in the spreadsheet, format the column as a date" : "";
    return { expected: `${DATE}${hint}` };
  }
  const { month, day } = found["one"] === undefined ? found : orderOf(found["one"], found["two"] ?? "", place.country);
  if (month === undefined) return { expected: `${DATE}; the order of day and month is not clear` };
  const at = found["zone"] === undefined ? null : found["zone"].toUpperCase();
  const [year, hour, minute, second] = ["year", "hour", "minute", "second"].map((part) => Number(found[part] ?? 0));
  const shown = realTime([year ?? 0, Number(month), Number(day), hour ?? 0, minute ?? 0, second ?? 0]);
  if (shown === null) return { expected: `${DATE}; the day or time does not exist` };
  const instant = at === null ? instantIn(place.timeZone, shown) : new Date(shown - offsetOf(at));
  return { value: instant.toISOString() };
};

/** Which of two numbers is the month: by the country's custom, unless only one of them can be a month. */
function orderOf(one: string, two: string, country: string): { month?: string; day?: string } {
  if (Number(one) > 12) return { day: one, month: two };
  if (Number(two) > 12) return { month: one, day: two };
  if (Number(one) === Number(two)) return { month: one, day: two };
  const { order } = customsOf(country);
  if (order === null) return {};
  return order === "day first" ? { day: one, month: two } : { month: one, day: two };
}

/** As milliseconds since 1970, as if it were UTC; null for 30 February, 25:00, and years that are certainly wrong. */
function realTime([year, month, day, hour, minute, second]: [number, number, number, number, number, number]):
  | number
  | null {
  const time = new Date(Date.UTC(year, month - 1, day, hour, minute, second));
  const isReal =
    time.getUTCMonth() === month - 1 && time.getUTCDate() === day && hour < 24 && minute < 60 && second < 60;
  return isReal && year >= 1900 && year < 2200 ? time.getTime() : null;
}

/** The offset of "Z", "+01:00" or "-0700", in milliseconds. */
function offsetOf(zone: string): number {
  if (zone === "Z") return 0;
  const minutes = Number(zone.slice(1, 3)) * 60 + Number(zone.slice(-2));
  return (zone.startsWith("-") ? -minutes : minutes) * 60_000;
}

function isTimeZone(text: string): boolean {
  try {
    // Same rule as brainops_internal.is_time_zone; Intl alone would also accept offsets and abbreviations.
    return /\/|^(?:UTC|GMT)$/i.test(text) && Intl.DateTimeFormat("en", { timeZone: text }) !== null;
  } catch {
    return false;
  }
}

/** The columns of revenue_leads that a file or a form may fill. */
export const readers: Readonly<Record<string, Reader>> = {
  company_name: asText,
  contact_name: asText,
  email: asEmail,
  phone: asPhone,
  website: asText,
  stage: asText,
  score: asScore,
  value_estimate: asAmount,
  source: asText,
  time_zone: asTimeZone,
  state: asText,
  location: asText,
  industry: asText,
  status: asText,
  owner_email: asEmail,
  next_action: asText,
  next_action_date: asTime,
  email_consent: asYesOrNo,
  sms_consent: asYesOrNo,
};
