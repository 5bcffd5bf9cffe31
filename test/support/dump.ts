// What pg_dump writes, as a set of statements that can be compared with another dump's.

/** An old name and its new one, as whole words; of a trigger if `table` is given. */
export interface Rename {
  readonly from: string;
  readonly to: string;
  readonly table?: string;
}

export interface NormalizeOptions {
  /** Applied to each statement, in order. */
  readonly renames: readonly Rename[];
  /** Leaves out comments (`comment on`, and those within function bodies) and prose (messages, hints). */
  readonly ignoreText: boolean;
}

/** Reads `old => new` and `trigger on table => trigger on table`; other lines (headings, titles of tests) are passed over. */
export function readRenames(text: string): Rename[] {
  return text.split("\n").flatMap((line): Rename[] => {
    const [, from, table, to] = /^(?!#)(\S+)(?: on (\S+))? => (\S+)(?: on \S+)?$/.exec(line.trim()) ?? [];
    if (from === undefined || to === undefined) return [];
    return [table === undefined ? { from, to } : { from, to, table }];
  });
}

/** The statements of a dump, without pg_dump's own remarks and settings. */
export function statementsOf(dump: string): string[] {
  const lines = dump
    .split("\n")
    .filter((line) => !/^(?:--|\\(?:un)?restrict|SET |SELECT pg_catalog\.set_config)/.test(line));
  const statements: string[] = [];
  let statement: string[] = [];
  let quote: string | null = null;
  for (const line of lines) {
    if (statement.length === 0 && line.trim() === "") continue;
    statement.push(line);
    quote = quoteAfter(line, quote);
    if (quote === null && line.endsWith(";")) {
      statements.push(statement.join("\n"));
      statement = [];
    }
  }
  return statements;
}

/** What is open at the end of the line: a dollar quote's tag, a string (') or nothing. */
function quoteAfter(line: string, open: string | null): string | null {
  let quote = open;
  for (const [token] of line.matchAll(/\$\w*\$|'/g)) {
    if (quote === null) quote = token;
    else if (quote === token) quote = null;
  }
  return quote;
}

/** The dump's statements in one spelling; see NormalizeOptions for what is left out. */
export function normalizedStatements(dump: string, { renames, ignoreText }: NormalizeOptions): Set<string> {
  const replacements = renames.map(replacement);
  const result = new Set<string>();
  for (const statement of statementsOf(dump)) {
    if (ignoreText && statement.startsWith("COMMENT ON")) continue;
    let text = statement;
    for (const replace of replacements) text = replace(text);
    if (ignoreText) text = withoutText(text);
    if (/^CREATE (?:UNLOGGED )?TABLE /.test(text)) text = withSortedColumns(text);
    result.add(folded(text));
  }
  return result;
}

function replacement({ from, to, table }: Rename): (statement: string) => string {
  if (table !== undefined) {
    const start = `CREATE TRIGGER ${from} `;
    return (statement) =>
      statement.startsWith(start) && statement.includes(` ON ${table} `)
        ? statement.replace(start, `CREATE TRIGGER ${to} `)
        : statement;
  }
  // A name without a schema may follow an alias (job.bulk_column).
  const before = from.includes(".") ? String.raw`[\w.]` : String.raw`\w`;
  const pattern = new RegExp(String.raw`(?<!${before})${from.replaceAll(".", String.raw`\.`)}(?!\w)`, "g");
  return (statement) => statement.replace(pattern, to);
}

// Prose is a literal with a space in it that does not begin as SQL does.
function withoutText(statement: string): string {
  const code = /^'\s*(?:select|update|insert|delete|with|alter|create|drop|grant|revoke|from|case|lock|,)\b/i;
  return statement
    .replaceAll(/--[^\n]*/g, "")
    .replaceAll(/'(?:[^']|'')*'/g, (literal) => (literal.includes(" ") && !code.test(literal) ? "''" : literal));
}

// The formatter breaks lines by the length of names, so white space says nothing.
function folded(statement: string): string {
  return statement.replaceAll(/\s+/g, " ").replaceAll(/\s?([(),;[\]])\s?/g, "$1");
}

function withSortedColumns(statement: string): string {
  const [first = "", ...rest] = statement.split("\n");
  const end = rest.findIndex((line) => line.startsWith(")"));
  const columns = rest.slice(0, end).map((line) => line.replace(/,$/, ""));
  return [first, ...columns.toSorted(), ...rest.slice(end)].join("\n");
}
