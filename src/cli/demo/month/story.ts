// A month at Ridge Roofing: leads are imported from a file, scored, and nurtured by mail and text; some reply, pay by a
// link and are onboarded. The clock jumps from one due time to the next, across the change to daylight saving time.
import { execFile } from "node:child_process";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Figure } from "../figures.ts";
import type { Stage } from "../stage.ts";
import { bin } from "../workerProcess.ts";
import { leadsFile, readCast } from "./cast.ts";
import { monthFigures } from "./figures.ts";
import { createPeople, type People } from "./people.ts";

const CONCURRENCY = 8;
const DAYS = 31;
const DAY_MS = 86_400_000;
/** The shortest jump; everything due within it is done together. */
const MIN_STEP_MS = 5 * 60_000;

export async function playMonth(stage: Stage): Promise<Figure[]> {
  const { screen, ridge, clock } = stage;
  const cast = await readCast();
  const from = mondayBeforeSummerTime(new Date(clock.now()));
  screen.chapter(`A month at Ridge Roofing, from a file of leads to onboarded customers`);
  await clock.jump(from);
  screen.say(`the clock is set to ${from.toISOString()}; from here on it jumps to the next due time`);
  stage.watch.hush();
  const worker = await stage.startWorker(CONCURRENCY);
  await worker.ready;
  const launched = await launch(stage);
  const imported = await importLeads(stage);
  const people = createPeople(cast.people, stage.simulators, async (text, values = []) => ridge.quietly(text, values));
  const until = new Date(from.getTime() + DAYS * DAY_MS);
  await runUntil(stage, people, until);
  return [...launched, ...imported, ...(await monthFigures(stage, cast))];
}

/** The next Monday thirteen days before the second Sunday of March, at 8:00 in Denver. */
function mondayBeforeSummerTime(after: Date): Date {
  for (let year = after.getUTCFullYear(); ; year++) {
    const first = new Date(Date.UTC(year, 2, 1));
    const secondSunday = 8 + ((7 - first.getUTCDay()) % 7);
    const monday = new Date(Date.UTC(year, 2, secondSunday - 13, 15));
    if (monday > after) return monday;
  }
}

/** Rules that route leads to campaigns by source. NARROWED restricts the library's rule for hot leads. */
const RULES = `insert into campaign_rules (campaign_id, name, sources)
select id, code || ' by source', case code when 'nurture_five' then '{website}'::text[] else '{storm}' end
from campaigns where code in ('nurture_five', 'new_roofing_lead')`;
const NARROWED = "update campaign_rules set sources = '{referral}' where name = 'hot leads get outreach'";

async function launch(stage: Stage): Promise<Figure[]> {
  const { ridge, query, screen } = stage;
  const launching = `update campaigns set status = 'active' where code in ('new_roofing_lead', 'outreach', 'nurture_five')`;
  const refused = await ridge.refused(launching);
  await screen.statement(
    "admin",
    `update tenants set settings = settings || '{"postal_address": …}' where slug = 'ridge';`,
    async () => {
      await query("update tenants set settings = settings || $1 where id = $2", [
        {
          postal_address: "Ridge Roofing, 12 Summit Street, Denver, CO 80202",
          notify_email: "office@ridge-roofing.example",
        },
        ridge.id,
      ]);
      return { value: null, answer: "UPDATE 1" };
    },
  );
  await ridge.sql(launching);
  await ridge.sql(RULES);
  await ridge.sql(NARROWED);
  await ridge.sql(
    `insert into plans (code, name, amount, currency) values ('survey', 'Roof survey and deposit', 450, 'usd')`,
  );
  return [
    {
      what: "launch without a postal address",
      expected: "refused (OP031)",
      found: refused === null ? "succeeded" : `refused (${refused})`,
    },
  ];
}

async function importLeads(stage: Stage): Promise<Figure[]> {
  const { screen, operatorUrl } = stage;
  const file = fileURLToPath(leadsFile);
  screen.say(`$ brainops leads import leads.csv --tenant ridge`);
  const run = promisify(execFile)(process.execPath, [bin, "leads", "import", file, "--tenant", "ridge"], {
    env: { DATABASE_URL: operatorUrl },
  });
  // Exits with 1, because the file contains invalid lines.
  const { stdout, stderr } = await run.catch((error: { stdout?: string; stderr?: string }) => ({
    stdout: error.stdout ?? "",
    stderr: error.stderr ?? String(error),
  }));
  for (const line of `${stderr}${stdout}`.split("\n")) if (line.trim() !== "") screen.say(line);
  return [];
}

/** Jumps from one due time to the next until the month is over. Before each jump waits until all work is done. */
async function runUntil(stage: Stage, people: People, until: Date): Promise<void> {
  const { clock, screen } = stage;
  let day = dayOf(clock.now());
  for (;;) {
    do await settled(stage);
    while ((await people.act()) > 0);
    const next = await nextDue(stage);
    const jump = next === null || next > until ? until : new Date(Math.max(next.getTime(), clock.now() + MIN_STEP_MS));
    if (dayOf(jump.getTime()) !== day) {
      for (const line of people.news()) screen.say(`${day}  ${line}`);
      day = dayOf(jump.getTime());
      await people.work();
    }
    if (jump >= until) break;
    await clock.jump(jump);
  }
  await clock.jump(until);
  await settled(stage);
}

const dayOf = (time: number): string =>
  new Date(time).toLocaleDateString("en-GB", {
    weekday: "short",
    day: "2-digit",
    month: "short",
    timeZone: "America/Denver",
  });

/** Resolves when no work is due any more, in the database and in the simulators. */
async function settled({ clock, query, simulators }: Stage): Promise<void> {
  const deadline = performance.now() + MAX_SETTLE_MS;
  for (;;) {
    await clock.wake();
    const [row] = await query<{ busy: number }>(BUSY);
    if (row?.busy === 0 && (await simulators.flush()) === 0) return;
    if (performance.now() > deadline) {
      throw new Error(`Due work was not done in time: ${JSON.stringify(await query(LEFT))}`);
    }
    await setTimeout(POLL_MS);
  }
}

const POLL_MS = 10;
const MAX_SETTLE_MS = 20_000;
/** Rows in flight or due, and due wake-up jobs; rescoring has only jobs. */
const BUSY = `
  select (
    (
      select count(*) from brainops.jobs
      where status = 'processing' or (status = 'pending' and scheduled_for <= brainops.now())
    ) + (
      select count(*) from graphile_worker.jobs
      where run_at <= brainops.now() and attempts < max_attempts and task_identifier not like 'maintenance%'
    )
  )::int as busy`;
const LEFT = `
  select table_name, status, last_error, count(*)::int as n from brainops.jobs
  where status = 'processing' or (status = 'pending' and scheduled_for <= brainops.now())
  group by table_name, status, last_error`;

async function nextDue({ query, ridge }: Stage): Promise<Date | null> {
  const [row] = await query<{ next: Date | null }>(
    "select min(scheduled_for) as next from brainops.jobs where status = 'pending' and tenant_id = $1",
    [ridge.id],
  );
  return row?.next ?? null;
}
