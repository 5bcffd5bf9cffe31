// The codes that SQL and TypeScript raise are those in src/errors.ts and those on the page for DBAs.
import { globSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { describe, expect, it } from "vitest";
import { BrainOpsError, codeOf, errorCodes, fromDatabase, messageOf } from "../src/errors.ts";

const folder = new URL("../sql/", import.meta.url);
const files = globSync("**/*.sql", { cwd: fileURLToPath(folder) }).toSorted();
const sql = (await Promise.all(files.map((name) => readFile(new URL(name, folder), "utf8")))).join("\n");
const page = await readFile(new URL("_README.md", folder), "utf8");

/** Each `raise exception`, up to its semicolon. */
const raises = [...sql.matchAll(/raise exception(?:'(?:[^']|'')*'|[^;'])*;/g)].map(([text]) => text);
/** Codes that only TypeScript throws. */
const sources = await Promise.all(
  globSync("../src/**/*.ts", { cwd: import.meta.dirname }).map((path) =>
    readFile(join(import.meta.dirname, path), "utf8"),
  ),
);
const thrown = [...sources.join("\n").matchAll(/new BrainOpsError\(\s*"(OP\d{3})"/g)].map(([, code = ""]) => code);
const registered = Object.keys(errorCodes).toSorted();

describe("error codes", () => {
  it("are the same where they are raised, in src/errors.ts and in sql/_README.md", () => {
    const raised = new Set(raises.flatMap((text) => /errcode = '(OP\d{3})'/.exec(text)?.[1] ?? []));
    expect([...new Set([...raised, ...thrown])].toSorted()).toEqual(registered);
    const listed = [...page.matchAll(/^\| `(OP\d{3})` \| (\w+) \| (.+) \|$/gm)].map(([, code, name, remedy = ""]) => [
      code,
      { name, remedy: remedy.replaceAll("`", "") },
    ]);
    expect(Object.fromEntries(listed)).toEqual(errorCodes);
    expect(listed).toHaveLength(registered.length);
    // A code that is mentioned anywhere else must exist as well.
    for (const [code] of `${sql}${page}`.matchAll(/\bOP\d{3}\b/g)) expect(registered).toContain(code);
  });

  it("come with a hint, wherever they are raised", () => {
    expect(raises.length).toBeGreaterThan(20);
    for (const text of raises) {
      expect(text).toMatch(/errcode = /);
      expect(text).toMatch(/hint = /);
    }
  });

  it("have distinct names and a remedy each", () => {
    const entries = Object.values(errorCodes);
    expect(new Set(entries.map((entry) => entry.name)).size).toBe(entries.length);
    for (const { remedy } of entries) expect(remedy).toMatch(/^[A-Z].*\.$/);
  });
});

describe("fromDatabase", () => {
  function raised(code: string, hint?: string): pg.DatabaseError {
    const error = new pg.DatabaseError("recipient: is empty", 1, "error");
    error.code = code;
    if (hint !== undefined) error.hint = hint;
    return error;
  }

  it("types what Postgres raised with a code of ours, with its hint or the registry's", () => {
    const error = raised("OP004", "Give one.");
    expect(fromDatabase(error)).toMatchObject({
      name: "BrainOpsError",
      code: "OP004",
      hint: "Give one.",
      message: "recipient: is empty",
      cause: error,
    });
    expect(fromDatabase(raised("OP004"))).toMatchObject({ hint: errorCodes.OP004.remedy });
    expect(fromDatabase(error)).toBeInstanceOf(BrainOpsError);
  });

  it("returns anything else unchanged", () => {
    for (const error of [
      raised("23505"),
      raised("OP999"),
      raised("toString"),
      new Error("x"),
      null,
      "OP001",
      { code: "OP001" },
    ]) {
      expect(fromDatabase(error)).toBe(error);
    }
  });
});

describe("codeOf and messageOf", () => {
  it("accept anything that is thrown", () => {
    expect([codeOf({ code: "57P01" }), codeOf({ code: 7 }), codeOf(null), codeOf("x"), codeOf(new Error("x"))]).toEqual(
      ["57P01", null, null, null, null],
    );
    expect(messageOf(new AggregateError([new Error("a"), "b"]))).toBe("a; b");
    expect([messageOf(new Error("x")), messageOf("x"), messageOf(undefined)]).toEqual(["x", "x", "undefined"]);
  });
});
