// The rendering thread, and what this process goes through while tenants' templates are rendered.
import { globSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { BrainOpsError } from "../../src/errors.ts";
import { OutcomeError } from "../../src/jobs/outcome.ts";
import { Renderer } from "../../src/revenue/rendering/renderer.ts";
import type { MailTask, RenderedMail } from "../../src/revenue/rendering/tasks.ts";
import { watchEventLoop } from "../support/eventLoop.ts";

const now = (): Date => new Date("2026-03-02T12:00:00Z");

function mail(body: string, metadata: Record<string, unknown> = {}): MailTask {
  const tenant = { name: "Acme", slug: "acme", postalAddress: null };
  return { kind: "mail", subject: "Hello", body, metadata, lead: null, tenant, unsubscribeUrl: null };
}

// No limit of Liquid or of the output sees it: the time goes into reading one long tag.
const endless = (words = 450_000): MailTask => mail(`{% if a${" and a".repeat(words)} %}{% endif %}x`);

let renderer = new Renderer();

afterEach(async () => {
  await renderer.close();
  renderer = new Renderer();
});

const send = (tenant: string, task: MailTask): Promise<RenderedMail> => renderer.render<"mail">(tenant, task, now);
const failureOf = (rendering: Promise<unknown>): Promise<unknown> =>
  rendering.then(
    () => null,
    (error: unknown) => error,
  );

describe("the rendering thread", () => {
  it("renders, and reports errors with their codes", async () => {
    expect(await send("a", mail("<p>Hi {{ n }}</p>", { n: "Ann" }))).toEqual({
      subject: "Hello",
      html: "<p>Hi Ann</p>",
      text: "Hi Ann",
    });
    expect(await failureOf(send("a", mail("{% if %}")))).toMatchObject({
      name: "Error",
      message: expect.stringMatching(/^body: Liquid cannot be rendered/),
    });
    expect(await failureOf(send("a", mail("{{ a }}".repeat(2001))))).toMatchObject({
      code: "OP046",
      message: "body: has 2,001 tags; the limit is 2,000; use fewer",
    });
  });

  it("is ended when a row takes too long; that row fails, those around it do not, and this process goes on", async () => {
    await send("a", mail("warm"));
    const loop = watchEventLoop();
    const rows = [
      ...Array.from({ length: 20 }, (_, n) => send("a", mail(`before ${n}`))),
      send("b", endless()),
      ...Array.from({ length: 20 }, (_, n) => send("a", mail(`after ${n}`))),
      send("b", mail("b's own")),
    ];
    const ends = await Promise.allSettled(rows);
    expect(ends[20]).toMatchObject({
      status: "rejected",
      reason: {
        code: "OP046",
        message: expect.stringMatching(/^rendering: takes too much processor time; the limit is 500 ms/),
      },
    });
    expect(ends.filter(({ status }) => status === "fulfilled")).toHaveLength(41);
    expect(ends[40]).toMatchObject({ value: { text: "after 19" } });
    expect(loop.longestMs()).toBeLessThan(1000);
  });

  it("is replaced when it runs out of memory; only the row that was being rendered fails", async () => {
    renderer = new Renderer(40);
    const rows = [send("a", mail("before")), send("b", endless(200_000)), send("a", mail("after"))];
    const [before, large, after] = await Promise.allSettled(rows);
    expect(large).toMatchObject({
      status: "rejected",
      reason: {
        code: "OP046",
        message: expect.stringMatching(/^rendering: takes too much memory; the limit is 40 MB/),
      },
    });
    expect([before?.status, after?.status]).toEqual(["fulfilled", "fulfilled"]);
  });

  it("puts a tenant's rows off once its slow rows have used up their time, and nobody else's", async () => {
    // Up to the limit, in this process's queue before the first of them has ended.
    const slow = Array.from({ length: 30 }, () => failureOf(send("b", endless())));
    const fast = Array.from({ length: 200 }, (_, n) => send("a", mail(`fast ${n}`)));
    expect(await Promise.all(fast)).toHaveLength(200);
    const errors = await Promise.all(slow);
    const failed = errors.filter((error) => error instanceof BrainOpsError);
    const deferred = errors.flatMap((error) => (error instanceof OutcomeError ? [error.outcome] : []));
    expect(failed.length).toBeGreaterThanOrEqual(1);
    expect(failed.length).toBeLessThanOrEqual(5);
    expect(failed.length + deferred.length).toBe(30);
    // On a busy machine some have waited for too long before.
    const overBudget = deferred.filter(({ reason }) => /^waiting: the tenant's .* processor time/.test(reason));
    const times = overBudget.map((outcome) => (outcome.kind === "defer" ? outcome.at.getTime() : 0));
    expect(new Set(times).size).toBe(times.length);
    expect(Math.min(...times)).toBeGreaterThan(now().getTime());
    expect(await send("a", mail("quick"))).toMatchObject({ text: "quick" });
  });
});

/** Packages that these files import, directly or by other files. Imports of types do not count. */
function importsOf(files: readonly string[]): string[] {
  const seen = new Set<string>();
  const names = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    const found = readFileSync(file, "utf8").matchAll(/^(?:import|export) (?!type )[^;]*?from "([^"]+)";/gm);
    for (const [, name = ""] of found) {
      if (name.startsWith(".")) visit(resolve(dirname(file), name));
      else names.add(name);
    }
  };
  files.forEach(visit);
  return [...names];
}

describe("the process", () => {
  const root = join(import.meta.dirname, "../..");
  const parsers = ["liquidjs", "html-to-text", "htmlparser2"];

  it("loads no module that parses what tenants write; the thread does", () => {
    const entries = globSync(["tasks/*.ts", "src/index.ts", "src/cli/*.ts"], { cwd: root });
    const ofProcess = importsOf(entries.map((file) => join(root, file)));
    expect(ofProcess).toContain("@sendgrid/mail");
    expect(ofProcess.filter((name) => parsers.includes(name))).toEqual([]);
    expect(importsOf([join(root, "src/revenue/rendering/thread.ts")])).toEqual(expect.arrayContaining(parsers));
  });
});
