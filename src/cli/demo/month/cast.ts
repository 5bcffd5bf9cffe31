// Who does what in the month. leads.csv says who they are; here is how they will answer, and what
// must have come of it in the end, reckoned from the two alone.
import { readFile } from "node:fs/promises";
import { parse } from "csv-parse/sync";

export const leadsFile = new URL("./leads.csv", import.meta.url);

/** What a person does once the nth mail or text of a campaign has come; silent: nothing. */
export type Part =
  | { readonly does: "silent" }
  /** Answers, is sent a payment link, and pays; `card` is what happens at the till. */
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
  /** The file's, else that of the state. */
  readonly timeZone: string;
  readonly textable: boolean;
  readonly part: Part;
  /** How the mailbox answers: SendGrid's stand-in tells by the address. */
  readonly mailbox: "takes" | "bounces" | "complains";
}

const zones: Readonly<Record<string, string>> = { CO: "America/Denver", TX: "America/Chicago", NY: "America/New_York" };

export interface Cast {
  readonly people: readonly Person[];
  /** Lines of the file below its head; those that name nobody, or somebody whom another line named. */
  readonly lines: number;
  readonly nobody: number;
  readonly again: number;
}

/** Everybody once: lines that name somebody again, and those that name nobody, left out. */
export async function readCast(): Promise<Cast> {
  const rows = parse(await readFile(leadsFile), { columns: true }) as Record<string, string>[];
  const people = new Map<string, Person>();
  let nobody = 0;
  for (const row of rows) {
    const email = (row["email"] ?? "").toLowerCase();
    const phone = row["phone"] || null;
    // As a reader of the file would see it: an address has an @, and nobody lives on Mars.
    if ((!email.includes("@") && (email !== "" || phone === null)) || row["time_zone"]?.startsWith("Mars/") === true) {
      nobody++;
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
      timeZone: row["time_zone"] || (zones[row["state"] ?? ""] ?? ""),
      textable: row["sms_consent"] === "yes",
      part: parts[email] ?? { does: "silent" },
      mailbox: email.startsWith("bounce.") ? "bounces" : email.startsWith("spam.") ? "complains" : "takes",
    });
  }
  return { people: [...people.values()], lines: rows.length, nobody, again: rows.length - nobody - people.size };
}
