// The reactions of the cast to mails and texts, through the ways that people have: a reply, an unsubscribe
// link, a text, a payment page.
import type { Simulators } from "../../simulators.ts";
import type { Query } from "./clock.ts";
import type { Nth, Person } from "./cast.ts";

export interface People {
  /** Reads the messages since the last call and reacts to them. Returns the number of reactions. */
  act(): Promise<number>;
  /** The sales rep's day: completes one onboarding step of each customer, except for the forgotten one. */
  work(): Promise<void>;
  /** What happened since the last call, as lines for the screen. */
  news(): readonly string[];
}

/** A person's campaign messages so far. */
interface Inbox {
  readonly person: Person;
  readonly received: Record<Nth["channel"], number>;
  done: boolean;
}

export function createPeople(people: readonly Person[], simulators: Simulators, asRep: Query): People {
  const inboxes = people.map((person): Inbox => ({ person, received: { email: 0, sms: 0 }, done: false }));
  const byEmail = new Map(inboxes.map((inbox) => [inbox.person.email, inbox]));
  const byPhone = new Map(
    inboxes.flatMap((inbox) => (inbox.person.phone === null ? [] : [[inbox.person.phone, inbox]])),
  );
  const news: string[] = [];
  const refunded = new Set<string>();
  let mailsRead = simulators.sendgrid.messages.length;
  let textsRead = simulators.twilio.messages.length;

  const payLink = async (person: Person, content: string): Promise<void> => {
    const link = content.match(/https?:\/\/[^\s"'<>]+/g)?.find((url) => url.startsWith(simulators.stripe.url));
    if (link === undefined || person.part.does !== "pays") return;
    const { card } = person.part;
    if (card === "declined first") simulators.stripe.pay(link, { email: person.email, card: "declined" });
    const { outcome } = simulators.stripe.pay(link, {
      email: person.email,
      card: card === "async_ok" ? "async_ok" : "ok",
    });
    news.push(`${person.email} pays by the link (${outcome})`);
  };

  const respond = async ({ person }: Inbox, unsubscribe: string | undefined): Promise<void> => {
    const { part, email, phone } = person;
    if (part.does === "silent") return;
    news.push(
      `${email} ${part.does === "stops" ? "texts STOP" : part.does === "unsubscribes" ? "unsubscribes" : "replies"}`,
    );
    if (part.does === "unsubscribes") {
      const body = new URLSearchParams({ "List-Unsubscribe": "One-Click" });
      await fetch(unsubscribe ?? "", { method: "POST", body, signal: AbortSignal.timeout(5000) });
    } else if (part.on.channel === "sms" && phone !== null) {
      simulators.twilio.receive({ from: phone, body: part.does === "stops" ? "STOP" : "Yes, please come by." });
    } else {
      await asRep("select brainops.record_reply(id, 'email', $2) from revenue_leads where email_key = $1", [
        email,
        part.does === "pays" ? "Sounds good. What is the next step?" : "No, thank you.",
      ]);
    }
    // The sales rep's response.
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
      const before = news.length;
      for (const mail of simulators.sendgrid.messages.slice(mailsRead)) {
        mailsRead++;
        const inbox = byEmail.get(mail.to[0]?.email.toLowerCase() ?? "");
        if (inbox === undefined) continue;
        const content = mail.content.map(({ value }) => value).join("\n");
        const unsubscribe = /<(https?:.+?)>/.exec(mail.headers["List-Unsubscribe"] ?? "")?.[1];
        if (unsubscribe === undefined) await payLink(inbox.person, content);
        else if (arrives(inbox, "email")) await respond(inbox, unsubscribe);
      }
      for (const text of simulators.twilio.messages.slice(textsRead)) {
        textsRead++;
        const inbox = byPhone.get(text.to);
        if (inbox !== undefined && arrives(inbox, "sms")) await respond(inbox, undefined);
      }
      return news.length - before;
    },
    work: async () => {
      const done = await asRep<{ completed: string }>(ONE_STEP_EACH, [FORGOTTEN]);
      if (done.length > 0) news.push(`the office completes ${done.map(({ completed }) => completed).join(", ")}`);
      for (const { person } of inboxes.filter(wantsRefund)) {
        const [row] = await asRep<{ link: string }>(FIRST_PROJECT_DONE, [person.email]);
        if (row === undefined || refunded.has(person.email)) continue;
        refunded.add(person.email);
        simulators.stripe.refund(row.link);
        news.push(`${person.email} is refunded`);
      }
    },
    news: () => news.splice(0),
  };
}

/** The customer whose onboarding the office forgets. */
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

/** Counts a message. Returns whether it is the one that the person reacts to. */
function arrives(inbox: Inbox, channel: Nth["channel"]): boolean {
  const { part } = inbox.person;
  inbox.received[channel]++;
  if (inbox.done || part.does === "silent" || part.on.channel !== channel || inbox.received[channel] !== part.on.nth)
    return false;
  inbox.done = true;
  return true;
}
