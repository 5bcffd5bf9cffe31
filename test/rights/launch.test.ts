// What marketing requires is checked at its launch, all at once, and not when the first mail is due.
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";
import { startTestServer } from "../http/support.ts";
import { startTestWorker, testConfig } from "../support/worker.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});

afterAll(() => db.close());

async function problems(channel = "email"): Promise<string[]> {
  const rows = await db.as<{ problem: string }>(
    "tenantA",
    "select p as problem from brainops.launch_problems($1, $2) as p",
    [db.tenantA, channel],
  );
  return rows.map((row) => row.problem.split(":")[0] ?? "");
}

describe("marketing", () => {
  it("is refused with everything that is missing, each with its remedy", async () => {
    expect(await problems()).toEqual(["settings.postal_address is missing", "PUBLIC_URL is missing"]);
    const refused = await refusal(db.as("admin", "select brainops_internal.refuse_launch($1, 'email')", [db.tenantA]));
    expect(refused).toMatchObject({ code: "OP031" });
    expect(refused.message).toMatch(/postal_address.*; PUBLIC_URL/);
  });

  it("may launch once the postal address is set and a server has announced its URL", async () => {
    await db.query(`update tenants set settings = '{"postal_address": "1 Main St"}' where id = $1`, [db.tenantA]);
    expect(await problems()).toEqual(["PUBLIC_URL is missing"]);
    const server = await startTestServer(db, { PUBLIC_URL: "https://ops.example" });
    await db.until("select public_url = 'https://ops.example' from brainops.installation");
    await server.close();
    expect(await problems()).toEqual([]);
    await db.as("admin", "select brainops_internal.refuse_launch($1, 'email')", [db.tenantA]);
  });

  it("takes a new URL from a worker too, and keeps it when a worker without one starts", async () => {
    for (const PUBLIC_URL of ["https://new.example", undefined]) {
      const config = PUBLIC_URL === undefined ? { ...testConfig(null), PUBLIC_URL } : testConfig(null, { PUBLIC_URL });
      const worker = await startTestWorker(db, null, { config: config as ReturnType<typeof testConfig> });
      await worker.stop();
    }
    expect(await db.query("select public_url from brainops.installation")).toEqual([
      { public_url: "https://new.example" },
    ]);
  });

  it.skipIf(!isServer)(
    "needs a provider account: that of a worker, or the tenant's own (needs server processes)",
    async () => {
      const holder = await db.connect("worker");
      const [row] = await db.query<{ number: number }>(
        "insert into brainops.worker_processes (id, host, pid, tasks) values ($1, 'h', 1, '{maintenance__sweep}') returning number",
        [randomUUID()],
      );
      const { rows } = await holder.query<{ pid: number }>(
        "select pg_backend_pid() as pid, pg_advisory_lock(brainops_internal.liveness_class(), $1)",
        [row?.number],
      );
      await db.query("update brainops.worker_processes set backend_pid = $2 where number = $1", [
        row?.number,
        rows[0]?.pid,
      ]);
      const [alive] = await db.query("select brainops_internal.worker_is_alive($1, $2) as alive", [
        row?.number,
        rows[0]?.pid,
      ]);
      expect(alive).toEqual({ alive: true });
      expect(await problems()).toEqual(["a SendGrid account is missing"]);
      expect(await problems("sms")).toEqual(["a Twilio account is missing"]);
      await db.query(
        "insert into tenant_keys (tenant_id, wrapped_key, secret_key_id) values ($1, '\\x00', '0123456789abcdef')",
        [db.tenantA],
      );
      await db.query(
        "insert into provider_credentials (tenant_id, provider, sealed) values ($1, 'sendgrid', '\\x00')",
        [db.tenantA],
      );
      expect(await problems()).toEqual([]);
      expect(await problems("sms")).toEqual(["a Twilio account is missing"]);
      await holder.end();
    },
  );

  it("can be checked by its own tenant only, for a known channel", async () => {
    const ask = "select brainops.launch_problems($1, $2)";
    expect((await refusal(db.as("tenantA", ask, [db.tenantB, "email"]))).code).toBe("42501");
    expect((await refusal(db.as("anonymous", ask, [db.tenantA, "email"]))).code).toBe("42501");
    expect((await refusal(db.as("tenantA", ask, [db.tenantA, "fax"]))).code).toBe("OP007");
    expect(await db.as("service", ask, [db.tenantB, "email"])).not.toEqual([]);
  });

  it("of a broadcast is refused at its launch, and accepted as a draft", async () => {
    await db.as("tenantB", "insert into ai_broadcasts (subject, body) values ('News', '<p>News</p>')");
    const launch = "update ai_broadcasts set status = 'active'";
    expect((await refusal(db.as("tenantB", launch))).code).toBe("OP031");
    expect(
      (
        await refusal(
          db.as(
            "tenantB",
            "insert into ai_broadcasts (subject, body, status) values ('News', '<p>News</p>', 'active')",
          ),
        )
      ).code,
    ).toBe("OP031");
  });
});
