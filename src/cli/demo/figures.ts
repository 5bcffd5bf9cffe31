// The demo's figures: what the story must result in, and what was found.
import { paint, table, type Cell } from "../terminal.ts";

export interface Figure {
  readonly what: string;
  readonly expected: string | number;
  readonly found: string | number;
  /** @default found equals expected */
  readonly right?: boolean;
}

export function isRight(figure: Figure): boolean {
  return figure.right ?? figure.found === figure.expected;
}

export function renderFigures(figures: readonly Figure[]): string {
  const rows = figures.map((figure): Cell[] => {
    const right = isRight(figure);
    return [
      right ? { text: "✓", tone: "good" } : { text: "✗", tone: "bad" },
      figure.what,
      String(figure.expected),
      right ? String(figure.found) : { text: String(figure.found), tone: "bad" },
    ];
  });
  const wrong = figures.filter((figure) => !isRight(figure)).length;
  const verdict =
    wrong === 0
      ? paint("good", `All ${figures.length} figures are right.`)
      : paint("bad", `${wrong} of ${figures.length} figures are wrong.`);
  return `${table(["", "figure", "expected", "found"], rows)}\n${verdict}\n`;
}
