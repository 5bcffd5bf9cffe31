// Everything in one process, with simulators of the providers: a row becomes a link that a person pays in the browser.
import { spawn, type ChildProcessByStdio } from "node:child_process";
import { once } from "node:events";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bin } from "../../src/cli/demo/workerProcess.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { brainops } from "./run.ts";

let db: TestDatabase;
let up: ChildProcessByStdio<null, Readable, Readable>;
let printed: Promise<string>;
beforeAll(async () => {
  db = await createTestDatabase();
  const env = { DATABASE_URL: db.url, PORT: "0" };
  up = spawn(process.execPath, [bin, "up", "--simulator"], { env, stdio: ["ignore", "pipe", "pipe"] });
  printed = Promise.all([text(up.stdout), text(up.stderr)]).then(([out, log]) => out + log);
});
afterAll(async () => {
  up.kill("SIGKILL");
  await db.close();
});

test("up --simulator: a link is created, paid in the browser, and the lead is won; SIGTERM stops everything", async () => {
  await db.query(
    "insert into plans (tenant_id, code, name, amount, currency) values ($1, 'check', 'Roof check', 125, 'usd')",
    [db.tenantA],
  );
  await db.query(
    `with lead as (insert into revenue_leads (tenant_id, email) values ($1, 'ann@example.com') returning id)
     insert into payment_requests (tenant_id, plan_code, lead_id) select $1, 'check', id from lead`,
    [db.tenantA],
  );
  await db.until("select payment_url is not null from payment_requests", [], 60_000);
  const [request] = await db.query<{ payment_url: string }>("select payment_url from payment_requests");
  const url = request?.payment_url ?? "";
  expect(await (await fetch(url)).text()).toContain("This is a simulator, not Stripe");
  const paid = await fetch(url, { method: "POST", body: new URLSearchParams({ email: "ann@example.com" }) });
  expect(paid.status).toBe(200);
  await db.until(
    "select r.payment_status = 'paid', l.stage = 'won' from payment_requests as r inner join revenue_leads as l on l.id = r.lead_id",
    [],
    30_000,
  );
  up.kill("SIGTERM");
  expect(await once(up, "exit")).toEqual([0, null]);
  expect(await printed).toContain("simulators for SendGrid, Twilio and Stripe");
}, 120_000);

test("up --simulator: if it cannot start, the simulators keep no process alive", async () => {
  const { code, stderr } = await brainops(["up", "--simulator"], { DATABASE_URL: db.url, LOG_LEVEL: "loud" });
  expect([code, stderr]).toEqual([78, expect.stringContaining("LOG_LEVEL")]);
});
