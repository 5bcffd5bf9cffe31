// The story, act by act. Tenants act by SQL; the results are read from the database and from the SendGrid simulator,
// which counts the mails it accepted.
import type { Figure } from "./figures.ts";
import { readLeads, type DemoLead } from "./leads.ts";
import type { Stage } from "./stage.ts";
import type { WorkerProcess } from "./workerProcess.ts";

// Leads with a part in the story, by their addresses in leads.csv.
const ASKED_TO_STOP = "claire.bennett@orchardlaw.example";
const GREETED = "zoe.finch@hazelfinch.example";
const BOUNCES = "bounce.hale@nettlethyme.example";

/** Rows in flight per worker. Few, so that some rows still wait when the worker is killed. */
const CONCURRENCY = 8;
const CAMPAIGN_SCORE = 60;
const REMINDERS = 24;
const AFTER_KILL = 4;
const MAX_RESCUE_S = 10;

export async function playStory(stage: Stage): Promise<Figure[]> {
  const { screen } = stage;
  const first = await stage.startWorker(CONCURRENCY);
  screen.say(`starting worker 1 (process ${first.pid})`);
  const leads = await loadLeads(stage);
  await first.ready;
  screen.say("worker 1 is looking for work");

  const tomorrowId = await insertMails(stage, leads);
  const events = await deliverEvents(stage);
  const isolation = await peekAcross(stage, tomorrowId);
  const consent = await rememberBounces(stage);
  const crash = await killWorker(stage, first);
  return [
    ...(await mailFigures(stage, leads)),
    ...events,
    ...consent,
    ...isolation,
    ...crash,
    ...(await onceFigures(stage)),
  ];
}

async function loadLeads({ screen, summit, harbor }: Stage): Promise<DemoLead[]> {
  const leads = await readLeads();
  screen.chapter(`Two tenants load the same ${leads.length} leads`);
  for (const seat of [summit, harbor]) {
    await seat.sql(
      `insert into revenue_leads (company_name, contact_name, email, phone, website, stage, score, value_estimate, source, time_zone)
select l.company_name, l.contact_name, l.email, l.phone, l.website, l.stage, l.score, l.value_estimate, l.source, l.time_zone
from jsonb_populate_recordset(null::revenue_leads, $1) as l  -- leads.csv`,
      [JSON.stringify(leads)],
    );
  }
  return leads;
}

/** Returns the id of the mail that is due tomorrow. */
async function insertMails(stage: Stage, leads: readonly DemoLead[]): Promise<string> {
  const { screen, summit, harbor, watch } = stage;
  screen.chapter("Inserted mails are sent, each once, when they are due");
  await summit.sql(
    `insert into contact_suppressions (address, reason) values ('${ASKED_TO_STOP}', 'asked us to stop')`,
  );
  await summit.sql(
    `insert into ai_email_queue (recipient, subject, body)
select id, '{{ lead.company_name }}: your roof before winter', '<p>Hello {{ lead.contact_name }}, shall we have a look?</p>'
from revenue_leads`,
  );
  await harbor.sql(
    `insert into ai_email_queue (recipient, subject, body)
select id, 'A check-up for {{ lead.contact_name }}', 'Dear {{ lead.contact_name }}, it is time again.'
from revenue_leads where score >= ${CAMPAIGN_SCORE}`,
  );
  await summit.sql(
    `insert into ai_email_queue (recipient, subject, body, scheduled_for)
values ('grace.alder@alder-sons.example', 'In two seconds', 'As promised.', now() + interval '2 seconds')`,
  );
  const [tomorrow] = await summit.sql<{ id: string }>(
    `insert into ai_email_queue (recipient, subject, body, scheduled_for)
values ('grace.alder@alder-sons.example', 'Tomorrow', 'As promised.', now() + interval '1 day')
returning id`,
  );
  const [regretted] = await summit.sql<{ id: string }>(
    `insert into ai_email_queue (recipient, subject, body, scheduled_for)
values ('grace.alder@alder-sons.example', 'On second thoughts', 'Never mind.', now() + interval '1 hour')
returning id`,
  );
  await summit.sql(`update ai_email_queue set status = 'cancelled' where id = '${regretted?.id}'`);

  await watch.until(
    "every due mail is sent",
    `select
       count(*) filter (where tenant_id = $1 and status = 'completed') = $2 as summit_sent,
       count(*) filter (where tenant_id = $3 and status = 'completed') = $4 as harbor_sent
     from ai_email_queue`,
    [summit.id, leads.length, harbor.id, campaignOf(leads)],
  );
  return tomorrow?.id ?? "";
}

async function deliverEvents(stage: Stage): Promise<Figure[]> {
  const { screen, simulators } = stage;
  const simulator = simulators.sendgrid;
  screen.chapter("SendGrid reports what happened to them");
  simulator.setModes({ wrongSignature: 1 });
  const events = simulator.stats.queuedEvents;
  const statuses = await flushEvents(stage);
  screen.say(`${events} events posted: answer ${statuses[0]} to a forged signature, ${statuses[1]} to the right one`);
  const [bounce] = await stage.query<{ recipient: string; bounce_type: string; reason: string }>(
    "select recipient, bounce_type, reason from email_bounces",
  );
  screen.say(`${bounce?.recipient} bounced (${bounce?.bounce_type}: ${bounce?.reason}) and is suppressed`, "warn");
  return [{ what: "webhook: forged signature, then the right one", expected: "401, 200", found: statuses.join(", ") }];
}

/** Posts the queued events and waits until all events are applied. Returns the HTTP statuses of the answers. */
async function flushEvents({ simulators, watch }: Stage): Promise<readonly number[]> {
  const { statuses } = await simulators.sendgrid.flushEvents();
  await watch.until(
    "every event is applied",
    `select count(*) = $1 and bool_and(status = 'completed') as applied from webhook_events`,
    // Two of each mail: processed, then delivered or bounce.
    [2 * simulators.sendgrid.messages.length],
  );
  return statuses;
}

async function peekAcross({ screen, summit, harbor }: Stage, mailId: string): Promise<Figure[]> {
  screen.chapter("The other tenant sees nothing, whatever tenant id it sets");
  await harbor.sql(`set app.tenant_id = '${summit.id}'`);
  const [mails] = await harbor.sql<{ n: string }>(
    `select count(*) as n from ai_email_queue where tenant_id = '${summit.id}'`,
  );
  const [leads] = await harbor.sql<{ n: string }>(
    `select count(*) as n from revenue_leads where tenant_id = '${summit.id}'`,
  );
  const changed = await harbor.sql(
    `update ai_email_queue set status = 'cancelled' where id = '${mailId}' returning id`,
  );
  const planted = await harbor.refused(
    `insert into ai_email_queue (tenant_id, recipient, subject, body)
values ('${summit.id}', 'grace.alder@alder-sons.example', 'In your name', 'Not from you')`,
  );
  return [
    { what: "summit's rows that harbor sees", expected: 0, found: Number(mails?.n) + Number(leads?.n) },
    { what: "summit's rows that harbor changes", expected: 0, found: changed.length },
    {
      what: "harbor inserting in summit's name",
      expected: "refused (42501)",
      found: planted === null ? "succeeded" : `refused (${planted})`,
    },
  ];
}

async function rememberBounces(stage: Stage): Promise<Figure[]> {
  const { screen, simulators, summit, watch } = stage;
  screen.chapter("A bounce is remembered");
  await summit.sql(
    `insert into ai_email_queue (recipient, subject, body) values ('${BOUNCES}', 'Did you get our mail?', '…')`,
  );
  await watch.until(
    "it is skipped",
    "select count(*) filter (where status = 'skipped') = 2 as skipped from ai_email_queue where tenant_id = $1",
    [summit.id],
  );
  const mail = simulators.sendgrid.messages.find(({ to }) => to[0]?.email === GREETED);
  const hello = mail?.content.find(({ type }) => type === "text/plain")?.value.trim();
  return [
    {
      what: "Liquid in the mail to a lead's id",
      expected: "Hello Zoë Finch, shall we have a look?",
      found: hello ?? "no such mail",
    },
  ];
}

async function killWorker(stage: Stage, first: WorkerProcess): Promise<Figure[]> {
  const { screen, simulators, summit, harbor, watch } = stage;
  const simulator = simulators.sendgrid;
  screen.chapter("A worker is killed with mails in flight");
  // SendGrid accepts these mails at once, but answers only a minute later.
  simulator.faults.add({ kind: "slow", delayMs: 60_000, times: CONCURRENCY });
  await harbor.sql(
    `insert into ai_email_queue (recipient, subject, body)
select id, 'Your appointment, {{ lead.contact_name }}', 'See you tomorrow at 9.'
from revenue_leads order by score desc limit ${REMINDERS}`,
  );
  await simulator.waitFor((stats) => stats.faulted >= CONCURRENCY);
  const [inFlight] = await stage.query<{ n: number }>(
    "select count(*)::int as n from ai_email_queue where status = 'processing'",
  );
  screen.say(`SendGrid has ${inFlight?.n} of them and has not answered yet`, "warn");

  const second = await stage.startWorker(CONCURRENCY);
  screen.say(`starting worker 2 (process ${second.pid})`);
  await second.ready;
  first.kill();
  const killedAt = performance.now();
  await first.exited;
  screen.say(`worker 1 was killed with SIGKILL (process ${first.pid})`, "bad");

  await summit.sql(
    `insert into ai_email_queue (recipient, subject, body)
select id, 'Still here', 'Work goes on.' from revenue_leads order by score desc limit ${AFTER_KILL}`,
  );
  await watch.until(
    "worker 2 sends mails that were inserted after the kill",
    "select count(*) = $1 as sent from ai_email_queue where subject = 'Still here' and status = 'completed'",
    [AFTER_KILL],
  );
  await watch.until(
    "the dead worker's rows are rescued",
    `select
       count(*) filter (where status = 'unconfirmed') = $2 as in_flight,
       count(*) filter (where status = 'completed') = $3 as waiting
     from ai_email_queue where tenant_id = $1 and subject like 'Your appointment%'`,
    [harbor.id, CONCURRENCY, REMINDERS - CONCURRENCY],
    30_000,
  );
  const rescuedS = (performance.now() - killedAt) / 1000;
  screen.say(
    `worker 2 took over ${rescuedS.toFixed(1)} s after the kill: mails that SendGrid may have are not sent again`,
    "good",
  );

  await flushEvents(stage);
  const [lost] = await stage.query<{ n: number }>(
    "select count(*)::int as n from ai_email_queue where status = 'unconfirmed'",
  );
  screen.say(`SendGrid's events settle them: ${lost?.n} unconfirmed`, "good");
  const code = await second.stop(20_000);
  screen.say(`worker 2 drained and exited with code ${String(code)}`);
  return [
    { what: "the killed worker's mails in flight", expected: CONCURRENCY, found: inFlight?.n ?? 0 },
    {
      what: "their rows are rescued after",
      expected: `at most ${MAX_RESCUE_S} s`,
      found: `${rescuedS.toFixed(1)} s`,
      right: rescuedS <= MAX_RESCUE_S,
    },
    { what: "unconfirmed after SendGrid's events", expected: 0, found: lost?.n ?? -1 },
    { what: "exit code of a worker that drains", expected: 0, found: code ?? "killed" },
  ];
}

const campaignOf = (leads: readonly DemoLead[]): number => leads.filter(({ score }) => score >= CAMPAIGN_SCORE).length;

/** Rows by tenant and status. */
async function mailFigures(stage: Stage, leads: readonly DemoLead[]): Promise<Figure[]> {
  const expected: Record<string, Record<string, number>> = {
    // Every lead except the suppressed one; the mail that was due in two seconds; those after the kill.
    summit: { completed: leads.length + AFTER_KILL, skipped: 2, pending: 1, cancelled: 1 },
    harbor: { completed: campaignOf(leads) + REMINDERS },
  };
  const rows = await stage.query<{ slug: string; status: string; n: number }>(
    `select t.slug, q.status, count(*)::int as n
     from ai_email_queue as q
     inner join tenants as t on t.id = q.tenant_id
     group by t.slug, q.status`,
  );
  const [facts] = await stage.query<{ early: number; bounces: number; summit: number; harbor: number }>(
    `select
       (select count(*) from ai_email_queue where sent_at < scheduled_for)::int as early,
       (select count(*) from email_bounces where bounce_type = 'hard')::int as bounces,
       count(*) filter (where tenant_id = $1)::int as summit,
       count(*) filter (where tenant_id = $2)::int as harbor
     from contact_suppressions`,
    [stage.summit.id, stage.harbor.id],
  );
  const unexpected = rows.filter(({ slug, status }) => expected[slug]?.[status] === undefined);
  return [
    ...Object.entries(expected).flatMap(([slug, statuses]) =>
      Object.entries(statuses).map(([status, count]) => ({
        what: `${slug}: mails ${status}`,
        expected: count,
        found: rows.find((row) => row.slug === slug && row.status === status)?.n ?? 0,
      })),
    ),
    { what: "mails in any other status", expected: 0, found: unexpected.reduce((sum, { n }) => sum + n, 0) },
    { what: "mails sent before they were due", expected: 0, found: facts?.early ?? -1 },
    { what: "hard bounces", expected: 1, found: facts?.bounces ?? -1 },
    { what: "summit's suppressed addresses", expected: 2, found: facts?.summit ?? -1 },
    { what: "harbor's suppressed addresses", expected: 0, found: facts?.harbor ?? -1 },
  ];
}

/** Compares the rows with the mails that SendGrid accepted. */
async function onceFigures({ query, simulators }: Stage): Promise<Figure[]> {
  const simulator = simulators.sendgrid;
  const rows = await query<{ id: string; status: string }>("select id, status from ai_email_queue");
  const sent = rows.filter(({ status }) => status === "completed");
  const kept = rows.filter(({ status }) => status !== "completed");
  const once = sent.filter(({ id }) => simulator.acceptedCount(id) === 1).length;
  const deliveries = await query<{ n: number }>(
    "select count(distinct (email_id, event))::int as n from email_deliveries",
  );
  return [
    { what: "completed mails that SendGrid received exactly once", expected: sent.length, found: once },
    { what: "mails that SendGrid received more than once", expected: 0, found: simulator.duplicates().length },
    {
      what: "skipped, cancelled and future mails that SendGrid received",
      expected: 0,
      found: kept.filter(({ id }) => simulator.acceptedCount(id) > 0).length,
    },
    { what: "recorded events, two per mail", expected: 2 * sent.length, found: deliveries[0]?.n ?? -1 },
  ];
}
