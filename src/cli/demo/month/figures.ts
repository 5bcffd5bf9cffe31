// The month's figures: the expected results, computed from the cast alone, and what the database and the
// simulators contain.
import type { Figure } from "../figures.ts";
import type { Stage } from "../stage.ts";
import type { Cast, Person } from "./cast.ts";

/** Messages of each library sequence to a person who does not react, by the campaign's code. */
const SEQUENCES = {
  new_roofing_lead: { mails: 2, texts: 1 },
  outreach: { mails: 2, texts: 1 },
  nurture_five: { mails: 5, texts: 0 },
} as const;
const SURVEY_CENTS = 45_000;
/** From welcome_email to first_project. */
const ONBOARDING_STEPS = 5;
/** Marketing is sent from 8:00 to 21:00 in the recipient's time zone. */
const DAY = { from: 8, to: 21 };
const CAP = 3;
const CAP_MS = 7 * 86_400_000;

const campaignOf = ({ source }: Person): keyof typeof SEQUENCES =>
  source === "storm" ? "new_roofing_lead" : source === "referral" ? "outreach" : "nurture_five";

interface Received {
  readonly mails: number;
  readonly texts: number;
}

/** The messages that a person receives before they end the sequence. */
function expectedOf(person: Person): Received {
  const whole: Received = SEQUENCES[campaignOf(person)];
  const { part, mailbox, textable } = person;
  if (mailbox !== "takes") return { mails: 1, texts: 0 };
  // STOP ends texts only.
  if (part.does === "silent" || part.does === "stops") return { mails: whole.mails, texts: textable ? whole.texts : 0 };
  // The text comes after the first mail.
  return part.on.channel === "email" ? { mails: part.on.nth, texts: 0 } : { mails: 1, texts: part.on.nth };
}

export async function monthFigures(stage: Stage, cast: Cast): Promise<Figure[]> {
  const { simulators } = stage;
  const { people } = cast;
  const those = (test: (person: Person) => boolean): number => people.filter(test).length;
  const sum = (of: (person: Person) => number): number => people.reduce((total, person) => total + of(person), 0);
  const does = (what: Person["part"]["does"]): number => those(({ part }) => part.does === what);
  const payers = does("pays");
  const refunded = those(({ part }) => part.does === "pays" && part.refunded === true);
  const bounced = those(({ mailbox }) => mailbox === "bounces");
  const complained = those(({ mailbox }) => mailbox === "complains");
  const nurtured = those(
    ({ part, mailbox }) => mailbox === "takes" && (part.does === "silent" || part.does === "stops"),
  );

  const found = await ask(stage);
  const of = (name: string): number => found[name] ?? -1;
  const line = (what: string, expected: number, name: string): Figure => ({
    what: `ridge: ${what}`,
    expected,
    found: of(name),
  });
  const got = people.map((person) => ({ person, ...messagesTo(stage, person) }));
  const wrong = got.filter(({ person, mails, texts }) => {
    const expected = expectedOf(person);
    return mails.length !== expected.mails || texts.length !== expected.texts;
  });
  const times = got.map(({ person, mails, texts }) => ({ person, at: [...mails, ...texts].toSorted((a, b) => a - b) }));
  return [
    line("leads from the file", cast.lines - cast.invalid - cast.repeated, "leads"),
    line(
      "scored hot",
      those(({ source }) => source !== "website"),
      "hot",
    ),
    line(
      "campaign mails sent",
      sum((person) => expectedOf(person).mails),
      "campaign_mails",
    ),
    line(
      "campaign texts sent",
      sum((person) => expectedOf(person).texts),
      "campaign_texts",
    ),
    { what: "ridge: people who received other messages than expected", expected: 0, found: wrong.length },
    {
      what: "ridge: campaign messages outside 8:00 to 21:00 in the recipient's time zone",
      expected: 0,
      found: times.flatMap(({ person, at }) => at.filter((time) => isNight(time, person.timeZone))).length,
    },
    {
      what: `ridge: people with more than ${CAP} campaign messages within 7 days`,
      expected: 0,
      found: times.filter(({ at }) => at.some((time, n) => (at[n + CAP] ?? Infinity) - time < CAP_MS)).length,
    },
    line("sequences completed", nurtured, "completed"),
    line("sequences ended by a reply", payers + does("declines"), "replied"),
    line("sequences ended by an unsubscribe", does("unsubscribes"), "unsubscribed"),
    line("sequences ended by a bounce or complaint", bounced + complained, "bounced"),
    line("sequences still running", 0, "running"),
    {
      what: "ridge: links at Stripe, one per request",
      expected: payers,
      found: simulators.stripe.links().length,
    },
    line("payments in the ledger, cents", payers * SURVEY_CENTS, "paid_cents"),
    line("refunds in the ledger, cents", refunded * SURVEY_CENTS, "refunded_cents"),
    line("leads won", payers, "won"),
    line("leads lost", does("declines"), "lost"),
    line("customers onboarded", payers - 1, "onboarded"),
    line("onboardings reported as stuck", 1, "stuck"),
    line("onboarding steps done", (payers - 1) * ONBOARDING_STEPS + 1, "steps"),
    line(
      "calls added to the sales list",
      those(({ source }) => source === "referral"),
      "calls",
    ),
    line("rows failed, unconfirmed or still processing", 0, "left"),
    {
      what: "ridge: texts that Twilio received more than once",
      expected: 0,
      found: simulators.twilio.duplicates().length,
    },
  ];
}

/** When the simulators received a person's campaign messages, in Unix milliseconds. */
function messagesTo({ simulators }: Stage, { email, phone }: Person): { mails: number[]; texts: number[] } {
  const mails = simulators.sendgrid.messages.filter(
    (mail) => mail.to[0]?.email.toLowerCase() === email && mail.headers["List-Unsubscribe"] !== undefined,
  );
  return {
    mails: mails.map(({ at }) => at),
    texts: simulators.twilio.messages.filter((text) => text.to === phone).map(({ at }) => at),
  };
}

function isNight(at: number, timeZone: string): boolean {
  const hour = Number(new Intl.DateTimeFormat("en", { hour: "numeric", hourCycle: "h23", timeZone }).format(at));
  return hour < DAY.from || hour >= DAY.to;
}

async function ask({ query, ridge }: Stage): Promise<Record<string, number>> {
  const [row] = await query<Record<string, string>>(FACTS, [ridge.id]);
  return Object.fromEntries(Object.entries(row ?? {}).map(([name, value]) => [name, Number(value)]));
}

const FACTS = `
select
  (select count(*) from revenue_leads where tenant_id = $1) as leads,
  (
    select count(distinct lead_id)
    from (
      select lead_id, sum(points) as score from lead_score_events
      where tenant_id = $1 and half_life is null and reason not in ('opted_out', 'email_unsubscribed', 'email_bounced', 'email_complained')
      group by lead_id
    ) as s
    where s.score >= 80
  ) as hot,
  (select count(*) from ai_email_queue where tenant_id = $1 and touch_id is not null and status = 'completed') as campaign_mails,
  (select count(*) from ai_sms_queue where tenant_id = $1 and touch_id is not null and status = 'completed') as campaign_texts,
  (select count(*) from ai_nurture_campaigns where tenant_id = $1 and status = 'completed') as completed,
  (select count(*) from ai_nurture_campaigns where tenant_id = $1 and exit_reason like '%_replied') as replied,
  (select count(*) from ai_nurture_campaigns where tenant_id = $1 and exit_reason = 'email_unsubscribed') as unsubscribed,
  (select count(*) from ai_nurture_campaigns where tenant_id = $1 and exit_reason in ('email_bounced', 'email_complained')) as bounced,
  (select count(*) from ai_nurture_campaigns where tenant_id = $1 and status in ('active', 'paused')) as running,
  (select coalesce(sum(amount_minor) filter (where kind = 'payment'), 0) from payment_ledger where tenant_id = $1) as paid_cents,
  (select coalesce(sum(abs(amount_minor)) filter (where kind = 'refund'), 0) from payment_ledger where tenant_id = $1) as refunded_cents,
  (select count(*) from revenue_leads where tenant_id = $1 and stage = 'won') as won,
  (select count(*) from revenue_leads where tenant_id = $1 and stage = 'lost') as lost,
  (select count(*) from ai_onboarding_workflows where tenant_id = $1 and status = 'completed') as onboarded,
  (select count(*) from brainops.stuck_onboarding where tenant_id = $1) as stuck,
  (select count(*) from ai_onboarding_steps where tenant_id = $1 and status = 'completed') as steps,
  (select count(*) from lead_tasks where tenant_id = $1 and title like 'Call today%') as calls,
  (select count(*) from brainops.jobs where tenant_id = $1 and status in ('failed', 'unconfirmed', 'processing')) as left
`;
