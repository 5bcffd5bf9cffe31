// Which request an event belongs to: decided by the ids that we stored, never by the event's metadata,
// and never across accounts. And events that arrive before the object they are about is known.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { deleting } from "../support/deleteRows.ts";
import {
  createLinkedRequest,
  charge,
  checkout,
  event,
  storeLink,
  insertRow,
  processAll,
  refund,
  requestOf,
  applyEvents,
  type StripeEvent,
} from "./support.ts";

let db: TestDatabase;
let ownAccount: string;

beforeAll(async () => {
  db = await createTestDatabase();
  await insertRow(db, "admin", "plans", { code: "starter", name: "Starter", amount: "999", currency: "usd" });
  const [credential] = await db.query<{ id: string }>(
    "insert into provider_credentials (tenant_id, provider, sealed) values ($1, 'stripe', '') returning id",
    [db.tenantB],
  );
  ownAccount = credential?.id ?? "";
});
afterAll(() => db?.close());

const paid = (n: string, link: string, changes = {}): StripeEvent =>
  event("checkout.session.completed", 1, checkout(n, link, 99_900, changes));
const statusOf = async (id: string): Promise<unknown> => (await requestOf(db, id))["payment_status"];
const outcomeOf = async (applied: StripeEvent): Promise<unknown> =>
  (await db.query("select status, skip_reason from webhook_events where provider_event_id = $1", [applied.id]))[0];
/** How many jobs were queued to process it. */
const jobsOf = async (applied: StripeEvent): Promise<unknown> =>
  (
    await db.query(
      `select count(*)::int as jobs from graphile_worker._private_jobs
       where payload::jsonb -> 'ids' ? (select id::text from webhook_events where provider_event_id = $1)`,
      [applied.id],
    )
  )[0]?.["jobs"];

describe("an event", () => {
  it("whose metadata names a request it does not belong to changes nothing", async () => {
    const { id } = await createLinkedRequest(db, "tenantA", "starter");
    const forged = paid("metadata", "plink_unknown", {
      metadata: { tenant: db.tenantA, request: id, link: "0" },
      client_reference_id: id,
    });
    await applyEvents(db, [forged]);
    expect(await statusOf(id)).toBe("open");
    expect(await outcomeOf(forged)).toMatchObject({ status: "skipped" });
  });

  it("from a tenant's own account changes no request of the platform account or of another tenant", async () => {
    const [ours, theirs] = [
      await createLinkedRequest(db, "tenantA", "starter"),
      await createLinkedRequest(db, "tenantB", "starter"),
    ];
    await applyEvents(db, [paid("x-ours", ours.link), paid("x-theirs", theirs.link)], db.tenantB);
    expect([await statusOf(ours.id), await statusOf(theirs.id)]).toEqual(["open", "open"]);
  });

  it("from a tenant's own account counts for links created through it, and one from another account does not", async () => {
    const { id, link } = await createLinkedRequest(db, "tenantB", "starter", ownAccount);
    await applyEvents(db, [paid("own-1", link)]);
    await applyEvents(db, [paid("own-2", link)], db.tenantA);
    expect(await statusOf(id)).toBe("open");
    await applyEvents(db, [paid("own-3", link)], db.tenantB);
    expect(await statusOf(id)).toBe("paid");
  });

  it("from a connected account, of a checkout without our link, or of an unknown type is skipped with a reason", async () => {
    const { id, link } = await createLinkedRequest(db, "tenantA", "starter");
    const connected = { ...paid("connected", link), account: "acct_1" };
    const elsewhere = paid("elsewhere", "", { payment_link: null });
    const unknown = event("product.created", 1, { id: "prod_1" });
    const none = { ...unknown, id: "evt_thin", data: null };
    await applyEvents(db, [connected, elsewhere, unknown, none]);
    for (const [skipped, reason] of [
      [connected, "the event is from a connected account, and BrainOps uses none"],
      [elsewhere, "the checkout was not made through a payment link"],
      [unknown, "BrainOps does not use events of type 'product.created'"],
      [none, 'the event has no "type", "created" or "data.object"'],
    ] as const) {
      expect(await outcomeOf(skipped)).toEqual({ status: "skipped", skip_reason: reason });
    }
    expect(await statusOf(id)).toBe("open");
  });

  it("in the payer's own currency is booked in the request's currency", async () => {
    const { id, link } = await createLinkedRequest(db, "tenantA", "starter");
    const conversion = { amount_total: 99_900, source_currency: "usd" };
    await applyEvents(db, [
      paid("converted", link, { amount_total: 92_500, currency: "eur", currency_conversion: conversion }),
    ]);
    expect(await requestOf(db, id)).toMatchObject({ payment_status: "paid", paid_minor: "99900", attention: null });
  });
});

describe("a refund in a currency other than the requested one", () => {
  const converted = (n: string, link: string): StripeEvent =>
    paid(n, link, {
      amount_total: 1900,
      currency: "jpy",
      currency_conversion: { amount_total: 99_900, source_currency: "usd" },
    });
  const yen = { currency: "jpy" };
  const factsOf = async (id: string): Promise<unknown[]> => {
    const row = await requestOf(db, id);
    return [row["payment_status"], row["paid_minor"], row["refunded_minor"]];
  };

  it.each([
    ["by refunds", false, true],
    ["by the charge's total", true, false],
    ["by both", true, true],
  ])("reported %s is prorated by the charged amount", async (how, byCharge, byRefund) => {
    const { id, link } = await createLinkedRequest(db, "tenantA", "starter");
    const n = how.replaceAll(/\W/g, "");
    const back = async (part: string, minor: number, total: number): Promise<void> => {
      if (byCharge) await applyEvents(db, [event("charge.refunded", 9, { ...charge(n, 1900, total), ...yen })]);
      if (byRefund) await applyEvents(db, [event("refund.created", 9, refund(`re_${n}_${part}`, n, minor, yen))]);
    };
    await applyEvents(db, [converted(n, link)]);
    expect(await factsOf(id)).toEqual(["paid", "99900", "0"]);
    await back("some", 1300, 1300);
    // 99900 * 1300 / 1900 = 68352.6
    expect(await factsOf(id)).toEqual(["partially_refunded", "99900", "68353"]);
    await back("rest", 600, 1900);
    expect(await factsOf(id)).toEqual(["refunded", "99900", "99900"]);
  });

  it("that failed does not count", async () => {
    const { id, link } = await createLinkedRequest(db, "tenantA", "starter");
    const failed = { ...yen, status: "failed" };
    await applyEvents(db, [converted("came-back", link)]);
    await applyEvents(db, [event("charge.refunded", 9, { ...charge("came-back", 1900, 1300), ...yen })]);
    await applyEvents(db, [event("refund.failed", 10, refund("re_came-back", "came-back", 1300, failed))]);
    expect(await factsOf(id)).toEqual(["paid", "99900", "0"]);
  });

  it("of a conversion that was not stored is prorated by the charge's own total", async () => {
    const { id, link } = await createLinkedRequest(db, "tenantA", "starter");
    await applyEvents(db, [converted("older", link)]);
    await db.query("update stripe_objects set charged_minor = null, currency = null where object_id = 'pi_older'");
    await applyEvents(db, [event("charge.refunded", 9, { ...charge("older", 1900, 950), ...yen })]);
    expect(await factsOf(id)).toEqual(["partially_refunded", "99900", "49950"]);
  });

  it("of a second payment does not reduce the requested one", async () => {
    const { id, link } = await createLinkedRequest(db, "tenantA", "starter");
    await applyEvents(db, [paid("requested", link), paid("second", link, { amount_total: 200, ...yen })]);
    await applyEvents(db, [event("refund.created", 9, refund("re_second", "second", 200, yen))]);
    expect(await factsOf(id)).toEqual(["paid", "99900", "0"]);
  });

  it("of an accepted payment is prorated by the requested amount", async () => {
    const { id, link } = await createLinkedRequest(db, "tenantA", "starter");
    await applyEvents(db, [paid("euros", link, { amount_total: 1200, currency: "eur" })]);
    expect(await factsOf(id)).toEqual(["open", "0", "0"]);
    await db.as("tenantA", "update payment_requests set payment_status = 'paid' where id = $1", [id]);
    expect(await factsOf(id)).toEqual(["paid", "99900", "0"]);
    const euros = { currency: "eur" };
    await applyEvents(db, [event("refund.created", 9, refund("re_euros_1", "euros", 300, euros))]);
    expect(await factsOf(id)).toEqual(["partially_refunded", "99900", "24975"]);
    await applyEvents(db, [event("refund.created", 9, refund("re_euros_2", "euros", 900, euros))]);
    expect(await factsOf(id)).toEqual(["refunded", "99900", "99900"]);
  });
});

describe("an event that arrives too early", () => {
  it("waits for its link, and is applied when the link is stored", async () => {
    const id = await insertRow(db, "tenantA", "payment_requests", { plan_code: "starter" });
    // storeLink stores plink_<n>; here the payment arrives before Stripe's response to us.
    const { link: last } = await createLinkedRequest(db, "tenantA", "starter");
    const early = paid("early", `plink_${Number(last.slice("plink_".length)) + 1}`);
    await applyEvents(db, [early]);
    expect(await outcomeOf(early)).toMatchObject({ status: "skipped" });
    await storeLink(db, id);
    expect(await outcomeOf(early)).toMatchObject({ status: "pending" });
    await processAll(db);
    expect([await statusOf(id), await outcomeOf(early)]).toEqual(["paid", { status: "completed", skip_reason: null }]);
  });

  it("waits for its payment: refund before charge before checkout", async () => {
    const { id, link } = await createLinkedRequest(db, "tenantA", "starter");
    const back = event("refund.created", 9, refund("re_early", "chain", 99_900));
    const ofCharge = event("charge.refunded", 9, charge("chain", 99_900, 99_900));
    await applyEvents(db, [back]);
    await applyEvents(db, [ofCharge]);
    expect(await outcomeOf(back)).toMatchObject({
      status: "skipped",
      skip_reason: "waiting until one of ch_chain, pi_chain, re_early is known",
    });
    expect(await statusOf(id)).toBe("open");
    await applyEvents(db, [paid("chain", link)]);
    expect(await statusOf(id)).toBe("refunded");
    for (const applied of [back, ofCharge])
      expect(await outcomeOf(applied)).toEqual({ status: "completed", skip_reason: null });
    expect(
      await db.query("select from brainops.waiting_stripe_events where event_id = any ($1)", [[back.id, ofCharge.id]]),
    ).toEqual([]);
  });

  it.skipIf(!isServer).each([
    ["the link first", true, "select brainops_internal.wake_missed_stripe_events('5 minutes')"],
    ["the event first", false, "select brainops_internal.wake_missed_stripe_events('5 minutes')"],
    ["the event first, and only the sweep looks again", false, "select brainops_internal.sweep_webhook_events()"],
  ])("is applied even if its link is stored at the same moment: %s", async (name, linkFirst, lookAgain) => {
    const one = await db.connect("superuser");
    const other = await db.connect("worker");
    const link = `plink_race ${name}`;
    const id = await insertRow(db, "tenantA", "payment_requests", { plan_code: "starter" });
    await db.query("update payment_requests set key_started_at = now() where id = $1", [id]);
    const payment = paid(link, link);
    await db.as("worker", "select brainops_internal.record_webhook_events('stripe', $1::jsonb)", [
      JSON.stringify([payment]),
    ]);
    const storing = {
      client: one,
      text: "update payment_requests set status = 'completed', stripe_payment_link_id = $2, payment_url = $2 where id = $1",
      values: [id, link],
    };
    const applying = {
      client: other,
      text: "select brainops_internal.process_webhook_events(array(select id from webhook_events where provider_event_id = $1))",
      values: [payment.id],
    };
    // Neither waits for the other, so each misses what the other writes.
    for (const { client, text, values } of linkFirst ? [storing, applying] : [applying, storing]) {
      await client.query("begin");
      await client.query(text, values);
    }
    for (const { client } of linkFirst ? [applying, storing] : [storing, applying]) await client.query("commit");
    expect(await outcomeOf(payment)).toMatchObject({ status: "skipped" });
    await db.as("worker", lookAgain);
    expect(await outcomeOf(payment)).toMatchObject({ status: "pending" });
    await processAll(db);
    expect(await statusOf(id)).toBe("paid");
    // It waits no longer, so it is not woken again.
    expect(await db.as("worker", "select brainops_internal.wake_missed_stripe_events('5 minutes') as woken")).toEqual([
      { woken: 0 },
    ]);
  });

  it("is retried if it fails once when it is woken", async () => {
    const { id, link } = await createLinkedRequest(db, "tenantA", "starter");
    const back = event("refund.created", 9, refund("re_unlucky", "unlucky", 99_900));
    await applyEvents(db, [back]);
    // A sequence keeps its value when the transaction that used it is rolled back.
    await db.query(`
      create sequence failures;
      create function fail_once() returns trigger language plpgsql security definer as $$
      begin
        if nextval('public.failures') = 1 then
          raise exception 'deadlock detected' using errcode = 'deadlock_detected';
        end if;
        return new;
      end;
      $$;
      create trigger fail_once before insert on payment_ledger
      for each row when (new.object_id = 're_unlucky') execute function fail_once();
    `);
    try {
      await applyEvents(db, [paid("unlucky", link)]);
      expect(await statusOf(id)).toBe("paid");
      expect(
        await db.query("select id, status, attempts, last_error from webhook_events where provider_event_id = $1", [
          back.id,
        ]),
      ).toMatchObject([{ status: "pending", attempts: 0, last_error: "deadlock detected" }]);
      expect(await jobsOf(back)).toBe(2); // on arrival, and now
      await processAll(db);
      expect([await statusOf(id), await outcomeOf(back)]).toEqual([
        "refunded",
        { status: "completed", skip_reason: null },
      ]);
    } finally {
      await db.query("drop function fail_once cascade; drop sequence failures");
    }
  });

  it("fails after three attempts if it can never be applied, and queue_health shows it to admins", async () => {
    const { id, link } = await createLinkedRequest(db, "tenantA", "starter");
    const broken = event("refund.created", 9, { ...refund("re_broken", "broken", 1), amount: "a lot" });
    await applyEvents(db, [broken]);
    await applyEvents(db, [paid("broken", link)]);
    for (let attempt = 1; attempt <= 3; attempt += 1) {
      expect(await outcomeOf(broken)).toMatchObject({ status: "pending" });
      await processAll(db);
    }
    expect(await outcomeOf(broken)).toMatchObject({ status: "failed" });
    // Further events about the same payment do not restart it.
    await applyEvents(db, [event("refund.created", 9, refund("re_whole", "broken", 99_900))]);
    expect([await statusOf(id), await outcomeOf(broken)]).toMatchObject(["refunded", { status: "failed" }]);
    expect(await jobsOf(broken)).toBe(2);
    const health = "select tenant_id, failed::int from brainops.queue_health where table_name = 'webhook_events'";
    expect(await db.as("admin", health)).toEqual([{ tenant_id: null, failed: 1 }]);
    expect(await db.as("tenantA", health)).toEqual([]);
  });

  it("stops waiting after 30 days", async () => {
    const stranger = paid("stranger", "plink_of_nobody");
    await applyEvents(db, [stranger]);
    await db.query("update brainops.waiting_stripe_events set since = now() - interval '31 days' where event_id = $1", [
      stranger.id,
    ]);
    await applyEvents(db, [paid("stranger2", "plink_of_nobody_2")]);
    expect(await db.query("select from brainops.waiting_stripe_events where event_id = $1", [stranger.id])).toEqual([]);
  });
});

describe("a payment", () => {
  it("marks a lost lead as won and starts one onboarding, even for two requests", async () => {
    const first = await createLinkedRequest(db, "tenantA", "starter");
    await db.as("tenantA", "update revenue_leads set stage = 'lost' where id = $1", [first.leadId]);
    const second = await insertRow(db, "tenantA", "payment_requests", { lead_id: first.leadId, plan_code: "starter" });
    const link = await storeLink(db, second);
    await applyEvents(db, [paid("lost-1", first.link), paid("lost-2", link)]);
    expect([await statusOf(first.id), await statusOf(second)]).toEqual(["paid", "paid"]);
    const [lead] = await db.query(
      `select stage, (select count(*)::int from ai_onboarding_workflows as w where w.lead_id = l.id) as onboardings,
         (select count(*)::int from lead_events as e where e.lead_id = l.id and e.event = 'paid') as paid
       from revenue_leads as l where l.id = $1`,
      [first.leadId],
    );
    expect(lead).toEqual({ stage: "won", onboardings: 1, paid: 2 });
  });

  it("of a merged lead marks the remaining lead as won", async () => {
    const { id, leadId, link } = await createLinkedRequest(db, "tenantA", "starter");
    const into = await insertRow(db, "tenantA", "revenue_leads", { email: "into@x.example" });
    await db.as("tenantA", "select brainops.merge_leads($1, $2)", [into, leadId]);
    const later = await insertRow(db, "tenantA", "payment_requests", { lead_id: leadId, plan_code: "starter" });
    await applyEvents(db, [paid("merged", link)]);
    expect(await db.query("select lead_id from payment_requests where id in ($1, $2)", [id, later])).toEqual([
      { lead_id: into },
      { lead_id: into },
    ]);
    expect(await db.query("select stage from revenue_leads where id = $1", [into])).toEqual([{ stage: "won" }]);
  });

  it("of a person who has since been forgotten is still booked", async () => {
    const { id, leadId, link } = await createLinkedRequest(db, "tenantA", "starter");
    await db.as("tenantA", deleting("delete from revenue_leads where id = $1"), [leadId]);
    await applyEvents(db, [paid("forgotten", link)]);
    expect(await requestOf(db, id)).toMatchObject({ payment_status: "paid", lead_id: null });
  });

  it("adds up in the views, by lead and by month, in the currency's units", async () => {
    const { leadId, link } = await createLinkedRequest(db, "tenantA", "starter");
    await applyEvents(db, [paid("views", link), event("refund.created", 2, refund("re_views", "views", 9990))]);
    const [row] = await db.as(
      "tenantA",
      "select paid::float8, refunded::float8, net::float8, currency from payments_by_lead where lead_id = $1",
      [leadId],
    );
    expect(row).toEqual({ paid: 999, refunded: 99.9, net: 899.1, currency: "usd" });
    const [sum] = await db.as(
      "tenantA",
      `select sum(net) = (
         select sum(amount_minor) / 100 from payment_ledger where currency = 'usd'
       ) as same
       from revenue_summary where currency = 'usd'`,
    );
    expect(sum).toEqual({ same: true });
  });
});
