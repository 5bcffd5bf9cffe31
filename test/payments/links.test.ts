// From a row to a link at Stripe and from a payment back to the row, whatever goes wrong between.
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

const becomes = (id: string, column: "status" | "payment_status", word: string): Promise<void> =>
  stage.db.until(`select ${column} = $2 from payment_requests where id = $1`, [id, word]);
/** Lets a row that waits for its next try go now. */
const hurry = (table: string, id: string) =>
  stage.db.query(`update ${table} set scheduled_for = now() where id = $1 and status = 'pending'`, [id]);
const cancel = (id: string) =>
  stage.db.as("tenantA", "update payment_requests set payment_status = 'cancelled' where id = $1", [id]);
const linksOf = (id: string) => stage.stripe.links({ request: id });

describe("a row in payment_requests", () => {
  it("is one link for one payment, at the plan's price, that names nobody", async () => {
    const id = await stage.ask();
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

  it("of a currency without decimals asks for whole units", async () => {
    const id = await stage.ask({ plan_code: "yen" });
    await stage.linkOf(id);
    expect(stage.stripe.linesOf(linksOf(id)[0]?.id ?? "")).toMatchObject([{ amount_total: 9900, currency: "jpy" }]);
  });

  it("is one link though every answer gets lost: the second try has the first one's key", async () => {
    stage.stripe.faults.add({ kind: "reset", moment: "after", times: 3 });
    const id = await stage.ask();
    await stage.db.until("select status = 'pending' and attempts = 1 from payment_requests where id = $1", [id]);
    expect(await requestOf(stage.db, id)).toMatchObject({ key_generation: 0, payment_url: null });
    await hurry("payment_requests", id);
    const url = await stage.linkOf(id);
    expect(linksOf(id).map((link) => link.url)).toEqual([url]);
  }, 30_000);

  it("finds the link that Stripe made while it answered 500, which its key gives for good", async () => {
    stage.stripe.faults.add({ kind: "server_error", moment: "after" });
    const id = await stage.ask();
    const url = await stage.linkOf(id);
    expect(linksOf(id).map((link) => link.url)).toEqual([url]);
    expect(await requestOf(stage.db, id)).toMatchObject({ key_generation: 0, attempts: 1 });
  });

  it("takes another key where the first one gives a 500 for good, and there is no link", async () => {
    stage.stripe.faults.add({ kind: "server_error", moment: "before", stored: true });
    const id = await stage.ask();
    const url = await stage.linkOf(id);
    expect(linksOf(id)).toMatchObject([{ url, metadata: { link: "1" } }]);
    expect(await requestOf(stage.db, id)).toMatchObject({ key_generation: 1 });
  });

  it("looks for its link first where the key is older than Stripe remembers", async () => {
    stage.stripe.faults.add({ kind: "reset", moment: "after", times: 3 });
    const id = await stage.ask();
    await stage.db.until("select status = 'pending' and attempts = 1 from payment_requests where id = $1", [id]);
    await stage.db.query("update payment_requests set key_started_at = now() - interval '2 days' where id = $1", [id]);
    stage.stripe.advance(2 * 86_400_000);
    await hurry("payment_requests", id);
    const url = await stage.linkOf(id);
    expect(linksOf(id).map((link) => link.url)).toEqual([url]);
  }, 30_000);

  it("fails with Stripe's words on a 400, and waits its turn on a 429", async () => {
    stage.stripe.faults.add({ kind: "bad_request", message: "Amount must be no more than $999,999.99" });
    const refused = await stage.ask();
    await becomes(refused, "status", "failed");
    expect(await requestOf(stage.db, refused)).toMatchObject({
      attempts: 1,
      last_error: "Stripe answered 400: Amount must be no more than $999,999.99",
    });
    stage.stripe.faults.add({ kind: "rate_limited" });
    const late = await stage.ask();
    await stage.db.until("select status = 'pending' and attempts = 1 from payment_requests where id = $1", [late]);
    await hurry("payment_requests", late);
    await stage.linkOf(late);
    expect(linksOf(late)).toHaveLength(1);
  });

  it("pauses the table on a 401, and goes on when an admin resumes", async () => {
    stage.stripe.faults.add({ kind: "unauthorized" });
    const id = await stage.ask();
    await stage.db.until("select exists (select from brainops.pauses)");
    await stage.db.until("select last_error like '%check STRIPE_SECRET_KEY%' from payment_requests where id = $1", [
      id,
    ]);
    await stage.db.as("admin", "select brainops.resume('payment_requests')");
    await hurry("payment_requests", id);
    await stage.linkOf(id);
    expect(linksOf(id)).toHaveLength(1);
  });
});

describe("a row that is run again", () => {
  it("keeps its link, and asks nothing of Stripe", async () => {
    const id = await stage.ask();
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

  it("when its time is over: the request is expired, and takes no payment", async () => {
    const id = await stage.ask();
    const url = await stage.linkOf(id);
    await stage.db.as("tenantA", "update payment_requests set expires_at = now() where id = $1", [id]);
    await closed(id);
    await becomes(id, "payment_status", "expired");
    expect(stage.stripe.pay(url, { email: "late@x.example" })).toMatchObject({ outcome: "refused" });
  });

  it("when it is cancelled; open makes another link, and that one stays open", async () => {
    const id = await stage.ask();
    const url = await stage.linkOf(id);
    await cancel(id);
    await closed(id);
    expect(stage.stripe.pay(url, { email: "late@x.example" })).toMatchObject({ outcome: "refused" });
    await stage.db.as("tenantA", "update payment_requests set payment_status = 'open' where id = $1", [id]);
    const second = await stage.linkOf(id);
    expect(second).not.toBe(url);
    expect(linksOf(id).filter(({ active }) => active)).toMatchObject([{ url: second, metadata: { link: "1" } }]);
  });

  it("when it was cancelled while it was being made", async () => {
    stage.stripe.faults.add({ kind: "slow", delayMs: 1000 });
    const id = await stage.ask();
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

  it("when nobody knows its id, because its making was cut off", async () => {
    stage.stripe.faults.add({ kind: "reset", moment: "after", times: 3 });
    const id = await stage.ask();
    await stage.db.until("select status = 'pending' and attempts = 1 from payment_requests where id = $1", [id]);
    await cancel(id);
    const [closure] = await stage.db.query<{ id: string }>(
      "select id from payment_link_closures where payment_request_id = $1 and stripe_payment_link_id is null",
      [id],
    );
    await hurry("payment_link_closures", closure?.id ?? "");
    await closed(id);
    expect(await requestOf(stage.db, id)).toMatchObject({ status: "cancelled", payment_url: null });
  }, 30_000);

  it("once it is paid, by us as well as by Stripe", async () => {
    const id = await stage.ask();
    const url = await stage.linkOf(id);
    expect(stage.stripe.pay(url, { email: "ann@x.example" })).toMatchObject({ outcome: "paid" });
    expect(stage.stripe.pay(url, { email: "ann@x.example" })).toMatchObject({ outcome: "refused" });
    await stage.hear();
    await closed(id);
    expect(
      await stage.db.query("select reason from payment_link_closures where payment_request_id = $1", [id]),
    ).toEqual([{ reason: "paid" }]);
  });
});

describe("what Stripe tells, twice, under two ids and out of order", () => {
  it("becomes the state of each request, one entry for each movement, and one onboarding", async () => {
    stage.stripe.setModes({ duplicates: "new_event", copies: 2, reorder: true, concurrent: 4 });
    const ids = await Promise.all(Array.from({ length: 6 }, () => stage.ask()));
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
    await stage.hear();
    stage.stripe.settle();
    await stage.hear();

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

  it("follows a subscription: renewals, a renewal that fails, and its end", async () => {
    const id = await stage.ask({ plan_code: "care" });
    const { subscription } = stage.stripe.pay(await stage.linkOf(id), { email: "ann@x.example" });
    await stage.hear();
    expect(await requestOf(stage.db, id)).toMatchObject({ payment_status: "paid", interval: "month" });
    stage.stripe.advance(32 * 86_400_000);
    await stage.hear();
    stage.stripe.failPayments(subscription?.id ?? "");
    stage.stripe.advance(31 * 86_400_000);
    await stage.hear();
    stage.stripe.cancel(subscription?.id ?? "");
    await stage.hear();
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
        "select count(*)::int > 0 as told from lead_events where event = 'payment_failed' and metadata ->> 'payment_request_id' = $1",
        [id],
      ),
    ).toEqual([{ told: true }]);
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

  it("makes the tenant's links and tells of its payments, signed with its own secret", async () => {
    stage.stripe.faults.add({ kind: "reset", moment: "after", times: 3 });
    const begun = await stage.ask({}, "tenantB");
    await stage.db.until("select status = 'pending' and attempts = 1 from payment_requests where id = $1", [begun]);
    const own = stage.stripe.addAccount("sk_test_of_tenant_b");
    const token = await save({ secret_key: own.secretKey, webhook_secret: own.webhookSecret });
    own.setWebhook(`${stage.server.url}/webhooks/stripe/${token}`);
    // What was begun through the other account is not made twice.
    await hurry("payment_requests", begun);
    await becomes(begun, "status", "failed");
    expect(await requestOf(stage.db, begun)).toMatchObject({
      last_error:
        "the link was started in another Stripe account; for a new link set payment_status to cancelled, then to open",
    });
    expect(linksOf(begun)).toHaveLength(1);

    stage.stripe.faults.add({ kind: "server_error", key: stage.stripe.secretKey });
    const id = await stage.ask({}, "tenantB");
    const url = await stage.linkOf(id);
    expect(stage.stripe.pay(url, { email: "bea@x.example" })).toMatchObject({ outcome: "paid" });
    await stage.hear();
    expect(await requestOf(stage.db, id)).toMatchObject({ payment_status: "paid" });
    await stage.db.until("select status = 'completed' from payment_link_closures where payment_request_id = $1", [id]);
    expect(
      await stage.db.query("select distinct tenant_id from webhook_events where payload::text like '%' || $1 || '%'", [
        id,
      ]),
    ).toEqual([{ tenant_id: stage.db.tenantB }]);
  });

  it("with a key that is refused pauses that tenant alone", async () => {
    stage.stripe.faults.add({ kind: "unauthorized", key: "sk_test_of_tenant_b", times: 1 });
    const theirs = await stage.ask({}, "tenantB");
    await stage.db.until(
      "select last_error like '%set the tenant''s Stripe credential again%' from payment_requests where id = $1",
      [theirs],
    );
    const ours = await stage.ask();
    await stage.linkOf(ours);
    await stage.db.as("admin", "select brainops.resume('payment_requests', 'tenant-b')");
    await hurry("payment_requests", theirs);
    await stage.linkOf(theirs);
    expect([...linksOf(ours), ...linksOf(theirs)]).toHaveLength(2);
  });

  describe("that is taken away, though what it made is cancelled afterwards", () => {
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

    it("has its links closed through it where it is switched off", async () => {
      const id = await stage.ask({}, "tenantB");
      await stage.linkOf(id);
      await stage.db.as("tenantB", "update provider_credentials set active = false");
      await cancelled(id);
      await closureIs(id, "completed");
      expect(linksOf(id)).toMatchObject([{ active: false }]);
    });

    it("waits where it is switched off and its key refused, and holds up no other link", async () => {
      const id = await stage.ask({}, "tenantB");
      await stage.linkOf(id);
      await stage.db.as("tenantB", "update provider_credentials set active = false");
      stage.stripe.faults.add({ kind: "unauthorized", key: keys.secret_key, times: 1 });
      await cancelled(id);
      await closureIs(id, "pending", "waiting: ");
      const common = await stage.ask({}, "tenantB");
      await stage.linkOf(common);
      await cancelled(common);
      await closureIs(common, "completed");
      await save(keys);
      await closureIs(id, "completed");
      expect([...linksOf(id), ...linksOf(common)].filter(({ active }) => active)).toEqual([]);
    });

    it("has them closed through the one that was written anew", async () => {
      const id = await stage.ask({}, "tenantB");
      await stage.linkOf(id);
      await erase();
      await save(keys);
      await cancelled(id);
      await closureIs(id, "completed");
      expect(linksOf(id)).toMatchObject([{ active: false }]);
    });

    it("waits for it where it is erased, and goes on when it comes back, given up or not", async () => {
      const [first, second] = [await stage.ask({}, "tenantB"), await stage.ask({}, "tenantB")];
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

    it("fails where the present account is another one, which Stripe says", async () => {
      stage.stripe.addAccount("sk_test_another_of_tenant_b");
      const id = await stage.ask({}, "tenantB");
      await stage.linkOf(id);
      await erase();
      await save({ secret_key: "sk_test_another_of_tenant_b" });
      await cancelled(id);
      await closureIs(id, "failed", "Stripe answered 404");
      expect(linksOf(id)).toMatchObject([{ active: true }]);
      await erase();
    });

    it("fails where nobody knows whether there is a link, and the present account has none", async () => {
      const id = await stage.ask({}, "tenantB");
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
    "killed between Stripe's yes and our note of it leave one link",
    async () => {
      await worker.stop();
      const environment = { ...stage.environment, PUBLIC_URL: "https://ops.example" };
      const victim = await startWorkerProcess(stage.db.urlOf("worker"), environment);
      stage.stripe.faults.add({ kind: "slow", delayMs: 60_000, times: 1 });
      const before = stage.stripe.stats.links;
      const id = await stage.ask();
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

  it("that cannot open a tenant's account pause that tenant, and say what to set", async () => {
    await worker.stop();
    const other = { ...stage.environment, BRAINOPS_SECRET_KEY: Buffer.alloc(32, 7).toString("base64") };
    const stranger = await stage.startWorker(other);
    const [theirs, ours] = [await stage.ask({}, "tenantB"), await stage.ask()];
    await stage.linkOf(ours);
    await stage.db.until("select last_error like '%OP036%' from payment_requests where id = $1", [theirs]);
    expect(await requestOf(stage.db, theirs)).toMatchObject({ status: "pending", key_started_at: null });
    await stranger.stop();
    worker = await stage.startWorker();
    await stage.db.as("admin", "select brainops.resume('payment_requests', 'tenant-b')");
    await hurry("payment_requests", theirs);
    await stage.linkOf(theirs);
  }, 40_000);

  it("without STRIPE_SECRET_KEY leave rows waiting, which say so, and go on once one has it", async () => {
    await worker.stop();
    const poor = await stage.startWorker({});
    const id = await stage.ask();
    await stage.db.query("select graphile_worker.add_job('maintenance__sweep')");
    await stage.db.until("select last_error like 'waiting:%STRIPE_SECRET_KEY%' from payment_requests where id = $1", [
      id,
    ]);
    expect(await requestOf(stage.db, id)).toMatchObject({ status: "pending", attempts: 0, key_started_at: null });
    await poor.stop();
    worker = await stage.startWorker();
    await hurry("payment_requests", id);
    await stage.linkOf(id);
  }, 40_000);
});
