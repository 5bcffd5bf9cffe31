// The real SDK as a client, and a receiver of webhooks that verifies signatures with the SDK.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import twilio from "twilio";
import type { TwilioSimulator } from "../../src/simulator/twilio/index.ts";

type Credentials = Pick<TwilioSimulator, "accountSid" | "authToken">;

export function createClient(
  simulator: TwilioSimulator,
  { accountSid, authToken }: Credentials = simulator,
  timeoutMs = 5000,
): twilio.Twilio {
  const client = twilio(accountSid, authToken, { timeout: timeoutMs });
  client.api.baseUrl = simulator.url;
  return client;
}

export interface Received {
  readonly path: string;
  readonly parameters: Record<string, string>;
  /** As verified by the SDK with the given token. */
  readonly isGenuine: boolean;
  readonly idempotencyToken: string;
}

export interface TwilioReceiver extends AsyncDisposable {
  readonly url: string;
  /** Every post, in order. */
  readonly posts: Received[];
  /** Statuses of the next responses; 204 if empty. */
  readonly answers: number[];
}

export async function createTwilioReceiver(authToken: string): Promise<TwilioReceiver> {
  const posts: Received[] = [];
  const answers: number[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const parameters = Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString()));
      const signature = String(request.headers["x-twilio-signature"]);
      posts.push({
        path: request.url ?? "",
        parameters,
        isGenuine: twilio.validateRequest(authToken, signature, `${url}${request.url}`, parameters),
        idempotencyToken: String(request.headers["i-twilio-idempotency-token"]),
      });
      response.writeHead(answers.shift() ?? 204).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    posts,
    answers,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}
