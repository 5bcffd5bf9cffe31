// Fields of a CSV file or a form -> a lead, or a list of faults. Files and forms come from people and other programs,
// so columns have several accepted names, and all faults are reported together, each with the value and what was
// expected.
import { isEmailAddress } from "../../emailAddress.ts";
import { cleanText } from "../../text.ts";
import { e164 } from "../sms/number.ts";

/** Columns of revenue_leads as brainops.capture_lead takes them; other fields are in metadata. */
export interface LeadInput {
  readonly [column: string]: unknown;
  readonly metadata: Readonly<Record<string, unknown>>;
}

export interface LeadFault {
  readonly column: string;
  /** Shortened to 80 characters; null if the field is missing. */
  readonly value: string | null;
  readonly expected: string;
}

export type LeadReading =
  | { readonly lead: LeadInput; readonly faults: null }
  | { readonly lead: null; readonly faults: readonly LeadFault[] };

const otherNames: Readonly<Record<string, string>> = {
  name: "contact_name",
  full_name: "contact_name",
  contact: "contact_name",
  company: "company_name",
  organisation: "company_name",
  organization: "company_name",
  e_mail: "email",
  email_address: "email",
  mail: "email",
  mobile: "phone",
  phone_number: "phone",
  telephone: "phone",
  tel: "phone",
  url: "website",
  web: "website",
  value: "value_estimate",
  deal_value: "value_estimate",
  timezone: "time_zone",
  owner: "owner_email",
};

/** The column for a heading: "E-Mail" -> "email". A heading that is not known becomes a key of metadata. */
export function columnOf(heading: string): string {
  const name = cleanText(heading)
    .trim()
    .toLowerCase()
    .replaceAll(/[\s./-]+/g, "_");
  return otherNames[name] ?? name;
}

/** Converts a text to the column's value, or says what was expected. */
type Reader = (text: string, country: string) => { readonly value: unknown } | { readonly expected: string };

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
const asAmount: Reader = (text) => {
  const plain = text.replaceAll(/^[$€£]\s*|,(?=\d{3}(?:\D|$))/g, "");
  return /^\d{1,15}(\.\d{1,6})?$/.test(plain) ? { value: plain } : { expected: "an amount such as 12500 or 12,500.50" };
};
const asScore: Reader = (text) =>
  /^\d{1,3}(\.\d{1,6})?$/.test(text) && Number(text) <= 100
    ? { value: text }
    : { expected: "a number from 0 to 100 (or a share of 1)" };
const asTime: Reader = (text) => {
  const time = Date.parse(text);
  return Number.isNaN(time)
    ? { expected: "a date or time such as 2026-03-31 or 2026-03-31T09:00:00Z" }
    : { value: new Date(time).toISOString() };
};
const asTimeZone: Reader = (text) =>
  isTimeZone(text) ? { value: text } : { expected: "an IANA time zone such as America/Denver" };

const asPhone: Reader = (text, country) =>
  e164(text, country) === null
    ? {
        expected: `a phone number with its country code, such as +1 303 555 0101 (a number without one is read as one of ${country})`,
      }
    : { value: text };

const readers: Readonly<Record<string, Reader>> = {
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

/** Whether the name is a column of a lead; any other field becomes a key of metadata. */
export const isLeadColumn = (column: string): boolean => Object.hasOwn(readers, column);

/**
 * Reads a lead, or returns every fault. A lead needs an e-mail address or a phone number.
 * @param fields column -> value; empty and null values count as missing
 * @param country ISO 3166, two letters: the country of phone numbers without a country code
 */
export function readLead(fields: Iterable<readonly [string, unknown]>, country: string): LeadReading {
  const columns: [string, unknown][] = [];
  const metadata: [string, unknown][] = [];
  const faults: LeadFault[] = [];
  for (const [column, given] of fields) {
    const text = textOf(given);
    if (text === "") continue;
    const reader = isLeadColumn(column) ? readers[column] : undefined;
    if (reader === undefined) {
      metadata.push([column, typeof given === "string" ? text : given]);
      continue;
    }
    const read = text === null ? { expected: "text, a number, true or false" } : reader(text, country);
    if ("value" in read) columns.push([column, read.value]);
    else faults.push({ column, value: shorten(text ?? JSON.stringify(given)), expected: read.expected });
  }
  if (faults.length > 0) return { lead: null, faults };
  const lead: Record<string, unknown> = Object.fromEntries(columns);
  if (lead["email"] === undefined && lead["phone"] === undefined) {
    return { lead: null, faults: [{ column: "email", value: null, expected: "an e-mail address or a phone number" }] };
  }
  if (typeof lead["phone"] === "string") lead["phone_e164"] = e164(lead["phone"], country);
  return { lead: { ...lead, metadata: Object.fromEntries(metadata) }, faults: null };
}

function isTimeZone(text: string): boolean {
  try {
    // Same rule as brainops_internal.is_time_zone; Intl alone would also accept offsets and abbreviations.
    return /\/|^(?:UTC|GMT)$/i.test(text) && Intl.DateTimeFormat("en", { timeZone: text }) !== null;
  } catch {
    return false;
  }
}

/** The value as trimmed text; "" for null and undefined, null for a list or an object. */
function textOf(given: unknown): string | null {
  if (given === null || given === undefined) return "";
  if (typeof given === "string") return cleanText(given).trim();
  return typeof given === "number" || typeof given === "boolean" ? String(given) : null;
}

const shorten = (text: string): string => (text.length <= 80 ? text : `${text.slice(0, 79)}…`);
