// Output of commands. Colours only on a terminal: util.styleText checks the stream, NO_COLOR and
// FORCE_COLOR. Control characters are removed from text of the database, so that a lead's name cannot
// control an admin's terminal.
import { stripVTControlCharacters, styleText } from "node:util";

export type Tone = "good" | "bad" | "warn" | "faint" | "strong" | "accent";

const formats = {
  good: "green",
  bad: "red",
  warn: "yellow",
  faint: "gray",
  strong: "bold",
  accent: "cyan",
} as const satisfies Record<Tone, string>;

/** The text in the tone's colour; unchanged if stdout is not a terminal. */
export function paint(tone: Tone, text: string): string {
  return styleText(formats[tone], text, { stream: process.stdout });
}

/** One line without control characters; a line break becomes a space. */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what this removes
  return stripVTControlCharacters(text).replaceAll(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]+/g, " ");
}

/** Numbers are right-aligned; null is shown as a dash. */
export type Cell = string | number | null | { readonly text: string | number; readonly tone: Tone };

/** The lines of a table with two spaces between columns. On a terminal, the last column is cut at the edge. */
export function table(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const grid = rows.map((row) => row.map(shapeOf));
  const widths = head.map((title, column) =>
    Math.max(title.length, ...grid.map((row) => row[column]?.text.length ?? 0)),
  );
  const rightward = head.map((_title, column) => {
    const cells = grid.map((row) => row[column]).filter((cell) => cell !== undefined && cell.text !== "-");
    return cells.length > 0 && cells.every((cell) => cell?.isNumber === true);
  });
  const place = (text: string, column: number): string => {
    const width = widths[column] ?? 0;
    if (rightward[column] === true) return text.padStart(width);
    return column === head.length - 1 ? cut(text, widths) : text.padEnd(width);
  };
  const lines = [
    head.map((title, column) => paint("strong", place(title, column))).join("  "),
    ...grid.map((row) =>
      row
        .map(({ text, tone }, column) => (tone === null ? place(text, column) : paint(tone, place(text, column))))
        .join("  "),
    ),
  ];
  return lines.map((line) => `${line.trimEnd()}\n`).join("");
}

interface Shape {
  readonly text: string;
  readonly isNumber: boolean;
  readonly tone: Tone | null;
}

function shapeOf(cell: Cell): Shape {
  if (cell === null) return { text: "-", isNumber: false, tone: "faint" };
  const { text, tone } = typeof cell === "object" ? cell : { text: cell, tone: null };
  return { text: printable(String(text)), isNumber: typeof text === "number", tone };
}

function cut(text: string, widths: readonly number[]): string {
  if (!process.stdout.isTTY) return text;
  const before = widths.slice(0, -1).reduce((sum, width) => sum + width + 2, 0);
  const room = Math.max(process.stdout.columns - before, 10);
  return text.length <= room ? text : `${text.slice(0, room - 1)}…`;
}

/** A duration as 0.4 s, 12 s, 3 min, 5 h or 2 d. */
export function duration(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}
