// The demo as a visitor runs it: on the built-in Postgres, whichever Postgres the other tests use.
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { brainops } from "./run.ts";

test("npm run demo: every figure is right, and nothing is left behind", { timeout: 150_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), "brainops-test-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const { code, stdout, stderr } = await brainops(["demo"], {
    TMPDIR: folder,
    // The demo must not use the visitor's own key.
    SENDGRID_API_KEY: "SG.canary",
    SENDGRID_BASE_URL: "http://127.0.0.1:1",
  });
  expect(stderr).toBe("");
  expect(stdout).not.toContain("✗");
  expect(stdout).toMatch(/All \d+ figures are right/);
  expect(code).toBe(0);
  // oxlint-disable-next-line no-control-regex -- no colours if stdout is not a terminal
  expect(stdout).not.toMatch(/\u001b/);
  expect(await readdir(folder)).toEqual([]);
});
