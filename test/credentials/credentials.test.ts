// Tenants' own credentials: sealed at rest, opened for their own tenant only, invisible to others.
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { newTenantKey, rewrapTenantKey, seal, secretKeyId, unseal } from "../../src/revenue/credentials/envelope.ts";
import {
  beginNewKey,
  findEndpoint,
  openCredential,
  rekey,
  saveCredential,
  type SealedCredential,
} from "../../src/revenue/credentials/store.ts";
import { limits } from "../../src/db/limits.ts";
import { createPool } from "../../src/db/pool.ts";
import { brainops } from "../cli/run.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { onServer } from "../support/sql.ts";

const config = { BRAINOPS_SECRET_KEY: randomBytes(32) };
const stripe = { secret_key: "sk_test_invented_for_tests_1234", webhook_secret: "whsec_invented" };

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.close());

const save = (tenantId: string, credential: unknown = stripe): Promise<string> =>
  onServer(db.url, (client) => saveCredential(client, config, { tenantId, provider: "stripe" }, credential));

async function sealedOf(tenantId: string): Promise<SealedCredential | null> {
  const [row] = await db.query<{ sealed: SealedCredential | null }>(
    "select sealed from brainops_internal.tenant_account($1, 'stripe')",
    [tenantId],
  );
  return row?.sealed ?? null;
}

describe("the envelope", () => {
  const key = randomBytes(32);
  const of = { tenantId: "a", provider: "stripe", name: "default" };

  it("opens what it sealed, with any content", () => {
    const wrapped = newTenantKey(key, "a");
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.string({ unit: "binary" })), (credential) => {
        const plain = JSON.parse(JSON.stringify(credential)) as unknown;
        expect(unseal(key, wrapped, of, seal(key, wrapped, of, credential))).toEqual(plain);
      }),
    );
  });

  it("opens nothing with any bit changed", () => {
    const wrapped = newTenantKey(key, "a");
    const sealed = seal(key, wrapped, of, stripe);
    fc.assert(
      fc.property(fc.nat(sealed.length * 8 - 1), (bit) => {
        const changed = Buffer.from(sealed);
        changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        expect(() => unseal(key, wrapped, of, changed)).toThrow(expect.objectContaining({ code: "OP036" }));
      }),
    );
  });

  it.for([
    ["another tenant's row", { ...of, tenantId: "b" }],
    ["another provider's row", { ...of, provider: "twilio" }],
    ["a row of another name", { ...of, name: "other" }],
  ] as const)("does not open when moved to %s", ([, place]) => {
    const wrapped = newTenantKey(key, "a");
    expect(() => unseal(key, wrapped, place, seal(key, wrapped, of, stripe))).toThrow(/moved/);
  });

  it("never gives the same ciphertext twice, and can be rewrapped with another key", () => {
    const wrapped = newTenantKey(key, "a");
    const sealed = seal(key, wrapped, of, stripe);
    expect(seal(key, wrapped, of, stripe)).not.toEqual(sealed);
    const other = randomBytes(32);
    const again = rewrapTenantKey(key, other, "a", wrapped);
    expect(unseal(other, again, of, sealed)).toEqual(stripe);
    expect(() => unseal(key, again, of, sealed)).toThrow(expect.objectContaining({ code: "OP036" }));
  });
});

describe("a saved credential", () => {
  it("opens for its tenant, and nothing of it is readable in the database", async () => {
    await save(db.tenantA);
    const sealed = await sealedOf(db.tenantA);
    expect(sealed === null ? null : openCredential("stripe", sealed, config)).toEqual(stripe);
    expect(await sealedOf(db.tenantB)).toBeNull();
    const [row] = await db.query<{ row: string }>("select to_jsonb(c)::text as row from provider_credentials as c");
    expect(row?.row).not.toContain("invented");
    expect(row?.row).toContain("…1234");
  });

  it("is replaced by the next one, with the same endpoint", async () => {
    const token = await save(db.tenantA);
    expect(await save(db.tenantA, { secret_key: "sk_test_another_invented_9876" })).toBe(token);
    expect(await db.query("select hint from provider_credentials")).toEqual([{ hint: "…9876" }]);
  });

  it("is refused if a field is missing or unknown, without revealing its contents", async () => {
    const wrong = save(db.tenantA, { secretkey: "sk_test_very_secret_indeed" });
    await expect(wrong).rejects.toMatchObject({ code: "OP037" });
    await expect(wrong).rejects.toThrow(/secret_key/);
    await expect(wrong).rejects.not.toThrow(/very_secret/);
  });

  it("gives different errors for a wrong and a missing BRAINOPS_SECRET_KEY", async () => {
    await save(db.tenantA);
    const sealed = await sealedOf(db.tenantA);
    if (sealed === null) throw new Error("no credential");
    const open = (key?: Buffer) => () => openCredential("stripe", sealed, { BRAINOPS_SECRET_KEY: key });
    expect(open(randomBytes(32))).toThrow(expect.objectContaining({ code: "OP036" }));
    expect(open()).toThrow(expect.objectContaining({ code: "OP035" }));
  });

  it("is found by its endpoint's whole token only, and for its own provider only", async () => {
    const token = await save(db.tenantA);
    const pool = createPool({
      connectionString: db.urlOf("worker"),
      applicationName: "test",
      max: 1,
      limits: limits.start,
    });
    try {
      expect(await findEndpoint(pool, "stripe", token)).toMatchObject({ tenant_id: db.tenantA, active: true });
      expect(await findEndpoint(pool, "twilio", token)).toBeNull();
      expect(await findEndpoint(pool, "stripe", token.slice(1))).toBeNull();
      expect(await findEndpoint(pool, "stripe", "' or true --")).toBeNull();
    } finally {
      await pool.end();
    }
  });

  it("is visible to its own tenant only, and its secret to no tenant", async () => {
    await save(db.tenantA);
    expect(await db.as("tenantA", "select provider, hint from provider_credentials")).toHaveLength(1);
    expect(await db.as("tenantB", "select provider, hint from provider_credentials")).toEqual([]);
    for (const secret of ["select sealed from provider_credentials", "select wrapped_key from tenant_keys"]) {
      await expect(db.as("tenantA", secret)).rejects.toMatchObject({ code: "42501" });
      await expect(db.as("service", secret)).rejects.toMatchObject({ code: "42501" });
    }
    const forged = "insert into provider_credentials (provider, sealed) values ('stripe', '\\x00')";
    await expect(db.as("tenantA", forged)).rejects.toMatchObject({ code: "42501" });
    for (const seat of ["tenantA", "service"] as const) {
      await expect(db.as(seat, "delete from provider_credentials")).rejects.toMatchObject({ code: "42501" });
    }
    await db.as("tenantA", "update provider_credentials set active = false");
    expect(await sealedOf(db.tenantA)).toBeNull();
  });

  it("survives a change of BRAINOPS_SECRET_KEY", async () => {
    await save(db.tenantA);
    const next = randomBytes(32);
    expect(await onServer(db.url, (client) => rekey(client, config.BRAINOPS_SECRET_KEY, next))).toEqual({
      count: 1,
      left: [],
    });
    const sealed = await sealedOf(db.tenantA);
    if (sealed === null) throw new Error("no credential");
    expect(openCredential("stripe", sealed, { BRAINOPS_SECRET_KEY: next })).toEqual(stripe);
    await onServer(db.url, (client) => rekey(client, next, config.BRAINOPS_SECRET_KEY));
  });
});

describe("a tenant's key whose BRAINOPS_SECRET_KEY was lost", () => {
  const lost = { BRAINOPS_SECRET_KEY: randomBytes(32) };
  const slack = { webhook_url: "https://hooks.slack.com/services/T/B/x" };
  const write = (
    provider: "stripe" | "slack" | "form",
    credential: object,
    name = "default",
    secretKey: typeof config = config,
  ): Promise<string> =>
    onServer(db.url, (client) =>
      saveCredential(client, secretKey, { tenantId: db.tenantA, provider, name }, credential),
    );
  const stored = () =>
    db.query("select provider, name from provider_credentials where tenant_id = $1 order by 1, 2", [db.tenantA]);
  beforeEach(async () => {
    await db.query("delete from provider_credentials");
    await db.query("delete from tenant_keys");
  });
  afterAll(async () => {
    await db.query("delete from provider_credentials");
    await db.query("delete from tenant_keys");
  });

  it("is replaced when nothing is sealed with it any more", async () => {
    await write("stripe", stripe, "default", lost);
    await db.query("delete from provider_credentials");
    await write("slack", slack);
    await write("stripe", stripe);
    const sealed = await sealedOf(db.tenantA);
    expect(sealed === null ? null : openCredential("stripe", sealed, config)).toEqual(stripe);
  });

  it("is replaced when the credential that it seals is saved again, with the same endpoint", async () => {
    const token = await write("stripe", stripe, "default", lost);
    expect(await write("stripe", stripe)).toBe(token);
    const sealed = await sealedOf(db.tenantA);
    expect(sealed === null ? null : openCredential("stripe", sealed, config)).toEqual(stripe);
  });

  it("is kept if other credentials are sealed with it, and the error lists them", async () => {
    await write("stripe", stripe, "default", lost);
    await write("form", { secret: "whsec_invented" }, "contact", lost);
    const refused = write("slack", slack);
    await expect(refused).rejects.toMatchObject({ code: "OP036", hint: expect.stringContaining("--new-key") });
    await expect(refused).rejects.toThrow(/seals form contact, stripe/);
    const sealed = await sealedOf(db.tenantA);
    expect(sealed === null ? null : openCredential("stripe", sealed, lost)).toEqual(stripe);
  });

  it("is deleted with all that it seals if a new one is requested; one that opens deletes nothing", async () => {
    const token = await write("stripe", stripe, "default", lost);
    await write("slack", slack, "default", lost);
    await write("form", { secret: "whsec_invented" }, "contact", lost);
    const begin = () =>
      onServer(db.url, (client) => beginNewKey(client, config, { tenantId: db.tenantA, provider: "stripe" }));
    expect(await begin()).toEqual(["form contact", "slack"]);
    expect(await write("stripe", stripe)).toBe(token);
    await write("slack", slack);
    expect(await begin()).toEqual([]);
    expect(await stored()).toEqual([
      { provider: "slack", name: "default" },
      { provider: "stripe", name: "default" },
    ]);
  });

  it("that is damaged is replaced as well", async () => {
    await write("stripe", stripe);
    await db.query("update tenant_keys set wrapped_key = '\\x00'");
    await write("stripe", stripe);
    const sealed = await sealedOf(db.tenantA);
    expect(sealed === null ? null : openCredential("stripe", sealed, config)).toEqual(stripe);
  });
});

describe("brainops tenant credential", () => {
  const env = (): Record<string, string> => ({
    DATABASE_URL: db.url,
    PUBLIC_URL: "https://ops.example",
    BRAINOPS_SECRET_KEY: config.BRAINOPS_SECRET_KEY.toString("base64"),
  });
  const run = (args: readonly string[], stdin = "") => brainops(["tenant", "credential", ...args], env(), stdin);

  it("reads the secret from stdin, prints the webhook URL, lists and removes", async () => {
    const set = await run(["set", "tenant-b", "stripe"], JSON.stringify(stripe));
    expect(set.code).toBe(0);
    expect(set.stdout).toMatch(/^webhook +https:\/\/ops\.example\/webhooks\/stripe\/[0-9a-f]{64}$/m);
    const sealed = await sealedOf(db.tenantB);
    expect(sealed === null ? null : openCredential("stripe", sealed, config)).toEqual(stripe);
    const listed = await run(["list", "tenant-b"]);
    expect(listed.stdout).toMatch(/^stripe +default +…1234 +active/m);
    expect((await run(["remove", "tenant-b", "stripe"])).code).toBe(0);
    expect(await sealedOf(db.tenantB)).toBeNull();
    expect((await run(["remove", "tenant-b", "stripe"])).code).toBe(1);
  });

  it("keeps a removed credential with its id and endpoint until it is erased", async () => {
    const kept = () =>
      db.query("select id, endpoint_token, active from provider_credentials where tenant_id = $1", [db.tenantB]);
    await db.query("delete from provider_credentials where tenant_id = $1", [db.tenantB]);
    await save(db.tenantB);
    const [before] = await kept();
    const removed = await run(["remove", "tenant-b", "stripe"]);
    expect(removed.stdout).toContain("brainops tenant credential remove tenant-b stripe --erase");
    expect(await kept()).toEqual([{ ...before, active: false }]);
    await save(db.tenantB);
    expect(await kept()).toEqual([before]);
    expect((await run(["remove", "tenant-b", "stripe", "--erase"])).code).toBe(0);
    expect(await kept()).toEqual([]);
  });

  it("erases a Slack credential at once, because Slack sends no webhooks", async () => {
    await onServer(db.url, (client) =>
      saveCredential(
        client,
        config,
        { tenantId: db.tenantB, provider: "slack" },
        { webhook_url: "https://hooks.slack.com/services/T/B/y" },
      ),
    );
    expect((await run(["remove", "tenant-b", "slack"])).stdout).not.toContain("--erase");
    expect(await db.query("select from provider_credentials where provider = 'slack'")).toEqual([]);
  });

  it("changes to another key, and exits with 1 if a tenant's key was made with neither", async () => {
    const [former, wrong] = [randomBytes(32), randomBytes(32)];
    await db.query("delete from provider_credentials; delete from tenant_keys");
    await onServer(db.url, (client) =>
      saveCredential(
        client,
        { BRAINOPS_SECRET_KEY: former },
        { tenantId: db.tenantB, provider: "slack" },
        { webhook_url: "https://hooks.slack.com/services/T/B/y" },
      ),
    );
    const refused = await run(["rekey"], wrong.toString("base64"));
    expect(refused.code).toBe(1);
    for (const id of [wrong, config.BRAINOPS_SECRET_KEY].map(secretKeyId)) expect(refused.stderr).toContain(id);
    expect(refused.stderr).toContain(`tenant-b (${secretKeyId(former)})`);
    for (const stdout of [/^1 tenant/, /^0 tenant/]) {
      expect(await run(["rekey"], former.toString("base64"))).toMatchObject({
        code: 0,
        stdout: expect.stringMatching(stdout),
      });
    }
  });

  it("starts with a new key on --new-key, and lists what it deletes", async () => {
    await db.query("delete from provider_credentials; delete from tenant_keys");
    const lost = { BRAINOPS_SECRET_KEY: randomBytes(32) };
    await onServer(db.url, async (client) => {
      await saveCredential(client, lost, { tenantId: db.tenantB, provider: "stripe" }, stripe);
      await saveCredential(
        client,
        lost,
        { tenantId: db.tenantB, provider: "form", name: "contact" },
        { secret: "whsec_x" },
      );
    });
    const refused = await run(["set", "tenant-b", "stripe"], JSON.stringify(stripe));
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("--new-key");
    const set = await run(["set", "tenant-b", "stripe", "--new-key"], JSON.stringify(stripe));
    expect(set.code).toBe(0);
    expect(set.stdout).toMatch(/^deleted +form contact: /m);
    const sealed = await sealedOf(db.tenantB);
    expect(sealed === null ? null : openCredential("stripe", sealed, config)).toEqual(stripe);
  });

  it("refuses invalid input with a message, and never prints the input", async () => {
    for (const [args, stdin, text] of [
      [["set", "tenant-b", "paypal"], "{}", "sendgrid, twilio, stripe, slack"],
      [["set", "nobody", "stripe"], JSON.stringify(stripe), "nobody"],
      [["set", "tenant-b", "stripe"], "sk_test_invented", "expected a JSON object"],
      [["set", "tenant-b", "twilio"], '{"account_sid": "AC1", "auth_token": "invented"}', "32 hexadecimal digits"],
    ] as const) {
      const { code, stderr } = await run(args, stdin);
      expect(code).toBe(1);
      expect(stderr).toContain(text);
      expect(stderr).not.toContain("invented");
    }
  });
});
