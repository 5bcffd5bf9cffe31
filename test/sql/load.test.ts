// What workers read in addition to claimed rows (functions/*/load.sql): for their tenant, rows with a lease, and by an index.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type pg from "pg";
import { findEndpoint } from "../../src/revenue/credentials/store.ts";
import { loadEmails } from "../../src/revenue/email/load.ts";
import { loadRecipients, readBroadcast } from "../../src/revenue/email/loadBroadcast.ts";
import { loadNotifications } from "../../src/revenue/notifications/send.ts";
import { loadPaymentRequests } from "../../src/revenue/payments/createLink.ts";
import { loadPaymentClosures } from "../../src/revenue/payments/deactivate.ts";
import { loadSms } from "../../src/revenue/sms/load.ts";
import { createPool } from "../../src/db/pool.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { asWorker, beginAsWorker, insertMail } from "../support/jobs.ts";
import { seedBothTenants } from "../support/seeds.ts";

let db: TestDatabase;
let worker: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  await seedBothTenants(db);
  for (const tenant of [db.tenantA, db.tenantB]) {
    await db.query(
      `insert into ai_email_queue (tenant_id, broadcast_id, recipient)
       select tenant_id, id, 'bob@example.com' from ai_broadcasts where tenant_id = $1`,
      [tenant],
    );
  }
  worker = await db.connect("worker");
});

afterAll(() => db.close());

type Row = Readonly<Record<string, unknown>>;

const loadAs = (tenant: string, load: string, values: readonly unknown[]): Promise<Row[]> =>
  asWorker(worker, tenant, async () => (await worker.query<Row>(load, [...values])).rows);

/** Gives the rows a lease, or takes it; without triggers. */
async function claimByHand(table: string, ids: readonly string[], isClaimed = true): Promise<void> {
  const client = await db.connect("superuser");
  try {
    await client.query("set session_replication_role = replica");
    await client.query(
      isClaimed
        ? `update ${table} set status = 'processing', lease = gen_random_uuid(), worker_id = gen_random_uuid() where id = any ($1)`
        : `update ${table} set status = 'pending', lease = null, worker_id = null where id = any ($1)`,
      [ids],
    );
  } finally {
    await client.end();
  }
}

const loads = [
  { table: "ai_email_queue", load: loadEmails, where: "broadcast_id is null" },
  { table: "ai_email_queue", load: loadRecipients, where: "broadcast_id is not null" },
  { table: "ai_sms_queue", load: loadSms, where: "true" },
  { table: "payment_requests", load: loadPaymentRequests, where: "true" },
  { table: "payment_link_closures", load: loadPaymentClosures, where: "true" },
  { table: "tenant_notifications", load: loadNotifications, where: "true" },
].map((one) => ({ ...one, name: /load_\w+/.exec(one.load)?.[0] ?? "" }));

describe.each(loads)("$name", ({ table, load, where, name }) => {
  let own: string;
  let ids: string[];

  beforeEach(async () => {
    const rows = await db.query<{ id: string; tenant_id: string }>(`select id, tenant_id from ${table} where ${where}`);
    ids = rows.map(({ id }) => id);
    own = rows.find(({ tenant_id }) => tenant_id === db.tenantA)?.id ?? "";
    await claimByHand(table, ids);
  });

  it("returns claimed rows of the worker's tenant, and of no other", async () => {
    expect(ids).toHaveLength(2);
    expect(await loadAs(db.tenantA, load, [ids])).toMatchObject([{ id: own, tenant_id: db.tenantA }]);
    expect(await loadAs(db.tenantB, load, [ids])).toMatchObject([{ tenant_id: db.tenantB }]);
  });

  it("returns no row without a lease", async () => {
    await claimByHand(table, [own], false);
    expect(await loadAs(db.tenantA, load, [ids])).toEqual([]);
  });

  it("survives a new column of its table, prepared as it is", async () => {
    const prepared = { name, text: load, values: [ids] };
    const run = () => asWorker(worker, db.tenantA, async () => (await worker.query<Row>(prepared)).rows);
    const before = await run();
    await db.query(`alter table ${table} add column added_later int not null default 7`);
    expect(await run()).toEqual(before);
    await db.query(`alter table ${table} drop column added_later`);
    expect(await run()).toEqual(before);
  });

  it("is for workers alone", async () => {
    const [rights] = await db.query<Row>(
      `select has_function_privilege('brainops_tenant', f, 'execute') as tenant,
         has_function_privilege('brainops_service', f, 'execute') as service,
         has_function_privilege('brainops_worker', f, 'execute') as worker
       from to_regprocedure('brainops_internal.${name}(uuid[])') as f`,
    );
    expect(rights).toEqual({ tenant: false, service: false, worker: true });
  });
});

describe("load_broadcast", () => {
  it("returns a broadcast of the worker's tenant, and of no other", async () => {
    const [broadcast] = await db.query<{ id: string }>("select id from ai_broadcasts where tenant_id = $1", [
      db.tenantA,
    ]);
    const read = (tenant: string) =>
      asWorker(worker, tenant, () =>
        readBroadcast({ query: (text, values = []) => worker.query(text, [...values]) }, broadcast?.id ?? ""),
      );
    expect(await read(db.tenantA)).toMatchObject({ subject: "Hello", tenant: { slug: "tenant-a" } });
    await expect(read(db.tenantB)).rejects.toThrow(/does not exist any more/);
  });
});

describe("an unsubscribe token", () => {
  const tokensOf = async (columns: readonly Row[]): Promise<unknown[]> => {
    const ids: string[] = [];
    for (const one of columns) ids.push(await insertMail(db, "tenantA", one));
    await claimByHand("ai_email_queue", ids);
    const rows = await loadAs(db.tenantA, loadEmails, [ids]);
    return ids.map((id) => rows.find((row) => row["id"] === id)?.["unsubscribe_token"]);
  };
  const marketing = { metadata: { marketing: true } };

  it("is that of the address, however the address is written; a mail that is not marketing has none", async () => {
    const [one, other, plain] = await tokensOf([
      { ...marketing, recipient: "Cy@Example.com" },
      { ...marketing, recipient: "cy@example.com" },
      { recipient: "cy@example.com" },
    ]);
    expect(one).toMatch(/^[0-9a-f]{64}$/);
    expect([other, plain]).toEqual([one, null]);
    expect(await db.query("select token from email_unsubscribe_links where address_key = 'cy@example.com'")).toEqual([
      { token: one },
    ]);
  });

  it("is made for marketing mail alone", async () => {
    expect(await tokensOf([{ recipient: "dan@example.com" }])).toEqual([null]);
    expect(await db.query("select from email_unsubscribe_links where address_key = 'dan@example.com'")).toEqual([]);
  });

  it("is null where the lead has no address any more", async () => {
    const [lead] = await db.as<{ id: string }>(
      "tenantA",
      "insert into revenue_leads (contact_name, email) values ('Eve', 'eve@example.com') returning id",
    );
    await db.as("tenantA", "update revenue_leads set email = ' ' where id = $1", [lead?.id]);
    expect(await tokensOf([{ ...marketing, recipient: lead?.id }])).toEqual([null]);
  });
});

describe("a mail's address", () => {
  it("is one rule for the gate, single mails and recipients of a broadcast, merged leads included", async () => {
    const insert = "insert into revenue_leads (contact_name, email) values ($1, $2) returning id";
    const lead = async (name: string, email: string): Promise<string> =>
      (await db.as<{ id: string }>("tenantA", insert, [name, email]))[0]?.id ?? "";
    const [kept, merged] = [await lead("Kept", "kept@example.com"), await lead("Merged", "merged@example.com")];
    const [broadcast] = await db.query<{ id: string }>("select id from ai_broadcasts where tenant_id = $1", [
      db.tenantA,
    ]);
    const single = await insertMail(db, "tenantA", { recipient: merged });
    const [recipient] = await db.as<{ id: string }>(
      "tenantA",
      "insert into ai_email_queue (broadcast_id, recipient) values ($1, $2) returning id",
      [broadcast?.id, merged],
    );
    await db.as("tenantA", "select brainops.merge_leads($1, $2)", [kept, merged]);
    const ids = [single, recipient?.id ?? ""];
    await claimByHand("ai_email_queue", ids);
    const address = "kept@example.com";
    expect(await loadAs(db.tenantA, loadEmails, [ids])).toMatchObject([{ id: single, address }]);
    expect(await loadAs(db.tenantA, loadRecipients, [ids])).toMatchObject([{ id: recipient?.id, address }]);
    expect(
      await loadAs(
        db.tenantA,
        "select c.id, c.address from unnest(brainops_internal.email_contacts($1)) as c order by c.id = $2",
        [ids, recipient?.id],
      ),
    ).toEqual(ids.map((id) => ({ id, address })));
  });
});

describe("what load queries call for each row", () => {
  /** The plan of a query as a worker has it, as long as indexes are preferred. */
  async function planOf(query: string): Promise<string> {
    await beginAsWorker(worker, db.tenantA);
    try {
      await worker.query("set local enable_seqscan = off");
      const { rows } = await worker.query<{ "QUERY PLAN": string }>(`explain (costs off) ${query}`);
      return rows.map((row) => row["QUERY PLAN"]).join("\n");
    } finally {
      await worker.query("rollback");
    }
  }

  it("is inlined, and finds leads by an index behind row level security", async () => {
    const plan = await planOf(
      `select a.address from ai_email_queue as q
       cross join lateral brainops_internal.email_address(q.tenant_id, q.recipient) as a`,
    );
    expect(plan).not.toContain("Function Scan");
    expect(plan).toMatch(/using revenue_leads_\w+ on revenue_leads l\n\s+Index Cond: .*\bid = /);
    expect(plan).toMatch(/on revenue_lead_aliases a\n\s+Index Cond: .*\bid = /);
  });

  it("is inlined, and finds the tenant's account by an index", async () => {
    const plan = await planOf(
      `select o.sealed from ai_email_queue as q
       left join lateral brainops_internal.tenant_account(q.tenant_id, 'sendgrid') as o on true`,
    );
    expect(plan).not.toContain("Function Scan");
    expect(plan).toContain("provider_credentials_once");
  });
});

describe("a tenant's own account", () => {
  const accountsOf = (tenant: string, of = tenant): Promise<Row[]> =>
    loadAs(tenant, "select id, sealed from brainops_internal.tenant_account($1, 'stripe')", [of]);

  it("is the active one of the name default, of the worker's tenant", async () => {
    const [account] = await db.query<{ id: string; token: string }>(
      "select id, endpoint_token as token from provider_credentials where tenant_id = $1 and provider = 'stripe'",
      [db.tenantA],
    );
    const sealed = { tenant_id: db.tenantA, provider: "stripe", name: "default", sealed: "AA==", wrapped_key: "AA==" };
    expect(await accountsOf(db.tenantA)).toMatchObject([{ id: account?.id, sealed }]);
    expect(await accountsOf(db.tenantB, db.tenantA)).toEqual([]);

    const pool = createPool({ connectionString: db.urlOf("worker"), applicationName: "test", max: 1 });
    try {
      const endpoint = (): Promise<unknown> => findEndpoint(pool, "stripe", account?.token ?? "");
      expect(await endpoint()).toMatchObject({ ...sealed, active: true });
      expect(await findEndpoint(pool, "twilio", account?.token ?? "")).toBeNull();
      await db.query("update provider_credentials set active = false where id = $1", [account?.id]);
      expect(await accountsOf(db.tenantA)).toEqual([]);
      expect(await endpoint()).toMatchObject({ ...sealed, active: false });
      await db.query("update provider_credentials set active = true, name = 'other' where id = $1", [account?.id]);
      expect(await accountsOf(db.tenantA)).toEqual([]);
    } finally {
      await pool.end();
      await db.query("update provider_credentials set active = true, name = 'default' where id = $1", [account?.id]);
    }
  });
});
