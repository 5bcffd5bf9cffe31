// Prints the failures and "N passed, N failed, N skipped" at the end of a run. Appends both to the file
// TEST_SUMMARY, if set, so that several runs can be summed up.
import { appendFileSync } from "node:fs";
import type { Reporter, TestCase, TestModule } from "vitest/node";

export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    const count = { passed: 0, failed: errors.length, skipped: 0 };
    const failures = errors.map((error) => `outside of any test: ${firstLine(error)}`);
    for (const module of modules) {
      for (const error of module.errors()) failures.push(`${module.relativeModuleId}: ${firstLine(error)}`);
      if (module.children.size === 0 && module.errors().length > 0) count.failed += 1;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === "passed" || state === "failed" || state === "skipped") count[state] += 1;
        if (state === "failed") failures.push(describeFailure(module, test));
      }
    }
    const file = process.env["TEST_SUMMARY"];
    if (file !== undefined) appendFileSync(file, `${JSON.stringify({ ...count, failures })}\n`);
    for (const failure of failures) process.stdout.write(`\nfailed: ${failure}`);
    process.stdout.write(`\n${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped\n`);
  }
}

function describeFailure(module: TestModule, test: TestCase): string {
  const reasons = (test.result().errors ?? []).map(firstLine);
  return `${module.relativeModuleId} > ${test.fullName}: ${reasons.join("; ")}`;
}

function firstLine(error: unknown): string {
  const message = error instanceof Error || hasMessage(error) ? error.message : String(error);
  return message.split("\n", 1)[0]?.slice(0, 300) ?? "";
}

function hasMessage(error: unknown): error is { readonly message: string } {
  return typeof error === "object" && error !== null && "message" in error && typeof error.message === "string";
}
