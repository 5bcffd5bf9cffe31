// The examples of the README and of the pages beside the code run: the first mail, a lead that becomes a customer, custom
// tasks. Their links are checked. (SQL of the other pages: test/sql/readme.test.ts.)
import { existsSync, globSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseCrontab } from "graphile-worker";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Worker } from "../src/jobs/worker.ts";
import { startSendgridSimulator, type SendgridSimulator } from "../src/simulator/sendgrid/index.ts";
import { startStripeSimulator, type StripeSimulator } from "../src/simulator/stripe/index.ts";
import { startTwilioSimulator, type TwilioSimulator } from "../src/simulator/twilio/index.ts";
import { createTestDatabase, type TestDatabase } from "./support/database.ts";
import { startTestWorker, testConfig } from "./support/worker.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const mine = join(root, `.brainops/readme-${process.pid}`);

const pages = globSync(["*.md", "{sql,src,test}/**/*.md"], { cwd: root });
const textOf = new Map(
  await Promise.all(pages.map(async (page) => [page, await readFile(join(root, page), "utf8")] as const)),
);
const readme = textOf.get("README.md") ?? "";
const customTasks = textOf.get("src/jobs/custom-tasks.md") ?? "";
const operations = textOf.get("src/cli/README.md") ?? "";

let db: TestDatabase;
let simulator: SendgridSimulator;
let stripe: StripeSimulator;
let twilio: TwilioSimulator;
let worker: Worker | undefined;

beforeAll(async () => {
  db = await createTestDatabase();
  simulator = await startSendgridSimulator();
  stripe = await startStripeSimulator();
  twilio = await startTwilioSimulator();
});

afterAll(async () => {
  await worker?.stop();
  await simulator.close();
  await stripe.close();
  await twilio.close();
  await db.close();
  await rm(mine, { recursive: true, force: true });
});

/** The first code block after the text. */
function blockAfter(text: string, page = readme): string {
  const start = page.indexOf(text);
  if (start < 0) throw new Error(`the page has no ${text}`);
  const block = /```\w+\n([\s\S]*?)```/.exec(page.slice(start))?.[1];
  if (block === undefined) throw new Error(`no code block after ${text}`);
  return block;
}

describe("the README", () => {
  it("shows custom tasks that work: two tasks, a table, a line of crontab", async () => {
    for (const file of ["mine/tasks/greeting__say.ts", "mine/tasks/greeting__daily.ts"]) {
      const path = join(mine, file);
      await mkdir(dirname(path), { recursive: true });
      const code = blockAfter(`\`${file}\``, customTasks).replace("../../src/index.ts", "../../../../src/index.ts");
      expect(code.trimEnd().split("\n").length).toBeLessThanOrEqual(10);
      await writeFile(path, code);
    }
    await db.query(blockAfter("create the table and make it a job table", customTasks));
    const crontab = blockAfter("`mine/crontab`", customTasks);
    expect(parseCrontab(crontab)).toMatchObject([{ task: "greeting__daily" }]);

    const config = testConfig(simulator, {
      STRIPE_BASE_URL: stripe.url,
      STRIPE_SECRET_KEY: stripe.secretKey,
      TWILIO_BASE_URL: twilio.url,
      TWILIO_ACCOUNT_SID: twilio.accountSid,
      TWILIO_AUTH_TOKEN: twilio.authToken,
      TWILIO_FROM: twilio.from,
    });
    worker = await startTestWorker(db, simulator, { config, tasks: [join(mine, "mine/tasks")], crontab });
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

  it("shows a lead that becomes a customer", async () => {
    const [{ slug = "" } = {}] = await db.query<{ slug: string }>("select slug from tenants where id = $1", [
      db.tenantA,
    ]);
    await db.query(blockAfter("Marketing mail must carry a postal address").replace("'acme'", `'${slug}'`));

    const { changes, looks } = parted(blockAfter("Everything else can be done as the tenant"));
    for (const change of changes) await db.as("tenantA", change);
    await db.until("select count(*) = 1 from ai_nurture_campaigns where campaign_type = 'outreach'");
    await db.until("select count(*) > 0 from ai_email_queue where subject not like 'Hello%'");
    const [lead, ...others] = await Promise.all(looks.map((look) => db.as("tenantA", look)));
    expect(Object.values(lead?.[0] ?? {}).join(", ")).toBe(/from revenue_leads; +-- (.+)$/m.exec(readme)?.[1]);
    for (const rows of others) expect(rows).not.toEqual([]);

    const {
      changes: requests,
      looks: [look = ""],
    } = parted(blockAfter("Ask for money"));
    for (const request of requests) await db.as("tenantA", request);
    await db.until("select bool_and(status = 'completed') and count(*) = 1 from payment_requests");
    const [request] = await db.as("tenantA", look);
    expect(request).toMatchObject({ payment_status: "open", payment_url: expect.stringContaining(stripe.url) });
  });

  it("lists every environment variable, and no unknown one", async () => {
    const config = await readFile(join(root, "src/config.ts"), "utf8");
    const known = [...config.matchAll(/^ {2}([A-Z][A-Z_]+):/gm)].map(([, name]) => name);
    const table = operations.slice(operations.indexOf("## Environment"), operations.indexOf("## Exit codes"));
    const listed = [...table.matchAll(/^\| ((?:`[A-Z_]+`(?:, )?)+) \|/gm)].flatMap(([, names = ""]) =>
      [...names.matchAll(/`([A-Z_]+)`/g)].map(([, name]) => name),
    );
    expect(listed.toSorted()).toEqual(known.toSorted());
  });

  it("names only existing scripts", async () => {
    const { scripts } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as {
      scripts: Record<string, string>;
    };
    const all = [...textOf.values()].join("\n");
    const named = [
      ...all.matchAll(/npm (?:run )?(?:-s )?(demo|test|start|check|bench|brainops|schema|migrations|secrets)\b/g),
    ].map(([, name]) => name);
    expect(named.length).toBeGreaterThan(5);
    expect(named.filter((name) => name === undefined || !(name in scripts))).toEqual([]);
  });
});

describe("the links of every page", () => {
  it("lead to existing files and headings", () => {
    const broken = pages.flatMap((page) =>
      [...(textOf.get(page) ?? "").matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)/g)]
        .filter(
          ([, path = "", heading]) => !leadsSomewhere(join(dirname(page), path), path === "" ? page : null, heading),
        )
        .map(([link]) => `${page}: ${link}`),
    );
    expect(pages.length).toBeGreaterThan(15);
    expect(broken).toEqual([]);
  });
});

/** Whether the repository has the file and, if a heading is named, the page has it. */
function leadsSomewhere(path: string, itself: string | null, heading: string | undefined): boolean {
  const target = itself ?? path;
  if (heading === undefined) return existsSync(join(root, target));
  const headings = [...(textOf.get(target) ?? "").matchAll(/^#+ (.+)$/gm)].map(([, text = ""]) => anchorOf(text));
  return headings.includes(heading);
}

/** As GitHub derives it: lower case, blanks as hyphens, no other punctuation. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\w\s-]/g, "")
    .replaceAll(/\s/g, "-");
}

/** The statements of a block: those that change something, and the queries that look at it. */
function parted(block: string): { changes: readonly string[]; looks: readonly string[] } {
  const statements = block
    .replaceAll(/--.*$/gm, "")
    .split(";")
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "");
  const looks = statements.filter((statement) => statement.startsWith("select"));
  return { changes: statements.filter((statement) => !looks.includes(statement)), looks };
}

function statementsOf(first: string): string[] {
  const start = readme.indexOf(first);
  return readme
    .slice(start, readme.indexOf("```", start))
    .split(";")
    .map((statement) => statement.trim());
}
