// What the README shows is run: the first mail, and the work of one's own.
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseCrontab } from "graphile-worker";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Worker } from "../src/jobs/worker.ts";
import { startSendgridSimulator, type SendgridSimulator } from "../src/simulator/sendgrid/index.ts";
import { createTestDatabase, type TestDatabase } from "./support/database.ts";
import { startTestWorker } from "./support/worker.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const mine = join(root, `.brainops/readme-${process.pid}`);

let readme: string;
let db: TestDatabase;
let simulator: SendgridSimulator;
let worker: Worker | undefined;

beforeAll(async () => {
  readme = await readFile(join(root, "README.md"), "utf8");
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator()]);
});

afterAll(async () => {
  await worker?.stop();
  await simulator.close();
  await db.close();
  await rm(mine, { recursive: true, force: true });
});

/** The code block that comes first after the text. */
function blockAfter(text: string): string {
  const start = readme.indexOf(text);
  if (start < 0) throw new Error(`the README has no ${text}`);
  const block = /```\w+\n([\s\S]*?)```/.exec(readme.slice(start))?.[1];
  if (block === undefined) throw new Error(`no code block after ${text}`);
  return block;
}

describe("the README", () => {
  it("shows work of one's own that works: two tasks, a table, a line of crontab", async () => {
    for (const file of ["mine/tasks/greeting__say.ts", "mine/tasks/greeting__daily.ts"]) {
      const path = join(mine, file);
      await mkdir(dirname(path), { recursive: true });
      const code = blockAfter(`\`${file}\``).replace("../../src/index.ts", "../../../../src/index.ts");
      expect(code.trimEnd().split("\n").length).toBeLessThanOrEqual(10);
      await writeFile(path, code);
    }
    await db.query(blockAfter("and make the table a job table"));
    const crontab = blockAfter("`mine/crontab`");
    expect(parseCrontab(crontab)).toMatchObject([{ task: "greeting__daily" }]);

    worker = await startTestWorker(db, simulator, { tasks: [join(mine, "mine/tasks")], crontab });
    await db.as("tenantA", "insert into greetings (name) values ('Ann')");
    await db.until("select bool_and(status = 'completed') and count(*) = 1 from greetings");
    await db.query("select graphile_worker.add_job('greeting__daily')");
    await db.until("select bool_and(status = 'completed') and count(*) = 3 from greetings");
    expect(await db.as("tenantB", "select name from greetings")).toEqual([{ name: "everybody" }]);
  });

  it("shows a first mail that is sent", async () => {
    const [insert = "", look = ""] = statementsOf("insert into ai_email_queue");
    await db.as("tenantA", insert);
    await db.until("select bool_and(status = 'completed') and count(*) = 1 from ai_email_queue");
    const [row] = await db.as("tenantA", look);
    expect(row).toMatchObject({ status: "completed", attempts: 1 });
    expect(simulator.messages.at(-1)).toMatchObject({ subject: "Hello Ann" });
  });

  it("lists every variable of the environment, and none that is not there", async () => {
    const config = await readFile(join(root, "src/config.ts"), "utf8");
    const known = [...config.matchAll(/^ {2}([A-Z][A-Z_]+):/gm)].map(([, name]) => name);
    const table = readme.slice(readme.indexOf("## Environment"), readme.indexOf("## Words"));
    const listed = [...table.matchAll(/^\| ((?:`[A-Z_]+`(?:, )?)+) \|/gm)].flatMap(([, names = ""]) =>
      [...names.matchAll(/`([A-Z_]+)`/g)].map(([, name]) => name),
    );
    expect(listed.toSorted()).toEqual(known.toSorted());
  });

  it("names only scripts that there are", async () => {
    const { scripts } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as {
      scripts: Record<string, string>;
    };
    const named = [...readme.matchAll(/npm (?:run )?(demo|test|start|check|bench|brainops)\b/g)].map(
      ([, name]) => name,
    );
    expect(named.length).toBeGreaterThan(5);
    expect(named.filter((name) => name === undefined || !(name in scripts))).toEqual([]);
  });
});

function statementsOf(first: string): string[] {
  const start = readme.indexOf(first);
  return readme
    .slice(start, readme.indexOf("```", start))
    .split(";")
    .map((statement) => statement.trim());
}
