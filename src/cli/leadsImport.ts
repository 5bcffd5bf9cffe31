// `brainops leads import`: progress and rejected lines on stderr, the counts on stdout.
import { createReadStream, createWriteStream, type WriteStream } from "node:fs";
import { once } from "node:events";
import { basename } from "node:path";
import type { Readable } from "node:stream";
import { loadConfig } from "../config.ts";
import { BrainOpsError } from "../errors.ts";
import { isLeadColumn, NAME_PARTS, type FileColumn } from "../revenue/leads/columns.ts";
import { importLeads, type FaultyLine, type ImportCounts } from "../revenue/leads/importFile.ts";
import { placeOf } from "../revenue/leads/place.ts";
import { requireDatabaseUrl, withClient } from "./database.ts";
import { printable, table } from "./terminal.ts";

export interface ImportFlags {
  readonly tenant: string;
  readonly source: string;
  readonly delimiter: string;
  readonly rejects?: string;
  readonly map: readonly string[];
  readonly dryRun: boolean;
}

/** Imports a CSV file ("-" for stdin) and prints the counts. Exits with 1 if a line was rejected. */
export async function importFile(file: string, flags: ImportFlags): Promise<void> {
  const name = file === "-" ? "stdin" : basename(file);
  const delimiter = delimiterOf(flags.delimiter);
  const map = mapOf(flags.map);
  const report = new ImportReport(flags.rejects ?? null);
  const counts = await withClient(requireDatabaseUrl(loadConfig()), "leads", async (client) => {
    const { rows } = await client.query<{ id: string }>("select id from public.tenants where slug = $1", [
      flags.tenant,
    ]);
    const tenant = rows[0];
    if (tenant === undefined) {
      throw new BrainOpsError("OP009", `tenant ${JSON.stringify(flags.tenant)} does not exist`, {
        hint: "List the tenants: brainops tenant list",
      });
    }
    return importLeads(decode(file === "-" ? process.stdin : createReadStream(file), name), {
      client,
      tenantId: tenant.id,
      place: await placeOf(client, tenant.id),
      source: flags.source,
      file: name,
      delimiter,
      map,
      dryRun: flags.dryRun,
      onHeader: (columns, separator) => report.begin(columns, separator),
      onRejected: (line) => report.rejected(line),
      onIncomplete: (line) => report.incomplete(line),
      onProgress: (counted) => report.progress(counted),
    });
  }).finally(() => report.end());
  process.stdout.write(
    table(
      ["file", "new", "known", "rejected", "incomplete"],
      [[name, counts.new, counts.known, counts.rejected, counts.incomplete]],
    ),
  );
  if (flags.dryRun) process.stderr.write("dry run: nothing was stored\n");
  if (counts.rejected > 0) process.exitCode = 1;
}

/** The character; null for auto. */
function delimiterOf(flag: string): string | null {
  if (flag === "auto") return null;
  const delimiter = flag === "\\t" ? "\t" : flag;
  if (delimiter.length !== 1 || /["\r\n]/.test(delimiter)) {
    throw new BrainOpsError("OP005", "--delimiter: expected one character such as ; or \\t, or auto");
  }
  return delimiter;
}

function mapOf(flags: readonly string[]): Map<string, string> {
  return new Map(
    flags.map((flag) => {
      const at = flag.lastIndexOf("=");
      if (at < 1 || at === flag.length - 1) {
        throw new BrainOpsError(
          "OP005",
          `--map: ${JSON.stringify(flag)}; expected heading=column, for example "E-Post=email"`,
        );
      }
      return [flag.slice(0, at).trim(), flag.slice(at + 1).trim()] as const;
    }),
  );
}

/** Decodes UTF-8. Throws OP005 for other bytes, which would otherwise be replaced silently. */
async function* decode(bytes: Readable, name: string): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  try {
    for await (const chunk of bytes as AsyncIterable<Buffer>) yield decoder.decode(chunk, { stream: true });
    yield decoder.decode();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new BrainOpsError("OP005", `${name} is not in UTF-8`, {
      hint: 'Save it as "CSV UTF-8" and import it again; leads that were imported already are not duplicated.',
      cause: error,
    });
  }
}

// Prints no more faulty lines than a screen can show.
const MAX_SHOWN_LINES = 20;

class ImportReport {
  readonly #path: string | null;
  #rejects: WriteStream | null = null;
  #delimiter = ",";
  #faulty = 0;
  #onBar = false;

  constructor(path: string | null) {
    this.#path = path;
  }

  begin(columns: readonly FileColumn[], delimiter: string): void {
    this.#delimiter = delimiter;
    this.#say(`columns: ${columns.map(targetOf).join("; ")}`);
    if (this.#path === null) return;
    this.#rejects = createWriteStream(this.#path);
    // end() throws the error, because it waits for "close". Without this listener, Node would throw it here.
    this.#rejects.on("error", () => {});
    this.#write(["rejected_line", "rejected_because", ...columns.map(({ heading }) => heading)]);
  }

  rejected(line: FaultyLine): void {
    this.#report(line, "");
  }

  incomplete(line: FaultyLine): void {
    this.#report(line, "left out: ");
  }

  #report({ line, fields, faults }: FaultyLine, before: string): void {
    const reasons = faults.map(({ column, value, expected }) =>
      value === null ? `${column}: expected ${expected}` : `${column}: ${JSON.stringify(value)}; expected ${expected}`,
    );
    const because = before + reasons.join("; ");
    this.#write([String(line), because, ...fields]);
    this.#faulty += 1;
    if (this.#faulty <= MAX_SHOWN_LINES) this.#say(`line ${line}: ${printable(because)}`);
  }

  progress(counts: Readonly<ImportCounts>): void {
    const text = `${counts.new + counts.known + counts.rejected} lines: ${counts.new} new, ${counts.known} known, ${counts.rejected} rejected, ${counts.incomplete} incomplete`;
    if (!process.stderr.isTTY) return this.#say(text);
    process.stderr.write(`\r\u001B[K${text}`);
    this.#onBar = true;
  }

  async end(): Promise<void> {
    const hidden = this.#faulty - MAX_SHOWN_LINES;
    if (hidden > 0) {
      this.#say(`and ${hidden} more lines${this.#path === null ? "; --rejects <file> writes them all" : ""}`);
    } else if (this.#onBar) process.stderr.write("\n");
    if (this.#rejects === null) return;
    this.#rejects.end();
    if (!this.#rejects.closed) await once(this.#rejects, "close");
  }

  #say(line: string): void {
    process.stderr.write(`${this.#onBar ? "\n" : ""}${line}\n`);
    this.#onBar = false;
  }

  /** With the file's own separator, so that the corrected file is imported with the same flags. */
  #write(fields: readonly string[]): void {
    const written = fields.map((field) =>
      field.includes(this.#delimiter) || /["\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field,
    );
    this.#rejects?.write(`${written.join(this.#delimiter)}\n`);
  }
}

/** Where a column of the file goes, for the person who imports it. */
function targetOf({ heading, column }: FileColumn): string {
  const shown = printable(heading.trim());
  if (column === null) return `${shown === "" ? "(no heading)" : shown} is left out`;
  if (NAME_PARTS.some((part) => part === column)) return `${shown} -> contact_name`;
  return `${shown} -> ${isLeadColumn(column) ? column : `metadata.${printable(column)}`}`;
}
