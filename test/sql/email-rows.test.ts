// What clients may put into ai_email_queue: the shapes that existing writers use, and each refusal.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { codeOf } from "../../src/errors.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { deleting } from "../support/deleteRows.ts";
import { insertMail, jobsOf, mail } from "../support/jobs.ts";
import { refusal } from "../support/refusal.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});

afterAll(() => db.close());

const KIB = 1024;

describe("inserts of existing clients", () => {
  const optional = ["id", "scheduled_for", "created_at", "metadata"];
  const subsets = Array.from({ length: 2 ** optional.length }, (_, bits) =>
    optional.filter((__, i) => (bits >> i) % 2 === 1),
  );

  it.each(subsets.map((subset) => [subset]))(
    "are accepted with %j beside recipient, subject, body and status",
    async (subset) => {
      const values: Readonly<Record<string, unknown>> = {
        id: crypto.randomUUID(),
        scheduled_for: new Date(),
        created_at: new Date(),
        metadata: { lead_id: "not-a-lead", source: "nurture", is_test: false },
      };
      const id = await insertMail(db, "tenantA", {
        status: "queued",
        ...Object.fromEntries(subset.map((column) => [column, values[column]])),
      });
      expect(await mail(db, id)).toMatchObject({ status: "pending", tenant_id: db.tenantA });
      expect(await jobsOf(db, id)).toHaveLength(1);
    },
  );

  it("may name a lead by its id, as recipient or in metadata, and follow it when it changes", async () => {
    const lead = async (email: string): Promise<string> =>
      (await db.as<{ id: string }>("tenantA", "insert into revenue_leads (email) values ($1) returning id", [email]))[0]
        ?.id ?? "";
    const addressOf = async (id: string): Promise<unknown> =>
      (
        await db.query<{ address: unknown }>(
          "select a.address from ai_email_queue as q, brainops_internal.email_address(q.tenant_id, q.recipient) as a where id = $1",
          [id],
        )
      )[0]?.address;
    const [ann, bob] = [await lead("ann@example.com"), await lead("bob@example.com")];

    const byRecipient = await insertMail(db, "tenantA", { recipient: ann });
    expect(await mail(db, byRecipient)).toMatchObject({ lead_id: ann });
    const byMetadata = await insertMail(db, "tenantA", { recipient: "x@example.com", metadata: { lead_id: bob } });
    expect(await mail(db, byMetadata)).toMatchObject({ lead_id: bob });
    expect(await addressOf(byMetadata)).toBe("x@example.com");

    expect(await addressOf(byRecipient)).toBe("ann@example.com");
    await db.as("tenantA", "update revenue_leads set email = 'ann@new.example' where id = $1", [ann]);
    expect(await addressOf(byRecipient)).toBe("ann@new.example");
    await db.as("tenantA", "update ai_email_queue set recipient = $2 where id = $1", [byRecipient, bob]);
    expect(await mail(db, byRecipient)).toMatchObject({ lead_id: bob });
    expect(await addressOf(byRecipient)).toBe("bob@example.com");
    // Whatever lead_id is, the mail goes to the person that recipient names.
    await db.as("tenantA", "update ai_email_queue set lead_id = $2 where id = $1", [byRecipient, ann]);
    expect(await addressOf(byRecipient)).toBe("bob@example.com");

    await db.as("tenantA", deleting("delete from revenue_leads where id = $1"), [bob]);
    expect(await mail(db, byRecipient)).toMatchObject({ recipient: bob });
    expect(await addressOf(byRecipient)).toBeNull();
    await db.as("tenantA", "update ai_email_queue set subject = 'Hello again' where id = $1", [byRecipient]);
  });

  it("may give admins' and services' rows a lead as well", async () => {
    const [lead] = await db.as<{ id: string }>(
      "tenantB",
      "insert into revenue_leads (email) values ('cy@example.com') returning id",
    );
    const insert =
      "insert into ai_email_queue (tenant_id, recipient, subject, body) values ($1, $2, 's', 'b') returning lead_id";
    expect(await db.as("admin", insert, [db.tenantB, lead?.id])).toEqual([{ lead_id: lead?.id }]);
    expect(await db.as("service", insert, [db.tenantB, lead?.id])).toEqual([{ lead_id: lead?.id }]);
    expect((await refusal(db.as("admin", insert, [db.tenantA, lead?.id]))).code).toBe("OP004");
    expect((await refusal(db.as("service", insert, [db.tenantA, lead?.id]))).code).toBe("OP004");
  });
});

describe("a mail that can be sent", () => {
  it.each([
    "ann@example.com",
    "  ann@example.com\n",
    "Ann.O'Neil+tag@sub.example.co.uk",
    "a@xn--bcher-kva.example",
    `${"a".repeat(64)}@example.com`,
  ])("has a recipient such as %j", async (recipient) => {
    expect(await mail(db, await insertMail(db, "tenantA", { recipient }))).toMatchObject({
      recipient: recipient.trim(),
    });
  });

  it("has a subject of 998 characters and a body of 1 MiB, counted in bytes, at most", async () => {
    await insertMail(db, "tenantA", { subject: "é".repeat(998), body: "x".repeat(KIB * KIB) });
    await insertMail(db, "tenantA", { body: "é".repeat((KIB * KIB) / 2) });
    expect((await refusal(insertMail(db, "tenantA", { body: `${"é".repeat((KIB * KIB) / 2)}x` }))).code).toBe("OP005");
  });

  it("has metadata of 256 KiB at most, as a recipient of a broadcast of 32", async () => {
    const [broadcast] = await db.as<{ id: string }>(
      "tenantA",
      "insert into ai_broadcasts (subject, body) values ('Hello', '<p>Hi</p>') returning id",
    );
    const recipient = (kib: number): Promise<unknown> =>
      db.as(
        "tenantA",
        "insert into ai_email_queue (broadcast_id, recipient, metadata) values ($1, 'ann@example.com', jsonb_build_object('note', repeat('x', $2 * 1024)))",
        [broadcast?.id, kib],
      );
    const alone = (kib: number): Promise<unknown> =>
      insertMail(db, "tenantA", { metadata: JSON.stringify({ note: "x".repeat(kib * KIB) }) });
    const shared = (kib: number): Promise<unknown> =>
      db.as(
        "tenantA",
        "update ai_broadcasts set metadata = jsonb_build_object('note', repeat('x', $2 * 1024)) where id = $1",
        [broadcast?.id, kib],
      );
    await Promise.all([recipient(31), alone(255), shared(255)]);
    expect(await refusal(recipient(32))).toMatchObject({
      code: "OP006",
      message: expect.stringMatching(/^metadata: has 327\d\d bytes, and at most 32768 \(32 KiB\) are allowed$/),
    });
    expect(await refusal(alone(256))).toMatchObject({ code: "OP006" });
    expect(await refusal(shared(256))).toMatchObject({ code: "OP006" });
    // Also a value that compresses well in the table that it is read from.
    const id = await insertMail(db, "tenantA");
    await db.query("create table packed as select jsonb_build_object('note', repeat('x', 300 * 1024)) as metadata");
    await db.query("grant select on packed to public");
    expect(
      await refusal(
        db.as("tenantA", "update ai_email_queue set metadata = p.metadata from packed as p where id = $1", [id]),
      ),
    ).toMatchObject({ code: "OP006" });
  });

  it("has metadata that is an object, or none", async () => {
    for (const metadata of [null, "null", "{}"]) {
      expect(await mail(db, await insertMail(db, "tenantA", { metadata }))).toMatchObject({ metadata: {} });
    }
  });
});

describe("brainops_internal.is_email_address", () => {
  const label = (length: number): string => "x".repeat(length);
  const addresses: readonly (readonly [address: string, isOne: boolean])[] = [
    ["ann@example.com", true],
    ["Ann.O'Neil+news@Sub.Example.COM", true],
    ["!#$%&'*+/=?^_`{|}~-@example.com", true],
    ["ann@a.bc", true],
    ["ann@a.b-", true],
    ["ann@a.b", false],
    ["ann@-a.com", false],
    ["ann@a-.com", false],
    ["ann@a..com", false],
    ["ann@b@example.com", false],
    ["a@b.c_d", false],
    ["jörg@example.com", false],
    ["ann@exämple.com", false],
    ["Ann <ann@example.com>", false],
    ["ann@example.com, bob@example.com", false],
    [`${label(64)}@example.com`, true],
    [`${label(65)}@example.com`, false],
    [`ann@${label(63)}.com`, true],
    [`ann@${label(64)}.com`, false],
    [`ann@a.${label(63)}`, true],
    [`ann@a.${label(64)}`, false],
    [`${label(64)}@${label(63)}.${label(63)}.${label(57)}.com`, true],
    [`${label(64)}@${label(63)}.${label(63)}.${label(58)}.com`, false],
  ];

  it.each(addresses)("of %j is %s, and the queue does the same", async (address, isOne) => {
    const [row] = await db.query<{ is_one: boolean }>("select brainops_internal.is_email_address($1) as is_one", [
      address,
    ]);
    const inserted = await insertMail(db, "tenantA", { recipient: address }).then(() => null, codeOf);
    expect({ isOne: row?.is_one, inserted }).toEqual({ isOne, inserted: isOne ? null : "OP004" });
  });

  it("is false for null and for white space around an address, which the queue trims", async () => {
    const [row] = await db.query<{ answers: boolean[] }>(
      "select array_agg(brainops_internal.is_email_address(a) order by n) as answers from unnest($1::text[]) with ordinality as u (a, n)",
      [[null, "", " ann@example.com", "ann@example.com\n"]],
    );
    expect(row?.answers).toEqual([false, false, false, false]);
  });

  it("is stricter than what makes two leads one person: a lead may have any address", async () => {
    for (const email of ["one@b.c_d", "jörg@exämple.de"]) {
      const insert = "insert into revenue_leads (email) values ($1) returning id";
      const [first] = await db.as<{ id: string }>("tenantA", insert, [email]);
      const [second] = await db.as<{ id: string }>("tenantA", insert, [email.toUpperCase()]);
      expect(
        await db.query(
          `select l.id, l.email_key, brainops_internal.is_email_address(l.email) as can_be_sent_to
           from revenue_lead_aliases as a inner join revenue_leads as l on l.id = a.lead_id where a.id = $1`,
          [second?.id],
        ),
      ).toEqual([{ id: first?.id, email_key: email, can_be_sent_to: false }]);
    }
  });
});

describe("a mail that can never be sent is refused, with the reason", () => {
  const long = `${"a".repeat(250)}@example.com`;
  const cases: readonly (readonly [column: string, value: unknown, code: string, says: string])[] = [
    ["recipient", null, "OP004", "is empty"],
    ["recipient", " ", "OP004", "is empty"],
    ["recipient", "nobody", "OP004", "'nobody'"],
    ["recipient", "Ann <ann@example.com>", "OP004", "'Ann <ann@example.com>'"],
    ["recipient", "ann@example.com, bob@example.com", "OP004", "bob@example.com"],
    ["recipient", "ann@example.com\nbcc: bob@example.com", "OP004", "bcc"],
    ["recipient", "ann@bücher.example", "OP004", "bücher"],
    ["recipient", "ann@localhost", "OP004", "'ann@localhost'"],
    ["recipient", "ann@-example.com", "OP004", "-example"],
    ["recipient", long, "OP004", "aaaa"],
    ["recipient", "00000000-0000-4000-8000-000000000000", "OP004", "00000000-0000-4000-8000-000000000000"],
    ["subject", null, "OP005", "is empty"],
    ["subject", "  ", "OP005", "is empty"],
    ["subject", "x".repeat(999), "OP005", "999"],
    ["subject", "Hello\r\nBcc: bob@example.com", "OP005", "control character"],
    ["subject", "Hello\u007f", "OP005", "control character"],
    ["body", null, "OP005", "is empty"],
    ["body", "", "OP005", "is empty"],
    ["body", "x".repeat(KIB * KIB + 1), "OP005", "1048577"],
    ["metadata", "[]", "OP006", "'[]'"],
    ["metadata", '"text"', "OP006", "text"],
    ["metadata", "7", "OP006", "'7'"],
    ["metadata", "true", "OP006", "'true'"],
  ];
  it.each(cases)("%s %j", async (column, value, code, says) => {
    const refused = await refusal(insertMail(db, "tenantA", { [column]: value }));
    expect(refused).toMatchObject({ code, column });
    expect(refused.message).toMatch(new RegExp(`^${column}: `));
    expect(refused.message).toContain(says);
    expect(refused.message.length).toBeLessThan(300);
    expect(refused.hint).toBeTruthy();
    // The same for an update.
    const id = await insertMail(db, "tenantA");
    const update = db.as("tenantA", `update ai_email_queue set ${column} = $2 where id = $1`, [id, value]);
    expect(await refusal(update)).toMatchObject({ code, column });
  });

  it.each([
    ["subject", "a\u0000b", "22021"],
    ["body", "a\u0000b", "22021"],
    ["metadata", '{"a": "\\u0000"}', "22P05"],
    ["metadata", '{"a": "\\ud800"}', "22P02"],
    ["metadata", "{", "22P02"],
    ["scheduled_for", "infinity", "23514"],
    ["scheduled_for", "-infinity", "23514"],
    ["max_attempts", 26, "23514"],
    ["max_attempts", 0, "23514"],
  ])("%s %j, by Postgres itself", async (column, value, code) => {
    expect((await refusal(insertMail(db, "tenantA", { [column]: value }))).code).toBe(code);
  });
});
