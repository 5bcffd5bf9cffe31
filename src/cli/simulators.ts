// The simulators of the demo and of `up --simulator`: SendGrid, Twilio and Stripe on this machine.
import { createServer } from "node:net";
import { startSendgridSimulator, type SendgridSimulator } from "../simulator/sendgrid/index.ts";
import { startStripeSimulator, type StripeSimulator } from "../simulator/stripe/index.ts";
import { startTwilioSimulator, type TwilioSimulator } from "../simulator/twilio/index.ts";
import type { Cleanup } from "./cleanup.ts";

export interface Simulators {
  readonly sendgrid: SendgridSimulator;
  readonly twilio: TwilioSimulator;
  readonly stripe: StripeSimulator;
  /** Environment variables that point every provider at its simulator. */
  readonly env: Readonly<Record<string, string>>;
  /** Sends their webhooks to this server. */
  setWebhooks(serverUrl: string): void;
  /** Posts all queued events. Returns how many were accepted. */
  flush(): Promise<number>;
}

/** Starts the simulators and registers their end with `cleanup`. `now` is their clock, in Unix milliseconds. */
export async function startSimulators(cleanup: Cleanup, now: () => number): Promise<Simulators> {
  const sendgrid = await startSendgridSimulator({ now });
  await cleanup.add(() => sendgrid.close());
  const twilio = await startTwilioSimulator({ now });
  await cleanup.add(() => twilio.close());
  const stripe = await startStripeSimulator({ now });
  await cleanup.add(() => stripe.close());
  return {
    sendgrid,
    twilio,
    stripe,
    env: {
      SENDGRID_API_KEY: "SG.simulator",
      SENDGRID_BASE_URL: sendgrid.url,
      SENDGRID_WEBHOOK_PUBLIC_KEY: sendgrid.publicKey,
      MAIL_FROM: "BrainOps demo <demo@brainops.example>",
      TWILIO_ACCOUNT_SID: twilio.accountSid,
      TWILIO_AUTH_TOKEN: twilio.authToken,
      TWILIO_FROM: twilio.from,
      TWILIO_BASE_URL: twilio.url,
      STRIPE_SECRET_KEY: stripe.secretKey,
      STRIPE_WEBHOOK_SECRET: stripe.webhookSecret,
      STRIPE_BASE_URL: stripe.url,
    },
    setWebhooks: (serverUrl) => {
      sendgrid.setWebhook(`${serverUrl}/webhooks/sendgrid`);
      twilio.setWebhook(`${serverUrl}/webhooks/twilio/inbound`);
      stripe.setWebhook(`${serverUrl}/webhooks/stripe`);
    },
    flush: async () => {
      const reports = [await sendgrid.flushEvents(), await twilio.flushEvents(), await stripe.flushEvents()];
      return reports.reduce((sum, { delivered }) => sum + delivered, 0);
    },
  };
}

/** A free TCP port. The HTTP server must know its URL before it listens, because Twilio signs the whole URL. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("could not find a free port");
  return address.port;
}
