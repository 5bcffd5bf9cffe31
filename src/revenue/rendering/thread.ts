// The rendering thread: renders batches of tasks one after another. renderer.ts starts it, and ends it when a task takes
// too long. Only this thread may load modules that parse what tenants write.
import { parentPort, workerData } from "node:worker_threads";
import { BrainOpsError, messageOf } from "../../errors.ts";
import { composeSms } from "../sms/compose.ts";
import { compileBulkTemplate, type BulkTemplate } from "./bulkTemplate.ts";
import { withFooter } from "./footer.ts";
import { LIMITS } from "./limits.ts";
import { createLruCache } from "./lruCache.ts";
import { renderMail, variablesOf } from "./mail.ts";
import { cpuMs, startMeter } from "./meter.ts";
import {
  PROGRESS,
  type Answer,
  type BulkSource,
  type RecipientTask,
  type Refusal,
  type Report,
  type Results,
  type Task,
} from "./tasks.ts";

// After so long, the rest of a batch goes back, so that tasks of other tenants can go first.
const TURN_MS = 20;
// Answers are reported before they hold much more than this many characters: the process copies them at once.
const REPORT_CHARACTERS = 250_000;
const MAX_MESSAGE_CHARACTERS = 2000;

if (parentPort === null) throw new Error("thread.ts is the entry of a worker thread; call renderer.ts instead");
const port = parentPort;
const progress = new Float64Array(workerData as SharedArrayBuffer);

port.on("message", (tasks: readonly Task[]) => {
  const turnEnds = performance.now() + TURN_MS;
  let answers: Answer[] = [];
  let characters = 0;
  for (const [place, task] of tasks.entries()) {
    if (place > 0 && performance.now() >= turnEnds) break;
    const began = cpuMs();
    progress[PROGRESS.cpuMs] = began;
    progress[PROGRESS.place] = place + 1;
    startMeter(LIMITS.cpuMs);
    const result = resultOf(task);
    answers.push({ place, cpuMs: cpuMs() - began, result });
    characters += charactersOf(result);
    if (characters > REPORT_CHARACTERS) {
      port.postMessage({ answers, done: false } satisfies Report, []);
      answers = [];
      characters = 0;
    }
  }
  progress[PROGRESS.place] = 0;
  port.postMessage({ answers, done: true } satisfies Report, []);
});

function resultOf(task: Task): Answer["result"] {
  try {
    return render(task);
  } catch (error) {
    return { refusal: refusalOf(error) };
  }
}

function refusalOf(error: unknown): Refusal {
  const message = messageOf(error).slice(0, MAX_MESSAGE_CHARACTERS);
  return { code: error instanceof BrainOpsError ? error.code : null, message };
}

function render(task: Task): Results[keyof Results] {
  switch (task.kind) {
    case "mail":
      return renderMail(task);
    case "text":
      return composeSms(task);
    case "bulk": {
      const { subject, html, text } = templateOf(task.source);
      return { subject, html, text };
    }
    case "recipient":
      return renderRecipient(task);
    default:
      return task satisfies never;
  }
}

/** Per batch: its recipients share one object. */
const templates = new WeakMap<BulkSource, BulkTemplate>();
const compiled = createLruCache((source) => compileBulkTemplate(JSON.parse(source) as BulkSource));

function templateOf(source: BulkSource): BulkTemplate {
  const known = templates.get(source);
  if (known !== undefined) return known;
  const { nonce, subject, tenant } = source;
  const body = withFooter(source.body, tenant.postalAddress);
  const template = compiled(JSON.stringify({ nonce, subject, body }));
  templates.set(source, template);
  return template;
}

function renderRecipient({ source, metadata, lead, unsubscribeUrl }: RecipientTask): Results["recipient"] {
  const variables = { tenant: source.tenant, lead, metadata: { ...source.metadata, ...metadata } };
  const substitutions = templateOf(source).substitutions(variablesOf(variables, unsubscribeUrl));
  return substitutions !== null && fits(substitutions, source.maxValueBytes) ? substitutions : null;
}

function fits(substitutions: Readonly<Record<string, string>>, maxBytes: number): boolean {
  let units = 2;
  for (const [tag, value] of Object.entries(substitutions)) units += tag.length + value.length + 6;
  // A UTF-16 unit takes at most six bytes in JSON (\\u0000), so most rows need no exact count.
  if (units * 6 <= maxBytes) return true;
  return units <= maxBytes && Buffer.byteLength(JSON.stringify(substitutions)) <= maxBytes;
}

function charactersOf(result: Answer["result"]): number {
  if (result === null) return 0;
  let characters = 0;
  for (const value of Object.values(result)) if (typeof value === "string") characters += value.length;
  return characters;
}
