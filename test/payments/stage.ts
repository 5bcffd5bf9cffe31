// Everything that a payment involves: a database, the Stripe simulator, a worker, and a server that
// receives the simulator's events.
import { randomBytes } from "node:crypto";
import { startHttpServer, type HttpServer } from "../../src/http/server.ts";
import { startWorker, type Worker } from "../../src/jobs/worker.ts";
import { startStripeSimulator, type StripeSimulator } from "../../src/simulator/stripe/index.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { log, testConfig } from "../support/worker.ts";
import { insertRow, type Json } from "./support.ts";

export interface Stage {
  readonly db: TestDatabase;
  readonly stripe: StripeSimulator;
  readonly server: HttpServer;
  readonly environment: Readonly<Record<string, string>>;
  /** Inserts a request for a new lead; returns its id. */
  request(row?: Json, seat?: "tenantA" | "tenantB"): Promise<string>;
  /** Resolves to the URL of the request's link when it exists. */
  linkOf(id: string): Promise<string>;
  /** Delivers Stripe's outstanding events, and waits until all are applied. */
  deliverEvents(): Promise<void>;
  startWorker(environment?: Readonly<Record<string, string>>): Promise<Worker>;
  close(): Promise<void>;
}

export async function createStage(): Promise<Stage> {
  const [db, stripe] = await Promise.all([createTestDatabase(), startStripeSimulator()]);
  const environment = {
    STRIPE_SECRET_KEY: stripe.secretKey,
    STRIPE_BASE_URL: stripe.url,
    STRIPE_WEBHOOK_SECRET: stripe.webhookSecret,
    BRAINOPS_SECRET_KEY: randomBytes(32).toString("base64"),
  };
  const server = await startHttpServer({
    config: testConfig(null, { PORT: "0", ...environment }),
    log,
    connectionString: db.urlOf("worker"),
  });
  stripe.setWebhook(`${server.url}/webhooks/stripe`);
  await insertRow(db, "admin", "plans", { code: "starter", name: "Starter & more", amount: "12.50" });
  await insertRow(db, "admin", "plans", { code: "yen", name: "Yen", amount: "9900", currency: "jpy" });
  await insertRow(db, "admin", "plans", { code: "care", name: "Care", amount: "49.90", interval: "month" });
  let people = 0;

  return {
    db,
    stripe,
    server,
    environment,
    request: async (row = {}, seat = "tenantA") => {
      people += 1;
      const lead = await insertRow(db, seat, "revenue_leads", { email: `person${people}@x.example` });
      return insertRow(db, seat, "payment_requests", { lead_id: lead, plan_code: "starter", ...row });
    },
    linkOf: async (id) => {
      await db.until("select payment_url is not null from payment_requests where id = $1", [id]);
      const [row] = await db.query<{ payment_url: string }>("select payment_url from payment_requests where id = $1", [
        id,
      ]);
      return row?.payment_url ?? "";
    },
    deliverEvents: async () => {
      await stripe.flushEvents();
      await db.until("select not exists (select from webhook_events where status = 'pending')");
    },
    startWorker: (changed = environment) =>
      startWorker({
        connectionString: db.urlOf("worker"),
        config: testConfig(null, { ...changed }),
        log,
        concurrency: 20,
      }),
    close: async () => {
      await server.close();
      await stripe.close();
      await db.close();
    },
  };
}
