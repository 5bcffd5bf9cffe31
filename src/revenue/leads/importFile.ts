// Imports a CSV file of leads in chunks, so memory does not grow with the file. Lines are independent,
// and an import can be repeated: a person who is a lead already is updated.
import type pg from "pg";
import { isTransient } from "../../db/pool.ts";
import { BrainOpsError } from "../../errors.ts";
import { columnsOf, type FileColumn } from "./columns.ts";
import { readCsv, UnclosedQuoteError } from "./csv.ts";
import { sniffDelimiter } from "./delimiter.ts";
import { readLead, type LeadFault, type LeadInput, type LeadReading } from "./fields.ts";
import type { Place } from "./place.ts";

/** A line that was rejected, or that was imported without the fields that have a fault. */
export interface FaultyLine {
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
  /** Of the new and known ones, those of which a field was left out. */
  incomplete: number;
}

export interface ImportOptions {
  readonly client: pg.ClientBase;
  readonly tenantId: string;
  /** Decides how phone numbers, amounts and dates are read. */
  readonly place: Place;
  /** Source of leads whose line has no source. */
  readonly source: string;
  /** Name of the file, stored as evidence of the consents in it. */
  readonly file: string;
  /** Separator of fields; null: found out from the first line. */
  readonly delimiter: string | null;
  /** Heading -> column, metadata.key or - (left out), for headings that are not known. @default none */
  readonly map?: ReadonlyMap<string, string>;
  /** Stores nothing: each chunk is rolled back. People who occur in two chunks count as new twice. @default false */
  readonly dryRun?: boolean;
  readonly onHeader?: (columns: readonly FileColumn[], delimiter: string) => void;
  readonly onRejected: (line: FaultyLine) => void;
  /** A line of which fields were left out. It may be rejected nevertheless. */
  readonly onIncomplete?: (line: FaultyLine) => void;
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

/** Imports CSV text. Throws OP013 for an empty file, and as columnsOf does. */
export async function importLeads(text: AsyncIterable<string>, options: ImportOptions): Promise<ImportCounts> {
  const counts: ImportCounts = { new: 0, known: 0, rejected: 0, incomplete: 0 };
  const reject = (rejected: FaultyLine): void => {
    counts.rejected += 1;
    options.onRejected(rejected);
  };
  let columns: readonly FileColumn[] | null = null;
  let chunk: ReadLine[] = [];
  const flush = async (): Promise<void> => {
    if (chunk.length === 0) return;
    await store(chunk, options, counts, reject);
    chunk = [];
    options.onProgress?.(counts);
  };
  try {
    const { delimiter, text: whole } = await sniffDelimiter(text, options.delimiter);
    for await (const { line, fields } of readCsv(whole, delimiter)) {
      if (columns === null) {
        columns = columnsOf(fields, delimiter, options.map ?? new Map());
        options.onHeader?.(columns, delimiter);
        continue;
      }
      const { lead, faults } = readLine(columns, fields, options.place);
      if (lead === null) {
        reject({ line, fields, faults });
        continue;
      }
      if (faults.length > 0) {
        counts.incomplete += 1;
        options.onIncomplete?.({ line, fields, faults });
      }
      chunk.push({ line, fields, lead });
      if (chunk.length === LINES_PER_CHUNK) await flush();
    }
  } catch (error) {
    if (!(error instanceof UnclosedQuoteError) || columns === null) throw error;
    const expected = "a closing quote; the file was not read from this line on";
    reject({ line: error.line, fields: [], faults: [{ column: "line", value: null, expected }] });
  }
  if (columns === null) {
    throw new BrainOpsError("OP013", "header: the file is empty", {
      hint: "The first line must name the columns, one of them email or phone.",
    });
  }
  await flush();
  return counts;
}

function readLine(columns: readonly FileColumn[], fields: readonly string[], place: Place): LeadReading {
  if (fields.length !== columns.length) {
    const expected = `${columns.length} fields as in the header, found ${fields.length}`;
    return { lead: null, faults: [{ column: "line", value: null, expected }] };
  }
  const filled = new Set<string>();
  return readLead(
    columns.flatMap(({ column, surplusKey }, index) => {
      const value = fields[index] ?? "";
      if (column === null || value.trim() === "") return [];
      // The first column with a value counts; the others are kept in metadata.
      const key = filled.has(column) ? surplusKey : column;
      filled.add(column);
      return [[key, value] as const];
    }),
    place,
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
  reject: (rejected: FaultyLine) => void,
): Promise<void> {
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
      if (options.dryRun === true) await options.client.query("begin");
      const { rows: outcomes } = await options.client.query<Outcome>(
        "select line, outcome, nullif(column_name, '') as column_name, problem, nullif(expected, '') as expected from brainops.import_leads($1, $2)",
        [options.tenantId, JSON.stringify(rows)],
      );
      return outcomes;
    } catch (error) {
      if (attempt === ATTEMPTS || !isTransient(error)) throw error;
    } finally {
      if (options.dryRun === true) await options.client.query("rollback");
    }
  }
}
