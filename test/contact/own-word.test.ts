// A person's own word: unsubscribe link, preference page, SendGrid's and Twilio's opt-outs, complaint, erasure. Only the
// person lifts it, or an admin with a reason. In pairs: what a tenant may still do, and what it may not.
import type pg from "pg";
import { deleting } from "../support/deleteRows.ts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type Seat, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";

let db: TestDatabase;
let tenant: pg.Client;
let worker: pg.Client;
beforeAll(async () => {
  db = await createTestDatabase();
  tenant = await db.connect("tenantA");
  worker = await db.connect("worker");
});
afterAll(() => db?.close());

let people = 0;
const someone = (): string => {
  people += 1;
  return `person${people}@example.com`;
};

const token = async (address: string): Promise<string> => {
  const [row] = await db.query<{ token: string }>(
    "select token from brainops_internal.unsubscribe_tokens($1, array[$2]) as k",
    [db.tenantA, address],
  );
  return row?.token ?? "";
};
const unsubscribe = async (address: string): Promise<unknown> =>
  worker.query("select brainops_internal.unsubscribe($1)", [await token(address)]);
const resubscribe = async (address: string): Promise<unknown> =>
  worker.query(`select brainops_internal.save_preferences($1, '{"email": true}')`, [await token(address)]);

/** Whether mail to the address is suppressed, and the state of its consent. */
async function stateOf(address: string): Promise<unknown> {
  const [row] = await db.query(
    `select exists (
       select from contact_suppressions
       where tenant_id = $1 and address_key in ($2, brainops_internal.address_digest($2))
         and (expires_at is null or expires_at > now())
     ) as stopped, brainops.consent_state($1, 'email', $2) as consent`,
    [db.tenantA, address],
  );
  return row;
}

const SUPPRESS = "insert into contact_suppressions (address, reason) values ($1, 'manual')";
const GRANT =
  "insert into contact_consents (channel, address, state, source) values ('email', $1, 'granted', 'client')";

describe("an unsubscribe", () => {
  it.each<Seat>(["tenantA", "service", "admin"])("is not deleted, moved or limited by %s", async (seat) => {
    const address = someone();
    await unsubscribe(address);
    const client = await db.connect(seat);
    if (seat === "service") await client.query("select set_config('app.tenant_id', $1, false)", [db.tenantA]);
    const plain = "delete from contact_suppressions where address_key = $1";
    const erase = seat === "tenantA" ? deleting(plain) : plain;
    for (const statement of [
      erase,
      "update contact_suppressions set expires_at = now() where address_key = $1",
      "update contact_suppressions set address = 'other@example.com' where address_key = $1",
      "update contact_suppressions set channel = 'sms', address = '+13035550100' where address_key = $1",
      `insert into contact_suppressions (tenant_id, address, expires_at) values ('${db.tenantA}', $1, now())
       on conflict (tenant_id, channel, address_key) do update set expires_at = excluded.expires_at`,
    ]) {
      const error = await refusal(client.query(statement, [address]));
      expect([statement, error.code, error.column]).toEqual([statement, "42501", "person_source"]);
      expect(error.hint).toContain("brainops.lift_opt_out");
    }
    // Its own mark on the row is the tenant's, and weakens nothing.
    await client.query("update contact_suppressions set reason = 'manual', source = 'client' where address_key = $1", [
      address,
    ]);
    expect((await refusal(client.query(erase, [address]))).code).toBe("42501");
    expect(await stateOf(address)).toEqual({ stopped: true, consent: "denied" });
  });

  it("is lifted by the person on the preference page", async () => {
    const address = someone();
    await unsubscribe(address);
    await resubscribe(address);
    expect(await stateOf(address)).toEqual({ stopped: false, consent: "granted" });
  });

  it("does not outlast the person's return in a row that the tenant had its own reason for; that reason stays", async () => {
    const address = someone();
    await tenant.query(SUPPRESS, [address]);
    await unsubscribe(address);
    expect(
      (await refusal(tenant.query(deleting("delete from contact_suppressions where address_key = $1"), [address])))
        .code,
    ).toBe("42501");
    await resubscribe(address);
    expect(await stateOf(address)).toEqual({ stopped: true, consent: "granted" });
    await tenant.query(deleting("delete from contact_suppressions where address_key = $1"), [address]);
    expect(await stateOf(address)).toEqual({ stopped: false, consent: "granted" });
  });

  it("is lifted by an admin with a reason, which is recorded, and not by a tenant", async () => {
    const address = someone();
    await unsubscribe(address);
    const lift = "select brainops.lift_opt_out('tenant-a', 'email', $1, $2) as lifted";
    expect((await refusal(tenant.query(lift, [address, "by phone"]))).code).toBe("42501");
    expect((await refusal(db.as("admin", lift, [address, " "]))).code).toBe("22023");
    expect(await db.as("admin", lift, [address, "by phone, 4 May"])).toEqual([{ lifted: 1 }]);
    expect(await stateOf(address)).toEqual({ stopped: false, consent: "granted" });
    const [entry] = await db.query(
      "select source, evidence ->> 'reason' as reason, evidence ? 'recorded_by' as by from contact_consents where address_key = $1 and state = 'granted'",
      [address],
    );
    expect(entry).toEqual({ source: "admin", reason: "by phone, 4 May", by: true });
    // A later unsubscribe counts again.
    await unsubscribe(address);
    expect(
      (await refusal(tenant.query(deleting("delete from contact_suppressions where address_key = $1"), [address])))
        .code,
    ).toBe("42501");
  });
});

describe("a suppression of the tenant's own", () => {
  it.each(["manual", "bounced", "complained"])("(%s) is the tenant's to change and to delete", async (reason) => {
    const address = someone();
    await tenant.query("insert into contact_suppressions (address, reason) values ($1, $2)", [address, reason]);
    await tenant.query("update contact_suppressions set expires_at = now() + interval '1 day' where address_key = $1", [
      address,
    ]);
    await tenant.query(deleting("delete from contact_suppressions where address_key = $1"), [address]);
    expect(await stateOf(address)).toEqual({ stopped: false, consent: null });
  });
});

describe("what providers report", () => {
  const suppress = (address: string, reason: string, source: string, channel = "email"): Promise<unknown> =>
    db.query("select brainops_internal.suppress($1, $2, $3, $4, $5)", [db.tenantA, channel, address, reason, source]);

  it("as a complaint or an unsubscribe is the person's word, also in a row of the tenant's", async () => {
    for (const reason of ["complained", "unsubscribed"]) {
      const [before, after] = [someone(), someone()];
      await tenant.query(SUPPRESS, [before]);
      for (const address of [before, after]) {
        await suppress(address, reason, "sendgrid");
        const error = await refusal(
          tenant.query(deleting("delete from contact_suppressions where address_key = $1"), [address]),
        );
        expect([reason, error.code]).toEqual([reason, "42501"]);
      }
    }
  });

  it("as a STOP is the person's word", async () => {
    await suppress("+13035550171", "unsubscribed", "twilio", "sms");
    expect(
      (await refusal(tenant.query(deleting("delete from contact_suppressions where address = '+13035550171'")))).code,
    ).toBe("42501");
  });

  it("as a bounce or an unreachable number is not", async () => {
    const address = someone();
    await suppress(address, "bounced", "sendgrid");
    await suppress("+13035550172", "unreachable", "twilio", "sms");
    const { rows: deleted } = await tenant.query(
      deleting("delete from contact_suppressions where address in ($1, '+13035550172')"),
      [address],
    );
    expect(deleted).toEqual([{ delete_rows: 2 }]);
  });
});

describe("a person's denial", () => {
  it("is not overridden by a tenant's grant, whatever its time or source", async () => {
    const address = someone();
    await unsubscribe(address);
    const error = await refusal(tenant.query(GRANT, [address]));
    expect([error.code, error.column]).toEqual(["42501", "state"]);
    for (const source of ["preference_page", "double_opt_in", "twilio", "admin"]) {
      const forged = tenant.query(
        `insert into contact_consents (channel, address, state, source, evidence)
         values ('email', $1, 'granted', $2, '{"confirmed_at": "2026-01-01", "reason": "x"}')`,
        [someone(), source],
      );
      expect([source, (await refusal(forged)).column]).toEqual([source, "source"]);
    }
    expect(await stateOf(address)).toEqual({ stopped: true, consent: "denied" });
  });

  it("counts even against grants that were entered before it for a later time", async () => {
    const address = someone();
    await tenant.query(
      "insert into contact_consents (channel, address, state, occurred_at) values ('email', $1, 'granted', now() + interval '1 year')",
      [address],
    );
    expect(await stateOf(address)).toEqual({ stopped: false, consent: "granted" });
    await unsubscribe(address);
    expect(await stateOf(address)).toEqual({ stopped: true, consent: "denied" });
    const [gate] = await db.query("select state from brainops_internal.last_consents($1, 'email', array[$2])", [
      db.tenantA,
      address,
    ]);
    expect(gate).toEqual({ state: "denied" });
    await resubscribe(address);
    expect(await stateOf(address)).toEqual({ stopped: false, consent: "granted" });
  });

  it("is not overridden by a form or an import, which still add the lead", async () => {
    for (const source of ["form", "import", "preference_page"]) {
      const address = someone();
      await unsubscribe(address);
      const { rows } = await tenant.query<{ is_new: boolean }>(
        "select is_new from brainops.capture_lead($1, jsonb_build_object('email', $2::text, 'email_consent', true), $3, '{}')",
        [db.tenantA, address, source],
      );
      expect([source, rows]).toEqual([source, [{ is_new: true }]]);
      expect(await stateOf(address)).toEqual({ stopped: true, consent: "denied" });
    }
  });

  it("of the tenant's own making may be followed by the tenant's grant", async () => {
    const address = someone();
    await tenant.query("insert into contact_consents (channel, address, state) values ('email', $1, 'denied')", [
      address,
    ]);
    expect(await stateOf(address)).toEqual({ stopped: false, consent: "denied" });
    await tenant.query(GRANT, [address]);
    expect(await stateOf(address)).toEqual({ stopped: false, consent: "granted" });
  });
});

describe("a topic that a person does not want", () => {
  it("stays unwanted: neither the opt-out nor its topic can be deleted; a tenant's own opt-out can", async () => {
    const [theirs, own] = [someone(), someone()];
    await tenant.query("insert into contact_topics (code, name) values ('news', 'News')");
    await worker.query(`select brainops_internal.save_preferences($1, '{"topics": {"news": false}}')`, [
      await token(theirs),
    ]);
    await tenant.query(
      "insert into contact_topic_optouts (topic_id, address_key) select id, $1 from contact_topics where code = 'news'",
      [own],
    );
    for (const statement of [
      deleting("delete from contact_topic_optouts"),
      "update contact_topic_optouts set source = 'client'",
      deleting("delete from contact_topics where code = 'news'"),
    ]) {
      expect([statement, (await refusal(tenant.query(statement))).code]).toEqual([statement, "42501"]);
    }
    const { rows: deleted } = await tenant.query(deleting("delete from contact_topic_optouts where address_key = $1"), [
      own,
    ]);
    expect(deleted).toEqual([{ delete_rows: 1 }]);
    await worker.query(`select brainops_internal.save_preferences($1, '{"topics": {"news": true}}')`, [
      await token(theirs),
    ]);
    expect(await db.query("select from contact_topic_optouts")).toEqual([]);
  });
});

describe("forget", () => {
  it("by the tenant leaves a digest that the tenant cannot lift, even one that it had entered itself", async () => {
    const address = someone();
    await unsubscribe(address);
    // Entered by the tenant before, so that it would be the tenant's own row.
    await tenant.query(
      "insert into contact_suppressions (address) select 'sha256:' || encode(sha256(convert_to($1, 'UTF8')), 'hex')",
      [address],
    );
    await tenant.query("select brainops.forget('tenant-a', $1)", [address]);
    expect(await stateOf(address)).toEqual({ stopped: true, consent: null });
    expect(
      (
        await refusal(
          tenant.query(deleting("delete from contact_suppressions where reason = 'forgotten' and source = 'forget'")),
        )
      ).code,
    ).toBe("42501");
  });

  it("is not imitated by a digest that expires", async () => {
    const address = someone();
    await unsubscribe(address);
    await db.query(
      "insert into contact_suppressions (tenant_id, address, reason, source, expires_at) select $1, brainops_internal.address_digest($2), 'forgotten', 'forget', now() + interval '1 second'",
      [db.tenantA, address],
    );
    expect(
      (await refusal(tenant.query(deleting("delete from contact_suppressions where address_key = $1"), [address])))
        .code,
    ).toBe("42501");
  });
});
