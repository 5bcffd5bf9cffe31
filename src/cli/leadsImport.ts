// `brainops leads import`: progress and rejected lines on stderr, the counts on stdout.
import { createReadStream, createWriteStream, type WriteStream } from "node:fs";
import { once } from "node:events";
import { basename } from "node:path";
import type { Readable } from "node:stream";
import { loadConfig } from "../config.ts";
import { BrainOpsError } from "../errors.ts";
import { countryOf } from "../revenue/leads/country.ts";
import { importLeads, type ImportCounts, type RejectedLine } from "../revenue/leads/importFile.ts";
import { requireDatabaseUrl, withClient } from "./database.ts";
import { printable, table } from "./terminal.ts";

export interface ImportFlags {
  readonly tenant: string;
  readonly source: string;
  readonly delimiter: string;
  readonly rejects?: string;
}

/** Imports a CSV file ("-" for stdin) and prints the counts. Exits with 1 if a line was rejected. */
export async function importFile(file: string, flags: ImportFlags): Promise<void> {
  const name = file === "-" ? "stdin" : basename(file);
  const delimiter = flags.delimiter === "\\t" ? "\t" : flags.delimiter;
  if (delimiter.length !== 1 || /["\r\n]/.test(delimiter)) {
    throw new BrainOpsError("OP005", "--delimiter: expected one character such as ; or \\t");
  }
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
      country: await countryOf(client, tenant.id),
      source: flags.source,
      file: name,
      delimiter,
      onHeader: (header) => report.begin(header),
      onRejected: (line) => report.rejected(line),
      onProgress: (counted) => report.progress(counted),
    });
  }).finally(() => report.end());
  process.stdout.write(
    table(["file", "new", "known", "rejected"], [[name, counts.new, counts.known, counts.rejected]]),
  );
  if (counts.rejected > 0) process.exitCode = 1;
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

// Prints no more rejected lines than a screen can show.
const MAX_SHOWN_REJECTS = 20;

class ImportReport {
  readonly #path: string | null;
  #rejects: WriteStream | null = null;
  #rejected = 0;
  #onBar = false;

  constructor(path: string | null) {
    this.#path = path;
  }

  begin(header: readonly string[]): void {
    if (this.#path === null) return;
    this.#rejects = createWriteStream(this.#path);
    // end() throws the error, because it waits for "close". Without this listener, Node would throw it here.
    this.#rejects.on("error", () => {});
    this.#write(["rejected_line", "rejected_because", ...header]);
  }

  rejected({ line, fields, faults }: RejectedLine): void {
    const reasons = faults.map(({ column, value, expected }) =>
      value === null ? `${column}: expected ${expected}` : `${column}: ${JSON.stringify(value)}; expected ${expected}`,
    );
    const because = reasons.join("; ");
    this.#write([String(line), because, ...fields]);
    this.#rejected += 1;
    if (this.#rejected <= MAX_SHOWN_REJECTS) this.#say(`line ${line}: ${printable(because)}`);
  }

  progress(counts: Readonly<ImportCounts>): void {
    const text = `${counts.new + counts.known + counts.rejected} lines: ${counts.new} new, ${counts.known} known, ${counts.rejected} rejected`;
    if (!process.stderr.isTTY) return this.#say(text);
    process.stderr.write(`\r\u001B[K${text}`);
    this.#onBar = true;
  }

  async end(): Promise<void> {
    const hidden = this.#rejected - MAX_SHOWN_REJECTS;
    if (hidden > 0) {
      this.#say(`and ${hidden} more rejected lines${this.#path === null ? "; --rejects <file> writes them all" : ""}`);
    } else if (this.#onBar) process.stderr.write("\n");
    if (this.#rejects === null) return;
    this.#rejects.end();
    if (!this.#rejects.closed) await once(this.#rejects, "close");
  }

  #say(line: string): void {
    process.stderr.write(`${this.#onBar ? "\n" : ""}${line}\n`);
    this.#onBar = false;
  }

  #write(fields: readonly string[]): void {
    this.#rejects?.write(
      `${fields.map((field) => (/[",;\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field)).join(",")}\n`,
    );
  }
}
