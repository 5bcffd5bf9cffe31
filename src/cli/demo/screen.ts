// The demo's output: chapters, lines with the time since the start, SQL statements and their results.
import { paint, printable, type Tone } from "../terminal.ts";

export interface Screen {
  chapter(title: string): void;
  say(text: string, tone?: Tone): void;
  /** Shows SQL with the login's prompt, runs it, and shows the result. Lines written during the run appear after the result. */
  statement<T>(login: string, text: string, run: () => Promise<Answered<T>>): Promise<T>;
}

export interface Answered<T> {
  readonly value: T;
  readonly answer: string;
  /** @default faint */
  readonly tone?: Tone;
}

const INDENT = " ".repeat(10);

export function createScreen(): Screen {
  const began = performance.now();
  let held: string[] | null = null;
  const write = (line: string): void => {
    if (held === null) process.stdout.write(`${line}\n`);
    else held.push(line);
  };
  return {
    chapter: (title) => write(`\n${paint("strong", title)}`),
    say: (text, tone) => {
      const seconds = ((performance.now() - began) / 1000).toFixed(2).padStart(6);
      const line = printable(text);
      write(`${paint("faint", `${seconds} s`)}  ${tone === undefined ? line : paint(tone, line)}`);
    },
    statement: async (login, text, run) => {
      const prompt = `${login}=> `;
      const lines = text.split("\n").map((line, index) => {
        const margin = index === 0 ? paint("faint", prompt) : " ".repeat(prompt.length);
        return `${INDENT}${margin}${paint("accent", printable(line))}`;
      });
      write(lines.join("\n"));
      held = [];
      try {
        const { value, answer, tone } = await run();
        held.unshift(`${INDENT}${paint(tone ?? "faint", printable(answer))}`);
        return value;
      } finally {
        const pending: readonly string[] = held;
        held = null;
        pending.forEach(write);
      }
    },
  };
}
