// The people of the month. leads.csv lists them; this file defines how they react. figures.ts computes the
// expected results from these two.
import { readFile } from "node:fs/promises";
import { parse } from "csv-parse/sync";

export const leadsFile = new URL("./leads.csv", import.meta.url);

/** How a person reacts to the nth mail or text of a campaign; silent: not at all. */
export type Part =
  | { readonly does: "silent" }
  /** Replies, receives a payment link, and pays; `card` is the result of the payment. */
  | {
      readonly does: "pays";
      readonly on: Nth;
      readonly card: "ok" | "async_ok" | "declined first";
      readonly refunded?: true;
    }
  | { readonly does: "declines"; readonly on: Nth }
  | { readonly does: "unsubscribes"; readonly on: Nth }
  | { readonly does: "stops"; readonly on: Nth };

export interface Nth {
  readonly channel: "email" | "sms";
  readonly nth: number;
}

const mail = (nth: number): Nth => ({ channel: "email", nth });
const text = (nth: number): Nth => ({ channel: "sms", nth });

const parts: Readonly<Record<string, Part>> = {
  "ben.bishop@bishophomes.example": { does: "stops", on: text(1) },
  "cleo.carver@carverhomes.example": { does: "pays", on: text(1), card: "ok" },
  "finn.fowler@fowlerhomes.example": { does: "stops", on: text(1) },
  "jude.jansen@jansenco.example": { does: "pays", on: mail(1), card: "ok" },
  "kira.keller@kellerco.example": { does: "pays", on: mail(1), card: "async_ok" },
  "leo.lawson@lawsonco.example": { does: "pays", on: mail(1), card: "ok", refunded: true },
  "mona.mercer@mercerco.example": { does: "pays", on: mail(1), card: "declined first" },
  "nils.norris@norrisco.example": { does: "declines", on: mail(1) },
  "tess.thorne@thornefamily.example": { does: "pays", on: mail(3), card: "ok" },
  "uma.usher@usherfamily.example": { does: "declines", on: mail(3) },
  "vera.vance@vancefamily.example": { does: "unsubscribes", on: mail(2) },
  "wade.weaver@weaverfamily.example": { does: "unsubscribes", on: mail(2) },
};

export interface Person {
  readonly email: string;
  readonly phone: string | null;
  readonly source: string;
  /** From the file; if missing there, the time zone of the state. */
  readonly timeZone: string;
  readonly textable: boolean;
  readonly part: Part;
  /** How the mailbox reacts; the SendGrid simulator derives it from the address. */
  readonly mailbox: "takes" | "bounces" | "complains";
}

const zones: Readonly<Record<string, string>> = { CO: "America/Denver", TX: "America/Chicago", NY: "America/New_York" };

export interface Cast {
  readonly people: readonly Person[];
  /** Lines of the file without the header. */
  readonly lines: number;
  /** Lines without a valid address, which the import rejects. */
  readonly invalid: number;
  /** Lines that repeat a person. */
  readonly repeated: number;
}

/** Reads each person once: without invalid and repeated lines. */
export async function readCast(): Promise<Cast> {
  const rows = parse(await readFile(leadsFile), { columns: true }) as Record<string, string>[];
  const people = new Map<string, Person>();
  let invalid = 0;
  for (const row of rows) {
    const email = (row["email"] ?? "").toLowerCase();
    const phone = row["phone"] || null;
    // Decided independently of the import's rules: an address has an @.
    if (!email.includes("@") && (email !== "" || phone === null)) {
      invalid++;
      continue;
    }
    const known = [...people.values()].some(
      (person) => person.email === email || (email === "" && person.phone === phone),
    );
    if (known) continue;
    people.set(email, {
      email,
      phone,
      source: row["source"] ?? "",
      // Mars has no time zones: the import leaves the field out.
      timeZone: row["time_zone"]?.replace(/^Mars.*/, "") || (zones[row["state"] ?? ""] ?? ""),
      textable: row["sms_consent"] === "yes" && phone !== null,
      part: parts[email] ?? { does: "silent" },
      mailbox: email.startsWith("bounce.") ? "bounces" : email.startsWith("spam.") ? "complains" : "takes",
    });
  }
  const repeated = rows.length - invalid - people.size;
  return { people: [...people.values()], lines: rows.length, invalid, repeated };
}
