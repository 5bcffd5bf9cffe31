// The few facts about a query's text that the server needs. Conveniences depend on them, permissions never do.

/** A LISTEN (channel), UNLISTEN (channel) or UNLISTEN * (null) in a query. */
export interface ListenCommand {
  readonly verb: "listen" | "unlisten";
  readonly channel: string | null;
}

/** The statements of a query without comments and literals, split at the semicolons outside of both. */
function statements(sql: string): string[] {
  const token = /--[^\n]*|\/\*[\s\S]*?\*\/|'(?:[^']|'')*'|\$([A-Za-z_]\w*)?\$[\s\S]*?\$\1\$|"(?:[^"]|"")*"|;/g;
  const plain = sql.replace(token, (match) => {
    if (match === ";") return "\0";
    return match.startsWith('"') ? match : " ";
  });
  return plain.split("\0").map((statement) => statement.trim());
}

/** An identifier folded as Postgres does, truncated to 63 bytes. */
function fold(identifier: string): string {
  const name = identifier.startsWith('"') ? identifier.slice(1, -1).replaceAll('""', '"') : identifier.toLowerCase();
  const bytes = Buffer.from(name);
  return bytes.length <= 63
    ? name
    : bytes
        .subarray(0, 63)
        .toString("utf8")
        .replace(/\uFFFD+$/, "");
}

export function listenCommands(sql: string): ListenCommand[] {
  if (!/listen/i.test(sql)) return [];
  const commands: ListenCommand[] = [];
  for (const statement of statements(sql)) {
    const match = /^(un)?listen\s*(\*|"(?:[^"]|"")+"|[\p{L}_][\p{L}\p{N}_$]*)$/iu.exec(statement);
    if (match === null) continue;
    const [, un, target = "*"] = match;
    commands.push({ verb: un === undefined ? "listen" : "unlisten", channel: target === "*" ? null : fold(target) });
  }
  return commands;
}

/** The name in `DEALLOCATE name`; null for DEALLOCATE ALL and for any other query. */
export function deallocatedName(sql: string): string | null {
  if (!/^\s*deallocate/i.test(sql)) return null;
  const match = /^\s*deallocate\s+(?:prepare\s+)?("(?:[^"]|"")+"|[A-Za-z_][\w$]*)\s*;?\s*$/i.exec(sql);
  const name = match?.[1];
  return name === undefined || name.toLowerCase() === "all" ? null : fold(name);
}

/** Whether the query consists of one COPY … FROM STDIN only. */
export function isCopyFromStdin(sql: string): boolean {
  if (!/\bcopy\b/i.test(sql) || !/\bstdin\b/i.test(sql)) return false;
  const parts = statements(sql).filter((statement) => statement !== "");
  return parts.length === 1 && /^copy\b[\s\S]*\bfrom\s+stdin\b/i.test(parts[0] ?? "");
}

/** A string literal that does not depend on standard_conforming_strings. */
export const literal = (text: string): string => `E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;

export const identifier = (name: string): string => `"${name.replaceAll('"', '""')}"`;
