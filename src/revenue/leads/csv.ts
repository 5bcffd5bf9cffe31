// CSV text -> records with the line that each begins in. Owns the parser: its output goes into a
// queue of ours, because its stream forgets the records before an error together with the error.
import { finished } from "node:stream/promises";
import { parse, type Parser } from "csv-parse";
import { codeOf } from "../../errors.ts";

export interface CsvRecord {
  /** From 1; of a record over several lines the first. */
  readonly line: number;
  readonly fields: readonly string[];
}

/** From this line on the text can't be read: a quote is opened in it and never closed. */
export class UnclosedQuoteError extends Error {
  override name = "UnclosedQuoteError";
  readonly line: number;

  constructor(line: number, cause: unknown) {
    super(`line ${line}: a quote is opened and not closed`, { cause });
    this.line = line;
  }
}

// What a quote that is never closed may take into memory.
const LARGEST_RECORD = 256 * 1024;

/** Yields the records in order, then throws an UnclosedQuoteError if there is one. Blank lines are left out. */
export async function* readCsv(text: AsyncIterable<string>, delimiter: string): AsyncGenerator<CsvRecord> {
  const queue: CsvRecord[] = [];
  // Counted here: the parser's own count goes astray at a line break inside quotes.
  let end = { line: 0, blank: 0 };
  const parser = parse({
    bom: true,
    delimiter,
    relax_column_count: true,
    // A quote in the middle of a field is a quote: 5" pipe.
    relax_quotes: true,
    skip_empty_lines: true,
    max_record_size: LARGEST_RECORD,
    on_record: (fields: string[], { empty_lines: blank }) => {
      const line = end.line + (blank - end.blank) + 1;
      end = { line: line + fields.reduce((sum, field) => sum + (field.match(/\r\n|\r|\n/g)?.length ?? 0), 0), blank };
      if (fields.some((field) => field.trim() !== "")) queue.push({ line, fields });
      return null;
    },
  });
  parser.on("error", () => {
    // Told by write and finished.
  });
  parser.resume();
  let error: unknown = null;
  for await (const chunk of text) {
    error = await write(parser, chunk);
    yield* queue.splice(0);
    if (error !== null) break;
  }
  if (error === null) {
    parser.end();
    error = await finished(parser).then(
      () => null,
      (reason: unknown) => reason,
    );
    yield* queue.splice(0);
  }
  if (error === null) return;
  const code = codeOf(error);
  const isQuote = code === "CSV_QUOTE_NOT_CLOSED" || code === "CSV_MAX_RECORD_SIZE";
  throw isQuote ? new UnclosedQuoteError(end.line + 1, error) : error;
}

/** Resolves once the chunk is parsed, with what is wrong with it. */
function write(parser: Parser, chunk: string): Promise<Error | null> {
  return new Promise((resolve) => {
    parser.write(chunk, (error) => resolve(error ?? null));
  });
}
