// Headings of a CSV file and names of form fields -> columns of a lead. Knows the headings that common programs export
// (Mailchimp, HubSpot, Salesforce, Outlook, Google), in English and German.
import { BrainOpsError } from "../../errors.ts";
import { cleanText } from "../../text.ts";
import { readers } from "./values.ts";

// Column -> the other names of its headings, separated by spaces.
const otherNames: Readonly<Record<string, string>> = {
  contact_name: "name full_name contact display_name file_as kontakt ansprechpartner vollständiger_name",
  first_name: "firstname fname given_name vorname",
  last_name: "lastname lname surname family_name nachname familienname",
  company_name:
    "company organisation organization organization_name account_name company_account account associated_company " +
    "firma firmenname unternehmen",
  email:
    "e_mail email_address e_mail_address mail e_mail_1_value work_email primary_email email_1 " +
    "emailadresse e_mail_adresse mailadresse email_adresse",
  phone:
    "mobile phone_number telephone tel mobile_phone mobile_phone_number cell cell_phone business_phone home_phone " +
    "primary_phone work_phone phone_1_value telefon telefonnummer handy mobil mobiltelefon handynummer rufnummer",
  website: "url web web_page website_url website_1_value webseite homepage internetseite",
  value_estimate: "value deal_value amount deal_amount wert auftragswert",
  time_zone: "timezone zeitzone",
  owner_email: "owner",
  industry: "branche",
  source: "lead_source original_source quelle",
};

const columnsByName = new Map(
  Object.entries(otherNames).flatMap(([column, names]) => names.split(" ").map((name) => [name, column] as const)),
);

/** Columns that a file may name besides those of a lead: the two are joined to contact_name. */
export const NAME_PARTS = ["first_name", "last_name"] as const;

/** The heading as a name: "E-Mail 1 - Value" -> "e_mail_1_value". */
export function nameOf(heading: string): string {
  return cleanText(heading)
    .trim()
    .toLowerCase()
    .replaceAll(/[\s./:-]+/g, "_");
}

/** The column for a heading: "E-Mail" -> "email". A heading that is not known becomes a key of metadata. */
export function columnOf(heading: string): string {
  const name = nameOf(heading);
  return columnsByName.get(name) ?? name;
}

/** Whether the name is a column of a lead; any other field becomes a key of metadata. */
export const isLeadColumn = (column: string): boolean => Object.hasOwn(readers, column);

/** Where the values of one column of a file go. */
export interface FileColumn {
  readonly heading: string;
  /** A column of a lead, first_name, last_name, or a key of metadata; null if the file's column is left out. */
  readonly column: string | null;
  /** Key of metadata for a value whose column another file column has filled already: Phone and Mobile, Tag and Tag. */
  readonly surplusKey: string;
}

/**
 * The columns of a file. Leaves out empty headings and what an earlier import added (rejected_…). Throws OP013 if no
 * column is an e-mail address or a phone number, or if `map` names a heading or a column that does not exist.
 * @param map heading -> column of a lead, metadata.key, or - to leave the column out
 */
export function columnsOf(
  header: readonly string[],
  delimiter: string,
  map: ReadonlyMap<string, string>,
): FileColumn[] {
  for (const [heading, column] of map) {
    if (!header.some((one) => one.trim() === heading)) {
      throw headerFault(`--map: the file has no column ${JSON.stringify(heading)}; found: ${shown(header)}`);
    }
    if (!isTarget(column)) {
      const known = [...Object.keys(readers), ...NAME_PARTS, "metadata.<key>", "-"].join(", ");
      throw headerFault(`--map: ${JSON.stringify(column)} is not a column of a lead; expected one of ${known}`);
    }
  }
  const keys = new Set<string>();
  const columns = header.map((heading) => {
    const mapped = map.get(heading.trim());
    const column = mapped === undefined ? columnOf(heading) : mapped.replace(/^metadata\./, "");
    const isLeftOut = column === "-" || column === "" || (mapped === undefined && column.startsWith("rejected_"));
    return { heading, column: isLeftOut ? null : column, surplusKey: freeKey(nameOf(heading), keys) };
  });
  if (!columns.some(({ column }) => column === "email" || column === "phone")) {
    throw headerFault(`column email or phone is missing; found: ${shown(header)} (separator "${delimiter}")`);
  }
  return columns;
}

const isTarget = (column: string): boolean =>
  isLeadColumn(column) ||
  column === "-" ||
  /^metadata\.[^.\s]{1,60}$/.test(column) ||
  NAME_PARTS.some((part) => part === column);

/** The heading's own name, with a number if an earlier column or a column of leads has that name. */
function freeKey(name: string, keys: Set<string>): string {
  let key = name;
  for (let number = 2; keys.has(key) || isLeadColumn(key); number += 1) key = `${name}_${number}`;
  keys.add(key);
  return key;
}

const shown = (header: readonly string[]): string => header.join(", ").slice(0, 200);

function headerFault(problem: string): BrainOpsError {
  return new BrainOpsError("OP013", `header: ${problem}`, {
    hint: 'The first line must name the columns, one of them email or phone. Name a column with --map "Your heading=email"; for another separator use --delimiter ";".',
  });
}
