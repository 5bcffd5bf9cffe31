// Double opt-in: one mail asks, only its button is a yes, and a yes is what the gate waits for.
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { claim, insertMail } from "../support/jobs.ts";
import { letMarketingGo } from "../support/marketing.ts";

let db: TestDatabase;
let worker: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  worker = await db.connect("worker");
  await letMarketingGo(db);
  await db.query("update contact_policies set consent = 'double_opt_in' where tenant_id = $1", [db.tenantA]);
});

afterAll(() => db.close());

let people = 0;
function somebody(): string {
  people += 1;
  return `person${people}@example.com`;
}

/** Says yes in a form that anybody could have filled in. */
function sayYes(
  seat: "tenantA" | "tenantB",
  address: string,
  state = "granted",
  evidence: object = {},
): Promise<unknown> {
  return db.as(
    seat,
    "insert into contact_consents (channel, address, state, source, evidence) values ('email', $1, $2, 'form', $3)",
    [address, state, JSON.stringify(evidence)],
  );
}

async function request(address: string): Promise<Record<string, unknown> | undefined> {
  const rows = await db.query("select * from opt_in_requests where address_key = $1 order by created_at desc", [
    address,
  ]);
  return rows[0];
}

async function mailsTo(address: string): Promise<Record<string, unknown>[]> {
  return db.query("select * from ai_email_queue where lower(recipient) = $1 and metadata ->> 'type' = 'opt_in'", [
    address,
  ]);
}

/** What the gate says to a marketing mail. */
async function verdict(seat: "tenantA" | "tenantB", address: string): Promise<string> {
  const id = await insertMail(db, seat, { recipient: address, metadata: { marketing: true } });
  const [answer] = await claim(worker, seat === "tenantA" ? db.tenantA : db.tenantB, [id]);
  return answer?.outcome === "go" ? "go" : `${answer?.outcome}: ${answer?.reason}`;
}

async function confirm(token: unknown): Promise<string> {
  const [row] = await db.as<{ answer: string }>(
    "worker",
    "select brainops_internal.confirm_opt_in($1, '{}') as answer",
    [token],
  );
  return row?.answer ?? "";
}

describe("before any process has said PUBLIC_URL", () => {
  it("a request that no mail can follow is closed, and keeps nobody else's from being mailed", async () => {
    const [before, taken, after] = [somebody(), somebody(), somebody()];
    await sayYes("tenantA", before);
    await sayYes("tenantB", "not an address", "pending", { double_opt_in: true });
    await sayYes("tenantB", taken, "pending", { double_opt_in: true });
    await db.as(
      "tenantB",
      `insert into ai_email_queue (recipient, subject, body, idempotency_key)
       select 'a@example.com', 's', 'b', 'opt_in:' || id from opt_in_requests where address = $1`,
      [taken],
    );
    await sayYes("tenantA", after);
    // An error that is the server's is not a verdict on the request: all of them keep waiting.
    await db.query(`
      create function refuse() returns trigger language plpgsql as $$
      begin raise exception 'no space left' using errcode = 'disk_full'; end; $$;
      create trigger refuse before insert on ai_email_queue for each row execute function refuse();
    `);
    const announce = "select brainops.announce_public_url('https://ops.example/')";
    await expect(db.as("worker", announce)).rejects.toMatchObject({ code: "53100" });
    await db.query("drop function refuse cascade");
    expect(await request(before)).toMatchObject({ email_id: null, expires_at: null });

    await db.as("worker", announce);
    for (const address of [before, after]) expect(await mailsTo(address)).toHaveLength(1);
    for (const address of ["not an address", taken]) {
      expect(await request(address)).toMatchObject({ email_id: null, expires_at: expect.any(Date) });
      expect(await mailsTo(address)).toEqual([]);
    }
    await db.query("delete from brainops.installation");
  });

  it("a request waits, and its mail is queued once as soon as one does", async () => {
    const address = somebody();
    await sayYes("tenantA", address);
    expect(await request(address)).toMatchObject({ email_id: null, expires_at: null });
    expect(await mailsTo(address)).toEqual([]);
    for (let i = 0; i < 2; i += 1) await db.as("worker", "select brainops.announce_public_url('https://ops.example/')");
    expect(await mailsTo(address)).toHaveLength(1);
  });
});

describe("where the tenant asks for double opt-in", () => {
  it("a yes is asked back by one mail; nothing goes until it is confirmed", async () => {
    const address = somebody();
    await sayYes("tenantA", address);
    const [mail] = await mailsTo(address);
    const asked = await request(address);
    expect(mail?.["metadata"]).toMatchObject({
      confirm_url: `https://ops.example/confirm/${String(asked?.["token"])}`,
    });
    expect(mail?.["is_marketing"]).toBe(false);
    expect(await verdict("tenantA", address)).toBe("skip: double opt-in not confirmed");
    expect(await confirm(asked?.["token"])).toBe("confirmed");
    expect(await verdict("tenantA", address)).toBe("go");
    const [word] = await db.query(
      "select state, source, evidence from contact_consents where address = $1 and source = 'double_opt_in'",
      [address],
    );
    expect(word).toMatchObject({
      state: "granted",
      evidence: { request_id: asked?.["id"], confirmed_at: expect.any(String) },
    });
  });

  it("a second yes within a day is no second mail, a later one is; twice confirmed is as once", async () => {
    const address = somebody();
    await Promise.all([
      sayYes("tenantA", address),
      sayYes("tenantA", address, "pending"),
      sayYes("tenantA", address.toUpperCase()),
    ]);
    expect(await mailsTo(address)).toHaveLength(1);
    const first = await request(address);
    for (let i = 0; i < 3; i += 1) expect(await confirm(first?.["token"])).toBe("confirmed");
    expect(
      await db.query("select from contact_consents where lower(address) = $1 and source = 'double_opt_in'", [address]),
    ).toHaveLength(1);
  });

  it("a confirmation makes no new request, and its link ends after seven days", async () => {
    const address = somebody();
    await sayYes("tenantA", address);
    const asked = await request(address);
    await db.setClock("8 days");
    try {
      expect(await confirm(asked?.["token"])).toBe("expired");
      await sayYes("tenantA", address);
      expect((await request(address))?.["id"]).not.toBe(asked?.["id"]);
    } finally {
      await db.setClock("0");
    }
    expect(await confirm("0".repeat(64))).toBe("unknown");
  });

  it("who has said no is not asked, and a bounce is not lifted by a yes", async () => {
    const [gone, bounced] = [somebody(), somebody()];
    await db.as("tenantA", "insert into contact_suppressions (address, reason) values ($1, 'unsubscribed')", [gone]);
    await sayYes("tenantA", gone);
    expect(await request(gone)).toBeUndefined();
    await sayYes("tenantA", bounced);
    await db.as("tenantA", "insert into contact_suppressions (address, reason) values ($1, 'bounced')", [bounced]);
    expect(await confirm((await request(bounced))?.["token"])).toBe("confirmed");
    expect(await verdict("tenantA", bounced)).toBe("skip: suppressed: bounced");
  });
});

describe("where no mail can go", () => {
  it("what was said is kept, and nobody is asked", async () => {
    await sayYes("tenantA", "nowhere");
    expect(await db.query("select from contact_consents where address = 'nowhere'")).toHaveLength(1);
    expect(await request("nowhere")).toBeUndefined();
  });
});

describe("where it does not", () => {
  it("a yes is a yes; only a pending word that asks for it is asked back", async () => {
    const [plain, pending, asked] = [somebody(), somebody(), somebody()];
    await sayYes("tenantB", plain);
    await sayYes("tenantB", pending, "pending");
    await sayYes("tenantB", asked, "pending", { double_opt_in: true });
    expect([await request(plain), await request(pending)]).toEqual([undefined, undefined]);
    expect(await verdict("tenantB", plain)).toBe("go");
    expect(await mailsTo(asked)).toHaveLength(1);
  });
});

describe("by text", () => {
  it("one text asks for a YES, once a day; a number that no text can go to asks nobody", async () => {
    const say = "insert into contact_consents (channel, address, state, evidence) values ('sms', $1, $2, $3)";
    const flag = JSON.stringify({ double_opt_in: true });
    for (let i = 0; i < 2; i += 1) await db.as("tenantB", say, ["+13035550123", "pending", flag]);
    await db.as("tenantB", say, ["+13035550124", "pending", "{}"]);
    await db.as("tenantB", say, ["12", "pending", flag]);
    const texts = await db.query("select recipient, is_marketing from ai_sms_queue where tenant_id = $1", [db.tenantB]);
    expect(texts).toEqual([{ recipient: "+13035550123", is_marketing: false }]);
  });
});

describe("the requests", () => {
  it("are seen by their tenant alone, and written by nobody", async () => {
    const address = somebody();
    await sayYes("tenantA", address);
    const look = "select from opt_in_requests where address = $1";
    expect(await db.as("tenantA", look, [address])).toHaveLength(1);
    expect(await db.as("tenantB", look, [address])).toEqual([]);
    for (const write of [
      "update opt_in_requests set confirmed_at = now()",
      "insert into opt_in_requests (address) values ('x@example.com')",
      "delete from opt_in_requests",
    ]) {
      await expect(db.as("tenantA", write)).rejects.toMatchObject({ code: "42501" });
    }
    await expect(db.as("tenantA", "select brainops_internal.confirm_opt_in('x')")).rejects.toMatchObject({
      code: "42501",
    });
  });
});
