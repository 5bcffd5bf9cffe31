// Imports a CSV file of leads in chunks, so memory does not grow with the file. Lines are independent,
// and an import can be repeated: a person who is a lead already is updated.
import type pg from "pg";
import { isTransient } from "../../db/pool.ts";
import { BrainOpsError } from "../../errors.ts";
import { readCsv, UnclosedQuoteError } from "./csv.ts";
import { columnOf, isLeadColumn, readLead, type LeadFault, type LeadInput } from "./fields.ts";

export interface RejectedLine {
  /** Line number in the file, from 1; the header counts. */
  readonly line: number;
  readonly fields: readonly string[];
  readonly faults: readonly LeadFault[];
}

export interface ImportCounts {
  /** Lines that created a lead. */
  new: number;
  /** Lines of existing leads; values that the lead lacked were stored. */
  known: number;
  rejected: number;
}

export interface ImportOptions {
  readonly client: pg.ClientBase;
  readonly tenantId: string;
  /** ISO 3166, two letters: the country of phone numbers without a country code. */
  readonly country: string;
  /** Source of leads whose line has no source. */
  readonly source: string;
  /** Name of the file, stored as evidence of the consents in it. */
  readonly file: string;
  readonly delimiter: string;
  readonly onHeader?: (header: readonly string[]) => void;
  readonly onRejected: (line: RejectedLine) => void;
  /** Called after each chunk. */
  readonly onProgress?: (counts: Readonly<ImportCounts>) => void;
}

// Enough lines to make the round trip negligible, few enough to keep locks short.
const LINES_PER_CHUNK = 500;
const ATTEMPTS = 5;

interface ReadLine {
  readonly line: number;
  readonly fields: readonly string[];
  readonly lead: LeadInput;
}

/** Imports CSV text. Throws OP013 for an empty file and for a header without a column email or phone. */
export async function importLeads(text: AsyncIterable<string>, options: ImportOptions): Promise<ImportCounts> {
  const counts: ImportCounts = { new: 0, known: 0, rejected: 0 };
  const reject = (rejected: RejectedLine): void => {
    counts.rejected += 1;
    options.onRejected(rejected);
  };
  let columns: readonly (string | null)[] | null = null;
  let chunk: ReadLine[] = [];
  const flush = async (): Promise<void> => {
    await store(chunk, options, counts, reject);
    chunk = [];
    options.onProgress?.(counts);
  };
  try {
    for await (const { line, fields } of readCsv(text, options.delimiter)) {
      if (columns === null) {
        columns = columnsOf(fields, options.delimiter);
        options.onHeader?.(fields);
        continue;
      }
      const reading = readLine(columns, fields, options.country);
      if (reading.lead === null) reject({ line, fields, faults: reading.faults });
      else chunk.push({ line, fields, lead: reading.lead });
      if (chunk.length === LINES_PER_CHUNK) await flush();
    }
  } catch (error) {
    if (!(error instanceof UnclosedQuoteError) || columns === null) throw error;
    const expected = "a closing quote; the file was not read from this line on";
    reject({ line: error.line, fields: [], faults: [{ column: "line", value: null, expected }] });
  }
  if (columns === null) throw headerFault("the file is empty");
  await flush();
  return counts;
}

/** The column of each heading; null for an empty heading and for the columns that an earlier import added (rejected_…). */
function columnsOf(header: readonly string[], delimiter: string): (string | null)[] {
  const columns = header.map((heading) => columnOf(heading));
  const duplicate = columns.find((column, index) => isLeadColumn(column) && columns.indexOf(column) !== index);
  if (duplicate !== undefined) {
    const headings = header.filter((heading) => columnOf(heading) === duplicate).join(", ");
    throw headerFault(`several columns mean ${duplicate}: ${headings}`);
  }
  if (!columns.includes("email") && !columns.includes("phone")) {
    throw headerFault(
      `column email or phone is missing; found: ${header.join(", ").slice(0, 200)} (separator "${delimiter}")`,
    );
  }
  return columns.map((column) => (column === "" || column.startsWith("rejected_") ? null : column));
}

function headerFault(problem: string): BrainOpsError {
  return new BrainOpsError("OP013", `header: ${problem}`, {
    hint: 'The first line must name the columns, one of them email or phone. For another separator use --delimiter ";".',
  });
}

function readLine(columns: readonly (string | null)[], fields: readonly string[], country: string) {
  if (fields.length !== columns.length) {
    const expected = `${columns.length} fields as in the header, found ${fields.length}`;
    return { lead: null, faults: [{ column: "line", value: null, expected }] };
  }
  return readLead(
    columns.flatMap((column, index) => (column === null ? [] : [[column, fields[index]] as const])),
    country,
  );
}

interface Outcome {
  readonly line: number;
  readonly outcome: "new" | "known" | "rejected";
  readonly column_name: string | null;
  readonly problem: string | null;
  readonly expected: string | null;
}

async function store(
  chunk: readonly ReadLine[],
  options: ImportOptions,
  counts: ImportCounts,
  reject: (rejected: RejectedLine) => void,
): Promise<void> {
  if (chunk.length === 0) return;
  const rows = chunk.map(({ line, lead }) => ({
    line,
    lead: { source: options.source, ...lead },
    evidence: { file: options.file, line },
  }));
  for (const { line, outcome, column_name, problem, expected } of await send(options, rows)) {
    if (outcome !== "rejected") {
      counts[outcome] += 1;
      continue;
    }
    const refused = chunk.find((one) => one.line === line);
    const value = column_name === null ? undefined : refused?.lead[column_name];
    const fault = {
      column: column_name ?? "line",
      value: value === undefined ? null : String(value).slice(0, 80),
      expected: [problem, expected].filter((text) => text !== null).join(". "),
    };
    reject({ line, fields: refused?.fields ?? [], faults: [fault] });
  }
}

/** A chunk is one statement, so after a deadlock or a lock timeout nothing was written and it can be repeated. */
async function send(options: ImportOptions, rows: readonly object[]): Promise<Outcome[]> {
  for (let attempt = 1; ; attempt++) {
    try {
      const { rows: outcomes } = await options.client.query<Outcome>(
        "select line, outcome, nullif(column_name, '') as column_name, problem, nullif(expected, '') as expected from brainops.import_leads($1, $2)",
        [options.tenantId, JSON.stringify(rows)],
      );
      return outcomes;
    } catch (error) {
      if (attempt === ATTEMPTS || !isTransient(error)) throw error;
    }
  }
}
