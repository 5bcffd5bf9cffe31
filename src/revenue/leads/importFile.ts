// A CSV file of leads -> leads, part by part: memory stays flat however long the file is. Each line
// stands alone, and every line may come again: who is a lead already stays one.
import type pg from "pg";
import { isPassing } from "../../db/pool.ts";
import { BrainOpsError } from "../../errors.ts";
import { readCsv, UnclosedQuoteError } from "./csv.ts";
import { columnOf, isLeadColumn, readLead, type LeadFault, type LeadInput } from "./fields.ts";

export interface RejectedLine {
  /** In the file, from 1; the header is a line as well. */
  readonly line: number;
  readonly fields: readonly string[];
  readonly faults: readonly LeadFault[];
}

export interface ImportCounts {
  /** People that nobody knew, who are leads now. */
  new: number;
  /** Lines of people who are leads already; what they add is added. */
  known: number;
  rejected: number;
}

export interface ImportOptions {
  readonly client: pg.ClientBase;
  readonly tenantId: string;
  /** Whose national phone numbers are meant, e.g. US. */
  readonly country: string;
  /** Source of leads whose line says none. */
  readonly source: string;
  /** Name of the file, kept as evidence of the consents in it. */
  readonly file: string;
  readonly delimiter: string;
  readonly onHeader?: (header: readonly string[]) => void;
  readonly onRejected: (line: RejectedLine) => void;
  /** Called after each part. */
  readonly onProgress?: (counts: Readonly<ImportCounts>) => void;
}

// So many that a round trip does not count, so few that its locks are short.
const PER_PART = 500;
const ATTEMPTS = 5;

interface ReadLine {
  readonly line: number;
  readonly fields: readonly string[];
  readonly lead: LeadInput;
}

/** Imports CSV text. Throws OP013 where the header has neither an e-mail nor a phone column. */
export async function importLeads(text: AsyncIterable<string>, options: ImportOptions): Promise<ImportCounts> {
  const counts: ImportCounts = { new: 0, known: 0, rejected: 0 };
  const reject = (rejected: RejectedLine): void => {
    counts.rejected += 1;
    options.onRejected(rejected);
  };
  let columns: readonly (string | null)[] | null = null;
  let part: ReadLine[] = [];
  const flush = async (): Promise<void> => {
    await store(part, options, counts, reject);
    part = [];
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
      else part.push({ line, fields, lead: reading.lead });
      if (part.length === PER_PART) await flush();
    }
  } catch (error) {
    if (!(error instanceof UnclosedQuoteError) || columns === null) throw error;
    const expected = "a closing quote: nothing from this line on could be read";
    reject({ line: error.line, fields: [], faults: [{ column: "line", value: null, expected }] });
  }
  if (columns === null) throw headerFault("the file is empty");
  await flush();
  return counts;
}

/** The column of each heading; null for one without a name, and for what an earlier import wrote beside a line. */
function columnsOf(header: readonly string[], delimiter: string): (string | null)[] {
  const columns = header.map((heading) => columnOf(heading));
  const twice = columns.find((column, index) => isLeadColumn(column) && columns.indexOf(column) !== index);
  if (twice !== undefined) {
    throw headerFault(
      `two columns mean ${twice}: ${header.filter((heading) => columnOf(heading) === twice).join(", ")}`,
    );
  }
  if (!columns.includes("email") && !columns.includes("phone")) {
    throw headerFault(`no column email or phone among: ${header.join(", ").slice(0, 200)} (separator "${delimiter}")`);
  }
  return columns.map((column) => (column === "" || column.startsWith("rejected_") ? null : column));
}

function headerFault(problem: string): BrainOpsError {
  return new BrainOpsError("OP013", `header: ${problem}`, {
    hint: 'The first line names the columns, one of them email or phone. For another separator: --delimiter ";".',
  });
}

function readLine(columns: readonly (string | null)[], fields: readonly string[], country: string) {
  if (fields.length !== columns.length) {
    const expected = `${columns.length} fields as in the header, not ${fields.length}`;
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
  part: readonly ReadLine[],
  options: ImportOptions,
  counts: ImportCounts,
  reject: (rejected: RejectedLine) => void,
): Promise<void> {
  if (part.length === 0) return;
  const rows = part.map(({ line, lead }) => ({
    line,
    lead: { source: options.source, ...lead },
    evidence: { file: options.file, line },
  }));
  for (const { line, outcome, column_name, problem, expected } of await send(options, rows)) {
    if (outcome !== "rejected") {
      counts[outcome] += 1;
      continue;
    }
    const refused = part.find((one) => one.line === line);
    const value = column_name === null ? undefined : refused?.lead[column_name];
    const fault = {
      column: column_name ?? "line",
      value: value === undefined ? null : String(value).slice(0, 80),
      expected: [problem, expected].filter((words) => words !== null).join(". "),
    };
    reject({ line, fields: refused?.fields ?? [], faults: [fault] });
  }
}

/** A part is one statement, so one that met a deadlock or a lost lock has done nothing and goes again. */
async function send(options: ImportOptions, rows: readonly object[]): Promise<Outcome[]> {
  for (let attempt = 1; ; attempt++) {
    try {
      const { rows: outcomes } = await options.client.query<Outcome>(
        "select line, outcome, nullif(column_name, '') as column_name, problem, nullif(expected, '') as expected from brainops.import_leads($1, $2)",
        [options.tenantId, JSON.stringify(rows)],
      );
      return outcomes;
    } catch (error) {
      if (attempt === ATTEMPTS || !isPassing(error)) throw error;
    }
  }
}
