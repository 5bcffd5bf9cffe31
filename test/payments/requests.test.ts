// A payment request from each seat: prices come from plans only, only Stripe reports money, and a client
// may cancel, reopen or accept through payment_status.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { renderHtml, renderText } from "../../src/revenue/rendering/template.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { deleting } from "../support/deleteRows.ts";
import { refusal } from "../support/refusal.ts";
import {
  createLinkedRequest,
  checkout,
  event,
  storeLink,
  insertRow,
  requestOf,
  applyEvents,
  type Json,
} from "./support.ts";

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

const request = (row: Json, seat: "tenantA" | "tenantB" | "service" = "tenantA"): Promise<string> =>
  insertRow(db, seat, "payment_requests", row);
const update = (id: string, change: string, seat: "tenantA" | "tenantB" = "tenantA") =>
  db.as(seat, `update payment_requests set ${change} where id = $1 returning payment_status`, [id]);

describe("the price", () => {
  it.each([
    ["a plan's code", { plan_code: "starter" }],
    ["a plan's name as product_service, as older clients send it", { product_service: " Starter " }],
    ["the plan and the same amount", { product_service: "starter", amount: "999.00", currency: "USD", status: "open" }],
  ])("is the plan's, by %s", async (_name, row) => {
    const stored = await requestOf(db, await request(row));
    expect(stored).toMatchObject({
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
    ["an amount that is not a number", { plan_code: "starter", amount: "NaN" }, "OP026", /NaN/],
    ["no plan", { amount: "999", currency: "usd" }, "OP025", /null is not a plan/],
    [
      "a product that is not a plan",
      { product_service: "Moon trip", amount: "1" },
      "OP025",
      /'Moon trip' is not a plan/,
    ],
    ["another tenant's plan", { plan_code: "b-only" }, "OP025", /'b-only' is not a plan/],
    ["a request that claims to be paid", { plan_code: "starter", payment_status: "paid" }, "OP029", /'paid'/],
  ])("is refused with %s", async (_name, row, code, message) => {
    const refused = await refusal(request(row));
    expect(refused).toMatchObject({ code });
    expect(refused.message).toMatch(message);
    expect(refused.hint).toMatch(/\S/);
    expect(refused.hint).not.toContain("b-only");
  });

  it("of a service's request is from the plan of the tenant it names, with the same checks", async () => {
    const id = await request({ tenant_id: db.tenantB, plan_code: "b-only" }, "service");
    expect(await requestOf(db, id)).toMatchObject({ tenant_id: db.tenantB, amount: "5" });
    const refused = await refusal(request({ tenant_id: db.tenantB, plan_code: "b-only", amount: "4" }, "service"));
    expect(refused.code).toBe("OP026");
    expect((await refusal(request({ tenant_id: db.tenantA, plan_code: "b-only" }, "service"))).code).toBe("OP025");
  });

  it("comes from the lead's own plan first, then from the tenant's, then from the common one", async () => {
    await insertRow(db, "admin", "plans", { code: "own", name: "Own", amount: "10" });
    await insertRow(db, "tenantA", "plans", { code: "own", name: "Own of A", amount: "20" });
    const lead = await insertRow(db, "tenantA", "revenue_leads", { email: "special@x.example" });
    await insertRow(db, "tenantA", "plans", { code: "own-ann", name: "Own of A", amount: "15", lead_id: lead });
    expect(await requestOf(db, await request({ plan_code: "own" }))).toMatchObject({ amount: "20" });
    expect(await requestOf(db, await request({ plan_code: "own" }, "tenantB"))).toMatchObject({ amount: "10" });
    expect(await requestOf(db, await request({ product_service: "own of a", lead_id: lead }))).toMatchObject({
      amount: "15",
    });
    expect((await refusal(request({ plan_code: "own-ann" }))).code).toBe("OP025");
  });

  it("is fixed: neither an update of the request nor of the plan changes it", async () => {
    const plan = await insertRow(db, "tenantA", "plans", { code: "moves", name: "Moves", amount: "10" });
    const id = await request({ plan_code: "moves" });
    await db.as("tenantA", "update plans set amount = 11 where id = $1", [plan]);
    expect(await requestOf(db, id)).toMatchObject({ amount: "10", amount_minor: "1000" });
    expect((await refusal(update(id, "amount = 1"))).code).toBe("OP026");
    expect((await refusal(update(id, "plan_id = gen_random_uuid()"))).code).toBe("OP026");
    await db.as("tenantA", "update plans set active = false where id = $1", [plan]);
    expect((await refusal(request({ plan_code: "moves" }))).message).toMatch(/not a plan that is active/);
  });

  it("for all tenants is set by admins only: a tenant's plan is its own", async () => {
    const plan = await insertRow(db, "tenantA", "plans", { code: "mine", name: "Mine", amount: "1" });
    expect(await db.query("select tenant_id from plans where id = $1", [plan])).toEqual([{ tenant_id: db.tenantA }]);
    expect(await db.as("tenantA", "update plans set amount = 1 where code = 'starter' returning id")).toEqual([]);
    expect(await db.as("tenantA", deleting("delete from plans where code = 'starter'"))).toEqual([{ delete_rows: 0 }]);
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
  ])("cannot be written by clients: %s", async (column) => {
    const id = await request({ plan_code: "starter" });
    expect((await refusal(update(id, `${column} = null`))).code).toBe("42501");
    expect((await refusal(request({ plan_code: "starter", [column]: null }))).code).toBe("42501");
  });

  it("is append-only in the ledger, even for workers, and read-only for clients", async () => {
    const { id, link } = await createLinkedRequest(db, "tenantA", "starter");
    await applyEvents(db, [event("checkout.session.completed", 1, checkout("ledger", link, 99_900))]);
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

  it("is isolated by tenant: B neither sees nor changes A's request", async () => {
    const { id } = await createLinkedRequest(db, "tenantA", "starter");
    expect(await update(id, "payment_status = 'cancelled'", "tenantB")).toEqual([]);
    expect(await requestOf(db, id)).toMatchObject({ payment_status: "open" });
  });
});

describe("payment_status set by a client", () => {
  const closures = (id: string) =>
    db.query(
      `select key_generation, reason, status, scheduled_for <= now() as due, stripe_payment_link_id is not null as known
       from payment_link_closures where payment_request_id = $1 order by key_generation`,
      [id],
    );

  it("cancelled stops a link that is not created yet", async () => {
    const id = await request({ plan_code: "starter" });
    expect(await update(id, "payment_status = 'canceled'")).toEqual([{ payment_status: "cancelled" }]);
    expect(await requestOf(db, id)).toMatchObject({ status: "cancelled", payment_url: null });
    expect(await closures(id)).toEqual([]);
  });

  it("cancelled closes an existing link now; open creates another, with another key", async () => {
    const { id, link } = await createLinkedRequest(db, "tenantA", "starter");
    expect(await closures(id)).toMatchObject([{ key_generation: 0, reason: "expired", due: false }]);
    await update(id, "payment_status = 'cancelled'");
    expect(await closures(id)).toMatchObject([
      { key_generation: 0, reason: "cancelled", status: "pending", due: true },
    ]);
    expect(await update(id, "payment_status = 'open'")).toEqual([{ payment_status: "open" }]);
    expect(await requestOf(db, id)).toMatchObject({ status: "pending", key_generation: 1, payment_url: null });
    expect(await storeLink(db, id)).not.toBe(link);
    expect(await closures(id)).toMatchObject([
      { key_generation: 0, reason: "cancelled", due: true },
      { key_generation: 1, reason: "expired", due: false },
    ]);
  });

  it("open lets a payment through the first link still count, and close the second", async () => {
    const { id, link } = await createLinkedRequest(db, "tenantA", "starter");
    await update(id, "payment_status = 'cancelled'");
    await update(id, "payment_status = 'open'");
    await storeLink(db, id);
    await applyEvents(db, [event("checkout.session.completed", 1, checkout("first", link, 99_900))]);
    expect(await requestOf(db, id)).toMatchObject({ payment_status: "paid", attention: null });
    expect(await closures(id)).toMatchObject([
      { key_generation: 0, due: true },
      { key_generation: 1, reason: "paid", status: "pending", due: true },
    ]);
  });

  it("cancelled lets a later payment count, and marks it for attention", async () => {
    const { id, leadId, link } = await createLinkedRequest(db, "tenantA", "starter");
    await update(id, "payment_status = 'cancelled'");
    await applyEvents(db, [event("checkout.session.completed", 1, checkout("after", link, 99_900))]);
    expect(await requestOf(db, id)).toMatchObject({
      payment_status: "paid",
      attention: "paid although it was cancelled",
    });
    expect(await db.query("select subject from tenant_notifications where lead_id = $1", [leadId])).toEqual([
      { subject: "A payment needs attention: Starter" },
    ]);
  });

  it("paid accepts a different amount that was paid, and is refused if nothing was paid", async () => {
    const { id, leadId, link } = await createLinkedRequest(db, "tenantA", "starter");
    const early = await refusal(update(id, "payment_status = 'paid'"));
    expect(early).toMatchObject({ code: "OP029", column: "payment_status" });
    await applyEvents(db, [event("checkout.session.completed", 1, checkout("less", link, 90_000))]);
    expect(await requestOf(db, id)).toMatchObject({
      payment_status: "open",
      attention: "paid 900.00 USD but 999.00 USD was requested",
    });
    expect(await update(id, "payment_status = 'paid'")).toEqual([{ payment_status: "paid" }]);
    expect(await db.query("select stage from revenue_leads where id = $1", [leadId])).toEqual([{ stage: "won" }]);
  });

  it.each(["refunded", "disputed", "partially_refunded", "expired", "payment_failed", "nonsense"])(
    "%s is refused: only Stripe reports it",
    async (value) => {
      const id = await request({ plan_code: "starter" });
      expect((await refusal(update(id, `payment_status = '${value}'`))).code).toBe("OP029");
    },
  );

  it("cancelled is refused once the request is paid", async () => {
    const { id, link } = await createLinkedRequest(db, "tenantA", "starter");
    await applyEvents(db, [event("checkout.session.completed", 1, checkout("done", link, 99_900))]);
    expect((await refusal(update(id, "payment_status = 'cancelled'"))).code).toBe("OP029");
  });
});

describe("a request", () => {
  const remove = (id: string, seat: "tenantA" | "service" | "worker" | "admin" = "tenantA") =>
    seat === "tenantA"
      ? db.as(seat, "select brainops.delete_rows('payment_requests', array[$1::uuid]) as deleted", [id])
      : db.as(seat, "delete from payment_requests where id = $1 returning 1 as deleted", [id]);
  const suspend = (status: "suspended" | "active") =>
    db.as("admin", "update tenants set status = $2 where id = $1", [db.tenantA, status]);

  it("without a link may be deleted", async () => {
    const id = await request({ plan_code: "starter" });
    expect(await remove(id)).toEqual([{ deleted: 1 }]);
  });

  const begun = async (): Promise<string> => {
    const id = await request({ plan_code: "starter" });
    await db.query("update payment_requests set key_started_at = brainops.now() where id = $1", [id]);
    return id;
  };
  const after = async (...changes: string[]): Promise<string> => {
    const { id } = await createLinkedRequest(db, "tenantA", "starter");
    for (const change of changes) await update(id, change);
    return id;
  };
  it.each([
    ["is being created", begun],
    ["is live", () => after()],
    ["is being closed", () => after("payment_status = 'cancelled'")],
    ["replaces another", () => after("payment_status = 'cancelled'", "payment_status = 'open'")],
  ])("whose link %s cannot be deleted by anyone", async (_name, make) => {
    const id = await make();
    for (const seat of ["tenantA", "worker", "admin"] as const) {
      const refused = await refusal(remove(id, seat));
      expect(refused).toMatchObject({ code: "OP010", message: expect.stringContaining(id) });
      expect(refused.hint).toContain("Set payment_status to cancelled");
    }
  });

  it("that is cancelled instead has its link closed, and a late payment booked", async () => {
    const { id, link } = await createLinkedRequest(db, "tenantA", "starter");
    expect((await refusal(remove(id))).code).toBe("OP010");
    await update(id, "payment_status = 'cancelled'");
    expect(
      await db.query("select stripe_payment_link_id, status from payment_link_closures where payment_request_id = $1", [
        id,
      ]),
    ).toEqual([{ stripe_payment_link_id: link, status: "pending" }]);
    await applyEvents(db, [event("checkout.session.completed", 1, checkout("stays", link, 99_900))]);
    expect(await requestOf(db, id)).toMatchObject({ payment_status: "paid" });
  });

  it("of a forgotten person is cancelled, and its payment is still booked", async () => {
    const { id, leadId, link } = await createLinkedRequest(db, "tenantA", "starter");
    const [lead] = await db.query<{ email: string }>("select email from revenue_leads where id = $1", [leadId]);
    await db.as("tenantA", "select brainops.forget('tenant-a', $1)", [lead?.email]);
    expect(await requestOf(db, id)).toMatchObject({ payment_status: "cancelled", lead_id: null });
    await applyEvents(db, [event("checkout.session.completed", 1, checkout("forgot", link, 99_900))]);
    expect(await requestOf(db, id)).toMatchObject({ payment_status: "paid", lead_id: null });
  });

  it("of a suspended tenant can be deleted by an admin", async () => {
    const { id } = await createLinkedRequest(db, "tenantA", "starter");
    await suspend("suspended");
    try {
      expect((await refusal(remove(id))).code).toBe("OP010");
      expect(await remove(id, "admin")).toEqual([{ deleted: 1 }]);
    } finally {
      await suspend("active");
    }
  });
});

describe("deliver_by", () => {
  it("email queues one mail to the lead for each link", async () => {
    const lead = await insertRow(db, "tenantA", "revenue_leads", { contact_name: "Ann", email: "deliver@x.example" });
    const id = await request({ plan_code: "starter", lead_id: lead, deliver_by: "Email" });
    const mails = () =>
      db.query(
        "select subject, body, metadata, is_marketing from ai_email_queue where lead_id = $1 and metadata ? 'payment'",
        [lead],
      );
    expect(await mails()).toEqual([]);
    await storeLink(db, id);
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
    await storeLink(db, id);
    expect(await mails()).toHaveLength(2);
  });

  it("uses the tenant's template payment_link", async () => {
    await insertRow(db, "tenantB", "ai_campaign_templates", {
      name: "payment_link",
      channel: "email",
      subject: "Pay us",
      body: "Here: {{ payment.url }}",
    });
    const lead = await insertRow(db, "tenantB", "revenue_leads", { email: "words@x.example" });
    await storeLink(db, await request({ plan_code: "starter", lead_id: lead, deliver_by: "email" }, "tenantB"));
    expect(
      await db.query("select subject, body from ai_email_queue where lead_id = $1 and metadata ? 'payment'", [lead]),
    ).toEqual([{ subject: "Pay us", body: "Here: {{ payment.url }}" }]);
  });

  it("keeps the link if the message is refused, and notifies the tenant", async () => {
    await insertRow(db, "tenantB", "ai_campaign_templates", {
      name: "payment_link",
      channel: "email",
      subject: "x".repeat(999),
      body: "Here: {{ payment.url }}",
    });
    const lead = await insertRow(db, "tenantB", "revenue_leads", { email: "refused@x.example" });
    const id = await request({ plan_code: "starter", lead_id: lead, deliver_by: "email" }, "tenantB");
    const link = await storeLink(db, id);
    expect(await requestOf(db, id)).toMatchObject({ stripe_payment_link_id: link, status: "completed" });
    const [notification] = await db.query("select subject, body from tenant_notifications where lead_id = $1", [lead]);
    expect(notification?.["subject"]).toBe("A payment link could not be sent: Starter");
    expect(notification?.["body"]).toMatch(/which could not be sent by email: subject: has 999 characters/);
  });

  it("sms queues a text that is not marketing", async () => {
    const lead = await insertRow(db, "tenantA", "revenue_leads", { phone: "+13035550123" });
    await storeLink(db, await request({ plan_code: "starter", lead_id: lead, deliver_by: "sms" }));
    expect(
      await db.query("select is_marketing, metadata ->> 'type' as type from ai_sms_queue where lead_id = $1", [lead]),
    ).toEqual([{ is_marketing: false, type: "payment_link" }]);
  });

  it("is refused for an unknown channel, and without a lead", async () => {
    expect(await refusal(request({ plan_code: "starter", deliver_by: "fax" }))).toMatchObject({ code: "OP007" });
    expect(await refusal(request({ plan_code: "starter", deliver_by: "email" }))).toMatchObject({ code: "OP004" });
  });
});
