// Fields of a CSV file or a form -> a lead, and a list of faults. Files and forms come from people and other programs,
// so all faults are reported together, each with the value and what was expected.
import { cleanText } from "../../text.ts";
import { e164 } from "../sms/number.ts";
import { isLeadColumn, NAME_PARTS } from "./columns.ts";
import type { Place } from "./place.ts";
import { readers } from "./values.ts";

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

export interface LeadReading {
  /** The lead without the fields that have a fault; null if no e-mail address and no phone number is left. */
  readonly lead: LeadInput | null;
  readonly faults: readonly LeadFault[];
}

/**
 * Reads a lead. A lead needs an e-mail address or a phone number.
 * @param fields column -> value; empty and null values count as missing
 */
export function readLead(fields: Iterable<readonly [string, unknown]>, place: Place): LeadReading {
  const columns = new Map<string, unknown>();
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
    const read = text === null ? { expected: "text, a number, true or false" } : reader(text, place);
    if ("value" in read) columns.set(column, read.value);
    else faults.push({ column, value: shorten(text ?? JSON.stringify(given)), expected: read.expected });
  }
  const phone = columns.get("phone");
  if (columns.get("email") === undefined && phone === undefined) {
    const missing = { column: "email", value: null, expected: "an e-mail address or a phone number" };
    return { lead: null, faults: faults.length > 0 ? faults : [missing] };
  }
  const name = fullName(columns.get("contact_name"), new Map(metadata));
  const lead = {
    ...Object.fromEntries(columns),
    ...(name === undefined ? {} : { contact_name: name }),
    ...(typeof phone === "string" ? { phone_e164: e164(phone, place.country) } : {}),
    metadata: Object.fromEntries(metadata),
  };
  return { lead, faults };
}

/**
 * First and last name in fields of their own, joined. In German files, "Vorname" stands beside a "Name" that is the last
 * name alone. Undefined without a name.
 */
function fullName(given: unknown, metadata: ReadonlyMap<string, unknown>): unknown {
  const [first, last] = NAME_PARTS.map((part) => {
    const value = metadata.get(part);
    return typeof value === "string" ? value : undefined;
  });
  if (typeof given !== "string") return [first, last].filter((part) => part !== undefined).join(" ") || undefined;
  const isLastName = first !== undefined && last === undefined && !given.toLowerCase().includes(first.toLowerCase());
  return isLastName ? `${first} ${given}` : given;
}

/** The value as trimmed text; "" for null and undefined, null for a list or an object. */
function textOf(given: unknown): string | null {
  if (given === null || given === undefined) return "";
  if (typeof given === "string") return cleanText(given).trim();
  return typeof given === "number" || typeof given === "boolean" ? String(given) : null;
}

const shorten = (text: string): string => (text.length <= 80 ? text : `${text.slice(0, 79)}…`);
