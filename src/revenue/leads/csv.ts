// CSV text -> records with the line each begins on. Collects the parser's records in on_record,
// because the parser's own stream discards the records before an error.
import { finished } from "node:stream/promises";
import { parse, type Parser } from "csv-parse";
import { codeOf } from "../../errors.ts";

export interface CsvRecord {
  /** Line number from 1; the first line of a record that spans several. */
  readonly line: number;
  readonly fields: readonly string[];
}

/** The text cannot be read from this line on: the line opens a quote that is never closed. */
export class UnclosedQuoteError extends Error {
  override name = "UnclosedQuoteError";
  readonly line: number;

  constructor(line: number, cause: unknown) {
    super(`line ${line}: a quote is opened and never closed`, { cause });
    this.line = line;
  }
}

// Bounds the memory that a quote that is never closed may use.
const MAX_RECORD_CHARACTERS = 256 * 1024;

/**
 * Yields the records in order, without blank ones. Throws an UnclosedQuoteError after the last record
 * that could be read.
 */
export async function* readCsv(text: AsyncIterable<string>, delimiter: string): AsyncGenerator<CsvRecord> {
  const queue: CsvRecord[] = [];
  // Lines are counted here, because the parser's count is wrong after a line break inside quotes.
  let end = { line: 0, blank: 0 };
  const parser = parse({
    bom: true,
    delimiter,
    relax_column_count: true,
    // A quote in the middle of a field is a literal: 5" pipe.
    relax_quotes: true,
    skip_empty_lines: true,
    max_record_size: MAX_RECORD_CHARACTERS,
    on_record: (fields: string[], { empty_lines: blank }) => {
      const line = end.line + (blank - end.blank) + 1;
      end = { line: line + fields.reduce((sum, field) => sum + (field.match(/\r\n|\r|\n/g)?.length ?? 0), 0), blank };
      if (fields.some((field) => field.trim() !== "")) queue.push({ line, fields });
      return null;
    },
  });
  parser.on("error", () => {
    // Reported by write() and finished() below; without a listener, Node would throw the error.
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

/** Resolves when the chunk is parsed, with the parser's error or null. */
function write(parser: Parser, chunk: string): Promise<Error | null> {
  return new Promise((resolve) => {
    parser.write(chunk, (error) => resolve(error ?? null));
  });
}
