// From a row to a link at Stripe, and from a payment back to the row, with faults in between.
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { saveCredential } from "../../src/revenue/credentials/store.ts";
import type { Worker } from "../../src/jobs/worker.ts";
import { startWorkerProcess } from "../support/process.ts";
import { onServer } from "../support/sql.ts";
import { createStage, type Stage } from "./stage.ts";
import { requestOf } from "./support.ts";
import { isServer } from "../support/database.ts";

let stage: Stage;
let worker: Worker;

beforeAll(async () => {
  stage = await createStage();
  worker = await stage.startWorker();
});
afterEach(async () => {
  stage.stripe.faults.clear();
  stage.stripe.setModes({ duplicates: "none", copies: 1, reorder: false, concurrent: 1, late: [] });
  await stage.db.query("delete from brainops.circuit_breakers");
});
afterAll(async () => {
  await worker?.stop();
  await stage?.close();
});

const becomes = (id: string, column: "status" | "payment_status", value: string): Promise<void> =>
  stage.db.until(`select ${column} = $2 from payment_requests where id = $1`, [id, value]);
/** Makes a pending row due now. */
const makeDue = (table: string, id: string) =>
  stage.db.query(`update ${table} set scheduled_for = now() where id = $1 and status = 'pending'`, [id]);
const cancel = (id: string) =>
  stage.db.as("tenantA", "update payment_requests set payment_status = 'cancelled' where id = $1", [id]);
const linksOf = (id: string) => stage.stripe.links({ request: id });

describe("a row in payment_requests", () => {
  it("creates one link for one payment, at the plan's price, without personal data", async () => {
    const id = await stage.request();
    const url = await stage.linkOf(id);
    const [link, ...others] = linksOf(id);
    expect(others).toEqual([]);
    expect(link).toMatchObject({
      url,
      active: true,
      restrictions: { completed_sessions: { limit: 1 } },
      metadata: { tenant: stage.db.tenantA, request: id, link: "0" },
    });
    expect(stage.stripe.linesOf(link?.id ?? "")).toMatchObject([
      { amount_total: 1250, currency: "usd", description: "Starter & more", quantity: 1 },
    ]);
    expect(await requestOf(stage.db, id)).toMatchObject({
      status: "completed",
      payment_status: "open",
      attempts: 1,
      livemode: false,
      stripe_payment_link_id: link?.id,
    });
  });

  it("in a currency without decimals charges whole units", async () => {
    const id = await stage.request({ plan_code: "yen" });
    await stage.linkOf(id);
    expect(stage.stripe.linesOf(linksOf(id)[0]?.id ?? "")).toMatchObject([{ amount_total: 9900, currency: "jpy" }]);
  });

  it("creates one link even if every response is lost: the retry uses the same idempotency key", async () => {
    stage.stripe.faults.add({ kind: "reset", moment: "after", times: 3 });
    const id = await stage.request();
    await stage.db.until("select status = 'pending' and attempts = 1 from payment_requests where id = $1", [id]);
    expect(await requestOf(stage.db, id)).toMatchObject({ key_generation: 0, payment_url: null });
    await makeDue("payment_requests", id);
    const url = await stage.linkOf(id);
    expect(linksOf(id).map((link) => link.url)).toEqual([url]);
  }, 30_000);

  it("finds the link that Stripe created although its key keeps returning a 500", async () => {
    stage.stripe.faults.add({ kind: "server_error", moment: "after" });
    const id = await stage.request();
    const url = await stage.linkOf(id);
    expect(linksOf(id).map((link) => link.url)).toEqual([url]);
    expect(await requestOf(stage.db, id)).toMatchObject({ key_generation: 0, attempts: 1 });
  });

  it("uses a new key if the first one keeps returning a 500 and no link exists", async () => {
    stage.stripe.faults.add({ kind: "server_error", moment: "before", stored: true });
    const id = await stage.request();
    const url = await stage.linkOf(id);
    expect(linksOf(id)).toMatchObject([{ url, metadata: { link: "1" } }]);
    expect(await requestOf(stage.db, id)).toMatchObject({ key_generation: 1 });
  });

  it("looks for an existing link first if its key is older than Stripe keeps keys", async () => {
    stage.stripe.faults.add({ kind: "reset", moment: "after", times: 3 });
    const id = await stage.request();
    await stage.db.until("select status = 'pending' and attempts = 1 from payment_requests where id = $1", [id]);
    await stage.db.query("update payment_requests set key_started_at = now() - interval '2 days' where id = $1", [id]);
    stage.stripe.advance(2 * 86_400_000);
    await makeDue("payment_requests", id);
    const url = await stage.linkOf(id);
    expect(linksOf(id).map((link) => link.url)).toEqual([url]);
  }, 30_000);

  it("fails with Stripe's message on a 400, and is retried after a 429", async () => {
    stage.stripe.faults.add({ kind: "bad_request", message: "Amount must be no more than $999,999.99" });
    const refused = await stage.request();
    await becomes(refused, "status", "failed");
    expect(await requestOf(stage.db, refused)).toMatchObject({
      attempts: 1,
      last_error: "Stripe answered 400: Amount must be no more than $999,999.99",
    });
    stage.stripe.faults.add({ kind: "rate_limited" });
    const late = await stage.request();
    await stage.db.until("select status = 'pending' and attempts = 1 from payment_requests where id = $1", [late]);
    await makeDue("payment_requests", late);
    await stage.linkOf(late);
    expect(linksOf(late)).toHaveLength(1);
  });

  it("pauses the table on a 401, and continues when an admin resumes it", async () => {
    stage.stripe.faults.add({ kind: "unauthorized" });
    const id = await stage.request();
    await stage.db.until("select exists (select from brainops.pauses)");
    await stage.db.until("select last_error like '%check STRIPE_SECRET_KEY%' from payment_requests where id = $1", [
      id,
    ]);
    await stage.db.as("admin", "select brainops.resume('payment_requests')");
    await makeDue("payment_requests", id);
    await stage.linkOf(id);
    expect(linksOf(id)).toHaveLength(1);
  });
});

describe("a row that is run again", () => {
  it("keeps its link, and sends no request to Stripe", async () => {
    const id = await stage.request();
    const url = await stage.linkOf(id);
    await becomes(id, "status", "completed");
    await stage.db.as("tenantA", "update payment_requests set status = 'pending' where id = $1", [id]);
    await stage.db.until("select status = 'completed' and attempts = 1 from payment_requests where id = $1", [id]);
    expect(await requestOf(stage.db, id)).toMatchObject({ payment_url: url, key_generation: 0 });
    expect(linksOf(id)).toHaveLength(1);
  });
});

describe("a link is closed", () => {
  const closed = async (id: string): Promise<void> => {
    await stage.db.until("select status = 'completed' from payment_link_closures where payment_request_id = $1", [id]);
    expect(linksOf(id)).toMatchObject([{ active: false }]);
  };

  it("when it expires: the request is expired, and accepts no payment", async () => {
    const id = await stage.request();
    const url = await stage.linkOf(id);
    await stage.db.as("tenantA", "update payment_requests set expires_at = now() where id = $1", [id]);
    await closed(id);
    await becomes(id, "payment_status", "expired");
    expect(stage.stripe.pay(url, { email: "late@x.example" })).toMatchObject({ outcome: "refused" });
  });

  it("when it is cancelled; open creates another link, which stays open", async () => {
    const id = await stage.request();
    const url = await stage.linkOf(id);
    await cancel(id);
    await closed(id);
    expect(stage.stripe.pay(url, { email: "late@x.example" })).toMatchObject({ outcome: "refused" });
    await stage.db.as("tenantA", "update payment_requests set payment_status = 'open' where id = $1", [id]);
    const second = await stage.linkOf(id);
    expect(second).not.toBe(url);
    expect(linksOf(id).filter(({ active }) => active)).toMatchObject([{ url: second, metadata: { link: "1" } }]);
  });

  it("when it is cancelled while it is being created", async () => {
    stage.stripe.faults.add({ kind: "slow", delayMs: 1000 });
    const id = await stage.request();
    await stage.db.until(
      "select status = 'processing' and key_started_at is not null from payment_requests where id = $1",
      [id],
    );
    await cancel(id);
    await stage.db.until(
      "select count(*) = 1 and bool_and(stripe_payment_link_id is not null) from payment_link_closures where payment_request_id = $1",
      [id],
    );
    await closed(id);
    expect(await requestOf(stage.db, id)).toMatchObject({ payment_status: "cancelled" });
  });

  it("when its id is unknown because its creation was interrupted", async () => {
    stage.stripe.faults.add({ kind: "reset", moment: "after", times: 3 });
    const id = await stage.request();
    await stage.db.until("select status = 'pending' and attempts = 1 from payment_requests where id = $1", [id]);
    await cancel(id);
    const [closure] = await stage.db.query<{ id: string }>(
      "select id from payment_link_closures where payment_request_id = $1 and stripe_payment_link_id is null",
      [id],
    );
    await makeDue("payment_link_closures", closure?.id ?? "");
    await closed(id);
    expect(await requestOf(stage.db, id)).toMatchObject({ status: "cancelled", payment_url: null });
  }, 30_000);

  it("once it is paid, by us as well as by Stripe", async () => {
    const id = await stage.request();
    const url = await stage.linkOf(id);
    expect(stage.stripe.pay(url, { email: "ann@x.example" })).toMatchObject({ outcome: "paid" });
    expect(stage.stripe.pay(url, { email: "ann@x.example" })).toMatchObject({ outcome: "refused" });
    await stage.deliverEvents();
    await closed(id);
    expect(
      await stage.db.query("select reason from payment_link_closures where payment_request_id = $1", [id]),
    ).toEqual([{ reason: "paid" }]);
  });
});

describe("events delivered twice, under two ids and out of order", () => {
  it("give each request its state, one ledger entry per movement, and one onboarding", async () => {
    stage.stripe.setModes({ duplicates: "new_event", copies: 2, reorder: true, concurrent: 4 });
    const ids = await Promise.all(Array.from({ length: 6 }, () => stage.request()));
    const urls = await Promise.all(ids.map((id) => stage.linkOf(id)));
    const [paid = "", late = "", broken = "", refunded = "", disputed = "", declined = ""] = urls;
    const ann = { email: "ann@x.example" };
    stage.stripe.pay(paid, ann);
    stage.stripe.pay(late, { ...ann, card: "async_ok" });
    stage.stripe.pay(broken, { ...ann, card: "async_fail" });
    stage.stripe.pay(refunded, ann);
    stage.stripe.refund(refunded, { amount: 250 });
    stage.stripe.refund(refunded);
    stage.stripe.pay(disputed, ann);
    stage.stripe.closeDispute(stage.stripe.dispute(disputed).id, "lost");
    expect(stage.stripe.pay(declined, { ...ann, card: "declined" })).toMatchObject({ outcome: "declined" });
    await stage.deliverEvents();
    stage.stripe.settle();
    await stage.deliverEvents();

    const states = await Promise.all(ids.map((id) => requestOf(stage.db, id)));
    expect(states.map(({ payment_status: state }) => state)).toEqual([
      "paid",
      "paid",
      "payment_failed",
      "refunded",
      "disputed",
      "open",
    ]);
    const ledger = await stage.db.query(
      "select kind, amount_minor::int as minor, count(*)::int as n from payment_ledger where payment_request_id = any ($1) group by 1, 2 order by 1, 2",
      [ids],
    );
    expect(ledger).toEqual([
      { kind: "dispute", minor: -1250, n: 1 },
      { kind: "payment", minor: 1250, n: 4 },
      { kind: "refund", minor: -1000, n: 1 },
      { kind: "refund", minor: -250, n: 1 },
    ]);
    const leads = await stage.db.query(
      `select l.stage, count(w.id)::int as onboardings, count(*)::int as n
       from payment_requests as r
       inner join revenue_leads as l on l.id = r.lead_id
       left join ai_onboarding_workflows as w on w.lead_id = l.id
       where r.id = any ($1) group by l.stage order by l.stage`,
      [ids],
    );
    expect(leads).toEqual([
      { stage: "new", onboardings: 0, n: 2 },
      { stage: "won", onboardings: 4, n: 4 },
    ]);
    expect(await stage.db.query("select last_error from webhook_events where status = 'failed'")).toEqual([]);
  }, 60_000);

  it("follow a subscription: renewals, a failed renewal, and its end", async () => {
    const id = await stage.request({ plan_code: "care" });
    const { subscription } = stage.stripe.pay(await stage.linkOf(id), { email: "ann@x.example" });
    await stage.deliverEvents();
    expect(await requestOf(stage.db, id)).toMatchObject({ payment_status: "paid", interval: "month" });
    stage.stripe.advance(32 * 86_400_000);
    await stage.deliverEvents();
    stage.stripe.failPayments(subscription?.id ?? "");
    stage.stripe.advance(31 * 86_400_000);
    await stage.deliverEvents();
    stage.stripe.cancel(subscription?.id ?? "");
    await stage.deliverEvents();
    const [sums] = await stage.db.query(
      `select sum(amount_minor)::int as minor, count(*)::int as n, count(distinct object_id)::int as invoices
       from payment_ledger where payment_request_id = $1 and kind = 'payment'`,
      [id],
    );
    expect(sums?.["n"]).toBe(sums?.["invoices"]);
    expect(sums?.["minor"]).toBe(4990 * Number(sums?.["n"]));
    expect(Number(sums?.["n"])).toBeGreaterThanOrEqual(2);
    expect(await stage.db.query("select status from subscriptions where payment_request_id = $1", [id])).toEqual([
      { status: "canceled" },
    ]);
    expect(
      await stage.db.query(
        "select count(*)::int > 0 as recorded from lead_events where event = 'payment_failed' and metadata ->> 'payment_request_id' = $1",
        [id],
      ),
    ).toEqual([{ recorded: true }]);
    expect(await requestOf(stage.db, id)).toMatchObject({ payment_status: "paid", attention: null });
  }, 60_000);
});

describe("a tenant's own Stripe account", () => {
  const save = (credential: object): Promise<string> =>
    onServer(stage.db.url, (client) =>
      saveCredential(
        client,
        { BRAINOPS_SECRET_KEY: Buffer.from(stage.environment["BRAINOPS_SECRET_KEY"] ?? "", "base64") },
        { tenantId: stage.db.tenantB, provider: "stripe" },
        credential,
      ),
    );

  it("creates the tenant's links and reports its payments, signed with its own secret", async () => {
    stage.stripe.faults.add({ kind: "reset", moment: "after", times: 3 });
    const begun = await stage.request({}, "tenantB");
    await stage.db.until("select status = 'pending' and attempts = 1 from payment_requests where id = $1", [begun]);
    const own = stage.stripe.addAccount("sk_test_of_tenant_b");
    const token = await save({ secret_key: own.secretKey, webhook_secret: own.webhookSecret });
    own.setWebhook(`${stage.server.url}/webhooks/stripe/${token}`);
    // A link whose creation began through the other account is not created again.
    await makeDue("payment_requests", begun);
    await becomes(begun, "status", "failed");
    expect(await requestOf(stage.db, begun)).toMatchObject({
      last_error:
        "the link was started in another Stripe account; for a new link set payment_status to cancelled, then to open",
    });
    expect(linksOf(begun)).toHaveLength(1);

    stage.stripe.faults.add({ kind: "server_error", key: stage.stripe.secretKey });
    const id = await stage.request({}, "tenantB");
    const url = await stage.linkOf(id);
    expect(stage.stripe.pay(url, { email: "bea@x.example" })).toMatchObject({ outcome: "paid" });
    await stage.deliverEvents();
    expect(await requestOf(stage.db, id)).toMatchObject({ payment_status: "paid" });
    await stage.db.until("select status = 'completed' from payment_link_closures where payment_request_id = $1", [id]);
    expect(
      await stage.db.query("select distinct tenant_id from webhook_events where payload::text like '%' || $1 || '%'", [
        id,
      ]),
    ).toEqual([{ tenant_id: stage.db.tenantB }]);
  });

  it("with a refused key pauses only that tenant", async () => {
    stage.stripe.faults.add({ kind: "unauthorized", key: "sk_test_of_tenant_b", times: 1 });
    const theirs = await stage.request({}, "tenantB");
    await stage.db.until(
      "select last_error like '%set the tenant''s Stripe credential again%' from payment_requests where id = $1",
      [theirs],
    );
    const ours = await stage.request();
    await stage.linkOf(ours);
    await stage.db.as("admin", "select brainops.resume('payment_requests', 'tenant-b')");
    await makeDue("payment_requests", theirs);
    await stage.linkOf(theirs);
    expect([...linksOf(ours), ...linksOf(theirs)]).toHaveLength(2);
  });

  describe("that is removed before its links are cancelled", () => {
    const keys = { secret_key: "sk_test_of_tenant_b" };
    const erase = () => stage.db.query("delete from provider_credentials where provider = 'stripe'");
    const cancelled = async (id: string): Promise<void> => {
      await stage.db.as("tenantB", "update payment_requests set payment_status = 'cancelled' where id = $1", [id]);
    };
    /** Resolves when the closure of the request's link has this status, and its last_error contains the text. */
    const closureIs = (id: string, status: string, text = ""): Promise<void> =>
      stage.db.until(
        `select status = $2 and coalesce(last_error, '') like '%' || $3 || '%'
         from payment_link_closures where payment_request_id = $1`,
        [id, status, text],
      );
    afterEach(async () => {
      await save(keys);
    });

    it("still closes its links if it is only switched off", async () => {
      const id = await stage.request({}, "tenantB");
      await stage.linkOf(id);
      await stage.db.as("tenantB", "update provider_credentials set active = false");
      await cancelled(id);
      await closureIs(id, "completed");
      expect(linksOf(id)).toMatchObject([{ active: false }]);
    });

    it("waits if it is switched off and its key is refused, without delaying other links", async () => {
      const id = await stage.request({}, "tenantB");
      await stage.linkOf(id);
      await stage.db.as("tenantB", "update provider_credentials set active = false");
      stage.stripe.faults.add({ kind: "unauthorized", key: keys.secret_key, times: 1 });
      await cancelled(id);
      await closureIs(id, "pending", "waiting: ");
      const common = await stage.request({}, "tenantB");
      await stage.linkOf(common);
      await cancelled(common);
      await closureIs(common, "completed");
      await save(keys);
      await closureIs(id, "completed");
      expect([...linksOf(id), ...linksOf(common)].filter(({ active }) => active)).toEqual([]);
    });

    it("closes them through the credential that was saved again", async () => {
      const id = await stage.request({}, "tenantB");
      await stage.linkOf(id);
      await erase();
      await save(keys);
      await cancelled(id);
      await closureIs(id, "completed");
      expect(linksOf(id)).toMatchObject([{ active: false }]);
    });

    it("waits while it is erased, and continues when it is saved again, even for failed closures", async () => {
      const [first, second] = [await stage.request({}, "tenantB"), await stage.request({}, "tenantB")];
      await Promise.all([first, second].map((id) => stage.linkOf(id)));
      await erase();
      await cancelled(first);
      await closureIs(first, "pending", "waiting: the tenant's Stripe credential that created the link is deleted");
      await stage.db.query(
        "update brainops.job_tables set max_deferrals = 0 where table_name = 'payment_link_closures'",
      );
      await cancelled(second);
      await closureIs(second, "failed", "is deleted");
      await stage.db.query(
        "update brainops.job_tables set max_deferrals = default where table_name = 'payment_link_closures'",
      );
      expect(
        await stage.db.query(
          "select table_name, status from brainops.dead_letters where last_error like '%is deleted%'",
        ),
      ).toEqual([{ table_name: "payment_link_closures", status: "failed" }]);

      await save(keys);
      for (const id of [first, second]) {
        await closureIs(id, "completed");
        expect(linksOf(id)).toMatchObject([{ active: false }]);
      }
    });

    it("fails if the current account is another one, as Stripe's 404 shows", async () => {
      stage.stripe.addAccount("sk_test_another_of_tenant_b");
      const id = await stage.request({}, "tenantB");
      await stage.linkOf(id);
      await erase();
      await save({ secret_key: "sk_test_another_of_tenant_b" });
      await cancelled(id);
      await closureIs(id, "failed", "Stripe answered 404");
      expect(linksOf(id)).toMatchObject([{ active: true }]);
      await erase();
    });

    it("fails if the link may not exist, and the current account has none", async () => {
      const id = await stage.request({}, "tenantB");
      await stage.linkOf(id);
      await erase();
      await save({ secret_key: "sk_test_another_of_tenant_b" });
      await stage.db.query(
        `insert into payment_link_closures (tenant_id, payment_request_id, key_generation, account, reason)
         values ($1, $2, 7, gen_random_uuid(), 'cancelled')`,
        [stage.db.tenantB, id],
      );
      await stage.db.until(
        "select status = 'failed' from payment_link_closures where payment_request_id = $1 and key_generation = 7",
        [id],
      );
      expect(
        await stage.db.query(
          "select last_error from payment_link_closures where payment_request_id = $1 and key_generation = 7",
          [id],
        ),
      ).toEqual([{ last_error: expect.stringContaining("look for the link at Stripe") }]);
      await erase();
    });
  });
});

describe("workers", () => {
  it.skipIf(!isServer)(
    "killed after Stripe created the link and before it is stored leave one link",
    async () => {
      await worker.stop();
      const environment = { ...stage.environment, PUBLIC_URL: "https://ops.example" };
      const victim = await startWorkerProcess(stage.db.urlOf("worker"), environment);
      stage.stripe.faults.add({ kind: "slow", delayMs: 60_000, times: 1 });
      const before = stage.stripe.stats.links;
      const id = await stage.request();
      await stage.stripe.waitFor(({ links }) => links > before);
      victim.child.kill("SIGKILL");
      await victim.exited;
      worker = await stage.startWorker();
      const url = await stage.linkOf(id);
      expect(linksOf(id).map((link) => link.url)).toEqual([url]);
      expect(await requestOf(stage.db, id)).toMatchObject({ key_generation: 0, status: "completed" });
    },
    60_000,
  );

  it("that cannot decrypt a tenant's credential pause that tenant, and report what to set", async () => {
    await worker.stop();
    const other = { ...stage.environment, BRAINOPS_SECRET_KEY: Buffer.alloc(32, 7).toString("base64") };
    const stranger = await stage.startWorker(other);
    const [theirs, ours] = [await stage.request({}, "tenantB"), await stage.request()];
    await stage.linkOf(ours);
    await stage.db.until("select last_error like '%OP036%' from payment_requests where id = $1", [theirs]);
    expect(await requestOf(stage.db, theirs)).toMatchObject({ status: "pending", key_started_at: null });
    await stranger.stop();
    worker = await stage.startWorker();
    await stage.db.as("admin", "select brainops.resume('payment_requests', 'tenant-b')");
    await makeDue("payment_requests", theirs);
    await stage.linkOf(theirs);
  }, 40_000);

  it("without STRIPE_SECRET_KEY leave rows waiting with that reason, until a worker has it", async () => {
    await worker.stop();
    const poor = await stage.startWorker({});
    const id = await stage.request();
    await stage.db.query("select graphile_worker.add_job('maintenance__sweep')");
    await stage.db.until("select last_error like 'waiting:%STRIPE_SECRET_KEY%' from payment_requests where id = $1", [
      id,
    ]);
    expect(await requestOf(stage.db, id)).toMatchObject({ status: "pending", attempts: 0, key_started_at: null });
    await poor.stop();
    worker = await stage.startWorker();
    await makeDue("payment_requests", id);
    await stage.linkOf(id);
  }, 40_000);
});
