// The outside world of the demo: stand-ins for SendGrid, Twilio and Stripe on this machine.
import { createServer } from "node:net";
import { startSendgridSimulator, type SendgridSimulator } from "../simulator/sendgrid/index.ts";
import { startStripeSimulator, type StripeSimulator } from "../simulator/stripe/index.ts";
import { startTwilioSimulator, type TwilioSimulator } from "../simulator/twilio/index.ts";
import type { Cleanup } from "./cleanup.ts";

export interface StandIns {
  readonly sendgrid: SendgridSimulator;
  readonly twilio: TwilioSimulator;
  readonly stripe: StripeSimulator;
  /** What leads a worker and a server to them, and to nobody else. */
  readonly env: Readonly<Record<string, string>>;
  /** Tells them where webhooks go. */
  report(serverUrl: string): void;
  /** Posts what waits; how many events were taken. */
  flush(): Promise<number>;
}

export async function startStandIns(cleanup: Cleanup, now: () => number): Promise<StandIns> {
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
    report: (serverUrl) => {
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

/** The server has to know its own address before it listens: Twilio signs the whole of it. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port was to be had");
  return address.port;
}
