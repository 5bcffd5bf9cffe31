// An onboarding that advances over HTTP: what the tenant's server signs is an event of the lead, and completes
// a step that waits for it.
import { randomBytes } from "node:crypto";
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { HttpServer } from "../../src/http/server.ts";
import { saveForm } from "../../src/revenue/leads/forms.ts";
import { startTestServer } from "../http/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { course, win } from "./support.ts";

const secretKey = randomBytes(32);

let db: TestDatabase;
let server: HttpServer;

beforeAll(async () => {
  db = await createTestDatabase();
  server = await startTestServer(db, { BRAINOPS_SECRET_KEY: secretKey.toString("base64") });
});

afterAll(async () => {
  await server?.close();
  await db?.close();
});

describe("a step that waits for a form", () => {
  it("is completed by the customer's own submission, once; a forged one and another person's do nothing", async () => {
    await db.as(
      "tenantA",
      `insert into onboarding_templates (step_number, step_name, advance_on)
       values (1, 'data_collection', 'form_submitted'), (2, 'system_setup', null)`,
    );
    const admin = await db.connect("superuser");
    const form = { tenantId: db.tenantA, name: "papers", source: "website", renew: false };
    const { token, secret } = await saveForm(admin, { BRAINOPS_SECRET_KEY: secretKey }, form);
    const { workflow } = await win(db, "tenantA", { email: "rita@customer.example" });
    const submit = async (email: string, id: string, key = secret): Promise<number> => {
      const body = JSON.stringify({ email, roof_area: "120" });
      const at = new Date();
      const response = await fetch(`${server.url}/forms/${token}`, {
        method: "POST",
        body,
        headers: {
          "content-type": "application/json",
          "webhook-id": id,
          "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
          "webhook-signature": new Webhook(key).sign(id, at, body),
        },
      });
      return response.status;
    };
    const forged = `whsec_${randomBytes(32).toString("base64")}`;
    expect(await submit("rita@customer.example", "msg_1", forged)).toBe(401);
    expect(await submit("other@customer.example", "msg_2")).toBe(201);
    expect(await course(db, workflow)).toBe("1:in_progress 2:pending");
    expect(await submit("rita@customer.example", "msg_3")).toBeLessThan(300);
    expect(await submit("rita@customer.example", "msg_3")).toBe(200);
    expect(await course(db, workflow)).toBe("1:completed 2:in_progress");
  });
});
