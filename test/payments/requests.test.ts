// A payment request from the seats: prices come from plans alone, the money is Stripe's to report,
// and what a client wishes (cancel, ask again, accept) has its place.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { renderHtml, renderText } from "../../src/revenue/email/template.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";
import { askFor, checkout, event, giveLink, insertRow, requestOf, tell, type Json } from "./support.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
  await insertRow(db, "admin", "plans", { code: "starter", name: "Starter", amount: "999", currency: "usd" });
  await insertRow(db, "tenantB", "plans", { code: "b-only", name: "Only of B", amount: "5" });
});
afterAll(() => db?.close());
beforeEach(async () => {
  await db.query("delete from payment_link_closures");
});

const ask = (row: Json, seat: "tenantA" | "tenantB" | "service" = "tenantA"): Promise<string> =>
  insertRow(db, seat, "payment_requests", row);
const update = (id: string, change: string, seat: "tenantA" | "tenantB" = "tenantA") =>
  db.as(seat, `update payment_requests set ${change} where id = $1 returning payment_status`, [id]);

describe("the price", () => {
  it.each([
    ["a plan's code", { plan_code: "starter" }],
    ["a plan's name as product_service, as old writers give it", { product_service: " Starter " }],
    ["the plan and the same amount", { product_service: "starter", amount: "999.00", currency: "USD", status: "open" }],
  ])("is the plan's, by %s", async (_name, row) => {
    const request = await requestOf(db, await ask(row));
    expect(request).toMatchObject({
      tenant_id: db.tenantA,
      plan_code: "starter",
      amount: "999",
      amount_minor: "99900",
      currency: "usd",
      interval: "one_time",
      status: "pending",
      payment_status: "open",
    });
  });

  it.each([
    ["another amount", { plan_code: "starter", amount: "1" }, "OP026", /costs 999 usd/],
    [
      "the same amount of another currency",
      { plan_code: "starter", amount: "999", currency: "eur" },
      "OP026",
      /costs 999/,
    ],
    ["an amount that is none", { plan_code: "starter", amount: "NaN" }, "OP026", /NaN/],
    ["no plan", { amount: "999", currency: "usd" }, "OP025", /null is not a plan/],
    ["a product that is no plan", { product_service: "Moon trip", amount: "1" }, "OP025", /'Moon trip' is not a plan/],
    ["another tenant's plan", { plan_code: "b-only" }, "OP025", /'b-only' is not a plan/],
    ["a request that says it is paid", { plan_code: "starter", payment_status: "paid" }, "OP029", /'paid'/],
  ])("is refused with %s", async (_name, row, code, message) => {
    const refused = await refusal(ask(row));
    expect(refused).toMatchObject({ code });
    expect(refused.message).toMatch(message);
    expect(refused.hint).toMatch(/\S/);
    expect(refused.hint).not.toContain("b-only");
  });

  it("of a service is the plan's of the tenant it names, and refused alike", async () => {
    const id = await ask({ tenant_id: db.tenantB, plan_code: "b-only" }, "service");
    expect(await requestOf(db, id)).toMatchObject({ tenant_id: db.tenantB, amount: "5" });
    const refused = await refusal(ask({ tenant_id: db.tenantB, plan_code: "b-only", amount: "4" }, "service"));
    expect(refused.code).toBe("OP026");
    expect((await refusal(ask({ tenant_id: db.tenantA, plan_code: "b-only" }, "service"))).code).toBe("OP025");
  });

  it("of a tenant's own plan goes before the common one, and of one lead's before both", async () => {
    await insertRow(db, "admin", "plans", { code: "own", name: "Own", amount: "10" });
    await insertRow(db, "tenantA", "plans", { code: "own", name: "Own of A", amount: "20" });
    const lead = await insertRow(db, "tenantA", "revenue_leads", { email: "special@x.example" });
    await insertRow(db, "tenantA", "plans", { code: "own-ann", name: "Own of A", amount: "15", lead_id: lead });
    expect(await requestOf(db, await ask({ plan_code: "own" }))).toMatchObject({ amount: "20" });
    expect(await requestOf(db, await ask({ plan_code: "own" }, "tenantB"))).toMatchObject({ amount: "10" });
    expect(await requestOf(db, await ask({ product_service: "own of a", lead_id: lead }))).toMatchObject({
      amount: "15",
    });
    expect((await refusal(ask({ plan_code: "own-ann" }))).code).toBe("OP025");
  });

  it("stays what it was: neither the request nor the plan's change moves it", async () => {
    const plan = await insertRow(db, "tenantA", "plans", { code: "moves", name: "Moves", amount: "10" });
    const id = await ask({ plan_code: "moves" });
    await db.as("tenantA", "update plans set amount = 11 where id = $1", [plan]);
    expect(await requestOf(db, id)).toMatchObject({ amount: "10", amount_minor: "1000" });
    expect((await refusal(update(id, "amount = 1"))).code).toBe("OP026");
    expect((await refusal(update(id, "plan_id = gen_random_uuid()"))).code).toBe("OP026");
    await db.as("tenantA", "update plans set active = false where id = $1", [plan]);
    expect((await refusal(ask({ plan_code: "moves" }))).message).toMatch(/not a plan that is active/);
  });

  it("for everyone is an admin's to write: a tenant's plan is its own", async () => {
    const plan = await insertRow(db, "tenantA", "plans", { code: "mine", name: "Mine", amount: "1" });
    expect(await db.query("select tenant_id from plans where id = $1", [plan])).toEqual([{ tenant_id: db.tenantA }]);
    expect(await db.as("tenantA", "update plans set amount = 1 where code = 'starter' returning id")).toEqual([]);
    expect(await db.as("tenantA", "delete from plans where code = 'starter' returning id")).toEqual([]);
    expect(
      (await db.as("tenantA", "select code from plans where code in ('starter', 'b-only')")).map((r) => r["code"]),
    ).toEqual(["starter"]);
  });
});

describe("what Stripe reports", () => {
  it.each([
    "amount_minor",
    "paid_at",
    "paid_minor",
    "refunded_minor",
    "cancelled_at",
    "key_generation",
    "payment_url",
    "stripe_payment_link_id",
    "livemode",
    "attention",
  ])("is not a client's to write: %s", async (column) => {
    const id = await ask({ plan_code: "starter" });
    expect((await refusal(update(id, `${column} = null`))).code).toBe("42501");
    expect((await refusal(ask({ plan_code: "starter", [column]: null }))).code).toBe("42501");
  });

  it("is append only in the ledger, for workers too, and closed to clients", async () => {
    const { id, link } = await askFor(db, "tenantA", "starter");
    await tell(db, [event("checkout.session.completed", 1, checkout("ledger", link, 99_900))]);
    const of = "where payment_request_id = $1 returning id";
    expect(
      await db.as("tenantA", "select kind, amount_minor::int from payment_ledger where payment_request_id = $1", [id]),
    ).toEqual([{ kind: "payment", amount_minor: 99_900 }]);
    expect(await db.as("tenantB", "select from payment_ledger where payment_request_id = $1", [id])).toEqual([]);
    for (const seat of ["tenantA", "service"] as const) {
      expect((await refusal(db.as(seat, `update payment_ledger set amount_minor = 1 ${of}`, [id]))).code).toBe("42501");
    }
    for (const statement of [`update payment_ledger set amount_minor = 1 ${of}`, `delete from payment_ledger ${of}`]) {
      expect((await refusal(db.query(statement, [id]))).message).toMatch(/append only/);
    }
  });

  it("concerns one tenant's request alone: B sees and moves nothing of A's", async () => {
    const { id } = await askFor(db, "tenantA", "starter");
    expect(await update(id, "payment_status = 'cancelled'", "tenantB")).toEqual([]);
    expect(await requestOf(db, id)).toMatchObject({ payment_status: "open" });
  });
});

describe("payment_status as a wish", () => {
  const closures = (id: string) =>
    db.query(
      `select key_generation, reason, status, scheduled_for <= now() as due, stripe_payment_link_id is not null as known
       from payment_link_closures where payment_request_id = $1 order by key_generation`,
      [id],
    );

  it("cancelled stops a link that is not made yet", async () => {
    const id = await ask({ plan_code: "starter" });
    expect(await update(id, "payment_status = 'canceled'")).toEqual([{ payment_status: "cancelled" }]);
    expect(await requestOf(db, id)).toMatchObject({ status: "cancelled", payment_url: null });
    expect(await closures(id)).toEqual([]);
  });

  it("cancelled closes a link that is there, now; open makes another, under another key", async () => {
    const { id, link } = await askFor(db, "tenantA", "starter");
    expect(await closures(id)).toMatchObject([{ key_generation: 0, reason: "expired", due: false }]);
    await update(id, "payment_status = 'cancelled'");
    expect(await closures(id)).toMatchObject([
      { key_generation: 0, reason: "cancelled", status: "pending", due: true },
    ]);
    expect(await update(id, "payment_status = 'open'")).toEqual([{ payment_status: "open" }]);
    expect(await requestOf(db, id)).toMatchObject({ status: "pending", key_generation: 1, payment_url: null });
    expect(await giveLink(db, id)).not.toBe(link);
    expect(await closures(id)).toMatchObject([
      { key_generation: 0, reason: "cancelled", due: true },
      { key_generation: 1, reason: "expired", due: false },
    ]);
  });

  it("a payment by the first link still counts, and closes the second", async () => {
    const { id, link } = await askFor(db, "tenantA", "starter");
    await update(id, "payment_status = 'cancelled'");
    await update(id, "payment_status = 'open'");
    await giveLink(db, id);
    await tell(db, [event("checkout.session.completed", 1, checkout("first", link, 99_900))]);
    expect(await requestOf(db, id)).toMatchObject({ payment_status: "paid", attention: null });
    expect(await closures(id)).toMatchObject([
      { key_generation: 0, due: true },
      { key_generation: 1, reason: "paid", status: "pending", due: true },
    ]);
  });

  it("a payment after it was cancelled is a payment, and asks for a person", async () => {
    const { id, leadId, link } = await askFor(db, "tenantA", "starter");
    await update(id, "payment_status = 'cancelled'");
    await tell(db, [event("checkout.session.completed", 1, checkout("after", link, 99_900))]);
    expect(await requestOf(db, id)).toMatchObject({
      payment_status: "paid",
      attention: "paid although it was cancelled",
    });
    expect(await db.query("select subject from tenant_notifications where lead_id = $1", [leadId])).toEqual([
      { subject: "A payment needs attention: Starter" },
    ]);
  });

  it("paid accepts another amount that came, and nothing where nothing came", async () => {
    const { id, leadId, link } = await askFor(db, "tenantA", "starter");
    const early = await refusal(update(id, "payment_status = 'paid'"));
    expect(early).toMatchObject({ code: "OP029", column: "payment_status" });
    await tell(db, [event("checkout.session.completed", 1, checkout("less", link, 90_000))]);
    expect(await requestOf(db, id)).toMatchObject({
      payment_status: "open",
      attention: "paid 900.00 USD but 999.00 USD was requested",
    });
    expect(await update(id, "payment_status = 'paid'")).toEqual([{ payment_status: "paid" }]);
    expect(await db.query("select stage from revenue_leads where id = $1", [leadId])).toEqual([{ stage: "won" }]);
  });

  it.each(["refunded", "disputed", "partially_refunded", "expired", "payment_failed", "nonsense"])(
    "%s is Stripe's to report",
    async (word) => {
      const id = await ask({ plan_code: "starter" });
      expect((await refusal(update(id, `payment_status = '${word}'`))).code).toBe("OP029");
    },
  );

  it("cannot be cancelled once it is paid", async () => {
    const { id, link } = await askFor(db, "tenantA", "starter");
    await tell(db, [event("checkout.session.completed", 1, checkout("done", link, 99_900))]);
    expect((await refusal(update(id, "payment_status = 'cancelled'"))).code).toBe("OP029");
  });
});

describe("a request", () => {
  const remove = (id: string, seat: "tenantA" | "service" | "worker" | "admin" = "tenantA") =>
    db.as(seat, "delete from payment_requests where id = $1 returning id", [id]);
  const suspend = (status: "suspended" | "active") =>
    db.as("admin", "update tenants set status = $2 where id = $1", [db.tenantA, status]);

  it("without a link may be deleted", async () => {
    const id = await ask({ plan_code: "starter" });
    expect(await remove(id)).toEqual([{ id }]);
  });

  const begun = async (): Promise<string> => {
    const id = await ask({ plan_code: "starter" });
    await db.query("update payment_requests set key_started_at = brainops.now() where id = $1", [id]);
    return id;
  };
  const after = async (...changes: string[]): Promise<string> => {
    const { id } = await askFor(db, "tenantA", "starter");
    for (const change of changes) await update(id, change);
    return id;
  };
  it.each([
    ["is being made", begun],
    ["is live", () => after()],
    ["is being closed", () => after("payment_status = 'cancelled'")],
    ["is another's successor", () => after("payment_status = 'cancelled'", "payment_status = 'open'")],
  ])("whose link %s stays, whoever deletes it", async (_name, make) => {
    const id = await make();
    for (const seat of ["tenantA", "worker", "admin"] as const) {
      const refused = await refusal(remove(id, seat));
      expect(refused).toMatchObject({ code: "OP010", message: expect.stringContaining(id) });
      expect(refused.hint).toContain("Set payment_status to cancelled");
    }
  });

  it("that was cancelled instead has its link closed, and its payment booked", async () => {
    const { id, link } = await askFor(db, "tenantA", "starter");
    expect((await refusal(remove(id))).code).toBe("OP010");
    await update(id, "payment_status = 'cancelled'");
    expect(
      await db.query("select stripe_payment_link_id, status from payment_link_closures where payment_request_id = $1", [
        id,
      ]),
    ).toEqual([{ stripe_payment_link_id: link, status: "pending" }]);
    await tell(db, [event("checkout.session.completed", 1, checkout("stays", link, 99_900))]);
    expect(await requestOf(db, id)).toMatchObject({ payment_status: "paid" });
  });

  it("of somebody who is forgotten is cancelled, and its payment still booked", async () => {
    const { id, leadId, link } = await askFor(db, "tenantA", "starter");
    const [lead] = await db.query<{ email: string }>("select email from revenue_leads where id = $1", [leadId]);
    await db.as("tenantA", "select brainops.forget('tenant-a', $1)", [lead?.email]);
    expect(await requestOf(db, id)).toMatchObject({ payment_status: "cancelled", lead_id: null });
    await tell(db, [event("checkout.session.completed", 1, checkout("forgot", link, 99_900))]);
    expect(await requestOf(db, id)).toMatchObject({ payment_status: "paid", lead_id: null });
  });

  it("goes with a tenant that is suspended, by an admin", async () => {
    const { id } = await askFor(db, "tenantA", "starter");
    await suspend("suspended");
    try {
      expect((await refusal(remove(id))).code).toBe("OP010");
      expect(await remove(id, "admin")).toEqual([{ id }]);
    } finally {
      await suspend("active");
    }
  });
});

describe("deliver_by", () => {
  it("email queues a mail with the link to the lead, once", async () => {
    const lead = await insertRow(db, "tenantA", "revenue_leads", { contact_name: "Ann", email: "deliver@x.example" });
    const id = await ask({ plan_code: "starter", lead_id: lead, deliver_by: "Email" });
    const mails = () =>
      db.query(
        "select subject, body, metadata, is_marketing from ai_email_queue where lead_id = $1 and metadata ? 'payment'",
        [lead],
      );
    expect(await mails()).toEqual([]);
    await giveLink(db, id);
    const { payment_url: url } = await requestOf(db, id);
    const [mail] = await mails();
    const variables = { ...(mail?.["metadata"] as object), lead: { contact_name: "Ann" }, tenant: { name: "Acme" } };
    expect(renderText(String(mail?.["subject"]), variables)).toBe("Your payment for Starter");
    expect(renderHtml(String(mail?.["body"]), variables)).toBe(
      `<p>Hello Ann,</p><p>please pay 999.00 USD for Starter here:</p><p><a href="${url}">${url}</a></p>` +
        "<p>The link takes one payment.</p><p>Acme</p>",
    );
    expect(await mails()).toMatchObject([
      { is_marketing: false, metadata: { payment: { request_id: id, url, plan: "Starter", amount: "999.00 USD" } } },
    ]);
    await update(id, "payment_status = 'cancelled'");
    await update(id, "payment_status = 'open'");
    await giveLink(db, id);
    expect(await mails()).toHaveLength(2);
  });

  it("takes the words of the tenant's template payment_link", async () => {
    await insertRow(db, "tenantB", "ai_campaign_templates", {
      name: "payment_link",
      channel: "email",
      subject: "Pay us",
      body: "Here: {{ payment.url }}",
    });
    const lead = await insertRow(db, "tenantB", "revenue_leads", { email: "words@x.example" });
    await giveLink(db, await ask({ plan_code: "starter", lead_id: lead, deliver_by: "email" }, "tenantB"));
    expect(
      await db.query("select subject, body from ai_email_queue where lead_id = $1 and metadata ? 'payment'", [lead]),
    ).toEqual([{ subject: "Pay us", body: "Here: {{ payment.url }}" }]);
  });

  it("costs no link where the message is refused: the tenant is told", async () => {
    await insertRow(db, "tenantB", "ai_campaign_templates", {
      name: "payment_link",
      channel: "email",
      subject: "Pay us ".repeat(200),
      body: "Here: {{ payment.url }}",
    });
    const lead = await insertRow(db, "tenantB", "revenue_leads", { email: "refused@x.example" });
    const id = await ask({ plan_code: "starter", lead_id: lead, deliver_by: "email" }, "tenantB");
    const link = await giveLink(db, id);
    expect(await requestOf(db, id)).toMatchObject({ stripe_payment_link_id: link, status: "completed" });
    const [told] = await db.query("select subject, body from tenant_notifications where lead_id = $1", [lead]);
    expect(told?.["subject"]).toBe("A payment link could not be sent: Starter");
    expect(told?.["body"]).toMatch(/which could not be sent by email: subject: has 1400 characters/);
  });

  it("sms queues a text, which is no marketing", async () => {
    const lead = await insertRow(db, "tenantA", "revenue_leads", { phone: "+13035550123" });
    await giveLink(db, await ask({ plan_code: "starter", lead_id: lead, deliver_by: "sms" }));
    expect(
      await db.query("select is_marketing, metadata ->> 'type' as type from ai_sms_queue where lead_id = $1", [lead]),
    ).toEqual([{ is_marketing: false, type: "payment_link" }]);
  });

  it("is refused for another way, and without a lead", async () => {
    expect(await refusal(ask({ plan_code: "starter", deliver_by: "fax" }))).toMatchObject({ code: "OP007" });
    expect(await refusal(ask({ plan_code: "starter", deliver_by: "email" }))).toMatchObject({ code: "OP004" });
  });
});
