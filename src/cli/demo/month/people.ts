// What the people of the cast do when something reaches them, through the doors that people have:
// a reply, a click, a text, a till.
import type { StandIns } from "../../standIns.ts";
import type { Query } from "./clock.ts";
import type { Nth, Person } from "./cast.ts";

export interface People {
  /** Reads what came since the last call and acts on it; how many did something. */
  act(): Promise<number>;
  /** The rep's day at the office: each customer's onboarding moves on by a step, but for the one that is forgotten. */
  work(): Promise<void>;
  /** What happened so far, in words, for the screen; emptied by the call. */
  news(): readonly string[];
}

/** Counts of what each has got from campaigns. */
interface Inbox {
  readonly person: Person;
  readonly got: Record<Nth["channel"], number>;
  done: boolean;
}

export function createPeople(people: readonly Person[], world: StandIns, asRep: Query): People {
  const inboxes = people.map((person): Inbox => ({ person, got: { email: 0, sms: 0 }, done: false }));
  const byEmail = new Map(inboxes.map((inbox) => [inbox.person.email, inbox]));
  const byPhone = new Map(
    inboxes.flatMap((inbox) => (inbox.person.phone === null ? [] : [[inbox.person.phone, inbox]])),
  );
  const told: string[] = [];
  const refunded = new Set<string>();
  let mailsRead = world.sendgrid.messages.length;
  let textsRead = world.twilio.messages.length;

  const payLink = async (person: Person, content: string): Promise<void> => {
    const link = content.match(/https?:\/\/[^\s"'<>]+/g)?.find((url) => url.startsWith(world.stripe.url));
    if (link === undefined || person.part.does !== "pays") return;
    const { card } = person.part;
    if (card === "declined first") world.stripe.pay(link, { email: person.email, card: "declined" });
    const { outcome } = world.stripe.pay(link, { email: person.email, card: card === "async_ok" ? "async_ok" : "ok" });
    told.push(`${person.email} pays by the link (${outcome})`);
  };

  const respond = async ({ person }: Inbox, unsubscribe: string | undefined): Promise<void> => {
    const { part, email, phone } = person;
    if (part.does === "silent") return;
    told.push(
      `${email} ${part.does === "stops" ? "texts STOP" : part.does === "unsubscribes" ? "unsubscribes" : "replies"}`,
    );
    if (part.does === "unsubscribes") {
      const body = new URLSearchParams({ "List-Unsubscribe": "One-Click" });
      await fetch(unsubscribe ?? "", { method: "POST", body, signal: AbortSignal.timeout(5000) });
    } else if (part.on.channel === "sms" && phone !== null) {
      world.twilio.receive({ from: phone, body: part.does === "stops" ? "STOP" : "Yes, please come by." });
    } else {
      await asRep("select brainops.record_reply(id, 'email', $2) from revenue_leads where email_key = $1", [
        email,
        part.does === "pays" ? "Sounds good. How do we go on?" : "No, thank you.",
      ]);
    }
    // What the sales rep does about it.
    if (part.does === "pays") {
      await asRep(
        "insert into payment_requests (lead_id, plan_code, deliver_by) select id, 'survey', 'email' from revenue_leads where email_key = $1",
        [email],
      );
    } else if (part.does === "declines") {
      await asRep("update revenue_leads set stage = 'lost' where email_key = $1", [email]);
    }
  };

  return {
    act: async () => {
      const before = told.length;
      for (const mail of world.sendgrid.messages.slice(mailsRead)) {
        mailsRead++;
        const inbox = byEmail.get(mail.to[0]?.email.toLowerCase() ?? "");
        if (inbox === undefined) continue;
        const content = mail.content.map(({ value }) => value).join("\n");
        const unsubscribe = /<(https?:.+?)>/.exec(mail.headers["List-Unsubscribe"] ?? "")?.[1];
        if (unsubscribe === undefined) await payLink(inbox.person, content);
        else if (arrives(inbox, "email")) await respond(inbox, unsubscribe);
      }
      for (const text of world.twilio.messages.slice(textsRead)) {
        textsRead++;
        const inbox = byPhone.get(text.to);
        if (inbox !== undefined && arrives(inbox, "sms")) await respond(inbox, undefined);
      }
      return told.length - before;
    },
    work: async () => {
      const done = await asRep<{ completed: string }>(ONE_STEP_EACH, [FORGOTTEN]);
      if (done.length > 0) told.push(`the office completes ${done.map(({ completed }) => completed).join(", ")}`);
      for (const { person } of inboxes.filter(wantsRefund)) {
        const [row] = await asRep<{ link: string }>(FIRST_PROJECT_DONE, [person.email]);
        if (row === undefined || refunded.has(person.email)) continue;
        refunded.add(person.email);
        world.stripe.refund(row.link);
        told.push(`${person.email} is paid back`);
      }
    },
    news: () => told.splice(0),
  };
}

/** Nobody in the office looks after this one. */
const FORGOTTEN = "mona.mercer@mercerco.example";
const ONE_STEP_EACH = `
  update ai_onboarding_steps as s set status = 'completed'
  from ai_onboarding_workflows as w
  inner join revenue_leads as l on l.id = w.lead_id
  where w.id = s.workflow_id and s.status = 'in_progress' and l.email_key <> $1
  returning s.step_name as completed`;
const FIRST_PROJECT_DONE = `
  select r.stripe_payment_link_id as link
  from revenue_leads as l
  inner join ai_onboarding_workflows as w on w.lead_id = l.id and w.status = 'completed'
  inner join payment_requests as r on r.lead_id = l.id
  where l.email_key = $1`;
const wantsRefund = ({ person: { part } }: Inbox): boolean => part.does === "pays" && part.refunded === true;

/** Counts a message, and tells whether it is the one that the person acts on. */
function arrives(inbox: Inbox, channel: Nth["channel"]): boolean {
  const { part } = inbox.person;
  inbox.got[channel]++;
  if (inbox.done || part.does === "silent" || part.on.channel !== channel || inbox.got[channel] !== part.on.nth)
    return false;
  inbox.done = true;
  return true;
}
