// Counts what rendering takes while it goes on, and stops it at a limit. Rendering is synchronous and a thread renders
// one row at a time, so there is one meter.
import { toValue } from "liquidjs";
import { LIMITS, limitError, shown } from "./limits.ts";

interface Meter {
  /** What is being rendered: subject or body. */
  what: string;
  /** Characters that the output may have in the end. */
  limit: number;
  /** UTF-16 units that it may have before white space is dropped, and has. */
  most: number;
  written: number;
  depth: number;
  steps: number;
  /** cpuMs() at which rendering ends. */
  end: number;
}

const meter: Meter = {
  what: "body",
  limit: LIMITS.bodyCharacters,
  most: LIMITS.bodyCharacters,
  written: 0,
  depth: 0,
  steps: 0,
  end: Infinity,
};

/** Node 22 cannot measure a thread's processor time. */
const measuresThreads = typeof (process as { threadCpuUsage?: unknown }).threadCpuUsage === "function";

/** Processor time of this thread in milliseconds; wall-clock time where Node cannot measure it. */
export function cpuMs(): number {
  if (!measuresThreads) return performance.now();
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

/** Starts the time of a row. `limitMs` milliseconds of processor time are left. */
export function startMeter(limitMs: number): void {
  meter.end = cpuMs() + limitMs;
}

// A subject and a text may have white space that is dropped later.
const WITH_SPACE = 4;

/**
 * Renders a part of the row whose output may have `limit` characters: a body as it is, a subject or a text after white
 * space is dropped. Throws OP046 at a limit.
 */
export function metered<T>(what: string, limit: number, render: () => T): T {
  const most = limit === LIMITS.bodyCharacters ? limit : limit * WITH_SPACE;
  Object.assign(meter, { what, limit, most, written: 0, depth: 0 });
  return render();
}

const STEPS_BETWEEN_CHECKS = 64;

/** To be called for each node that is rendered. */
export function countStep(): void {
  meter.steps += 1;
  if (meter.steps % STEPS_BETWEEN_CHECKS === 0 && cpuMs() > meter.end)
    throw refusal("takes too much processor time to render", `${LIMITS.cpuMs} ms`, "simplify it");
}

/** OP046 for the part of the row that is being rendered. */
export function refusal(has: string, limit: string, remedy?: string): Error {
  return limitError(meter.what, has, limit, remedy);
}

/** To be called before the nodes of a template or block are rendered. Returns their output. */
export function enterBlock(given: Output | undefined): Output {
  const output = given ?? (meter.depth === 0 ? createOutput(countOutput) : createCapture());
  countStep();
  meter.depth += 1;
  if (meter.depth > LIMITS.blockDepth) throw tooDeep();
  return output;
}

export function leaveBlock(): void {
  meter.depth -= 1;
}

export function tooDeep(): Error {
  return refusal("nests Liquid blocks too deep", `${LIMITS.blockDepth} levels`, "flatten it");
}

/** Where liquidjs writes a template's output, or what a {% capture %} contains. */
export interface Output {
  buffer: string;
  write(value: unknown): void;
}

function createOutput(count: (characters: number) => void): Output {
  const output: Output = {
    buffer: "",
    write: (value) => {
      const text = typeof value === "string" ? value : textOf(value);
      count(text.length);
      output.buffer += text;
    },
  };
  return output;
}

function createCapture(): Output {
  let left: number = LIMITS.valueCharacters;
  return createOutput((characters) => {
    left -= characters;
    if (left < 0) throw tooLarge();
  });
}

/** Starts to count the output again. */
export function restartOutput(): void {
  meter.written = 0;
}

/** Counts characters of the part that is being rendered. */
export function countOutput(characters: number): void {
  meter.written += characters;
  if (meter.written > meter.most) {
    throw refusal("renders to too many characters", shown(meter.limit));
  }
}

/** As liquidjs shows a value: nothing for null, the items of an array one after another. */
function textOf(given: unknown): string {
  const value: unknown = toValue(given);
  if (value === null || value === undefined) return "";
  return Array.isArray(value) ? boundedValue(value).map(textOf).join("") : String(value);
}

function tooLarge(): Error {
  return refusal("makes too large a value", `${shown(LIMITS.valueCharacters)} characters`);
}

/**
 * Returns the value that a filter made, unless it is too large to be shown. Filters make arrays that hold others many
 * times over, so each place counts, as in the text of the value.
 */
export function boundedValue<T>(value: T): T {
  let left: number = LIMITS.valueCharacters;
  const count = (part: unknown, depth: number): void => {
    left -= typeof part === "string" ? part.length + 1 : 1;
    if (left < 0 || depth > LIMITS.inputDepth) throw tooLarge();
    if (typeof part !== "object" || part === null) return;
    for (const inner of Array.isArray(part) ? part : Object.values(part)) count(inner, depth + 1);
  };
  count(value, 0);
  return value;
}
