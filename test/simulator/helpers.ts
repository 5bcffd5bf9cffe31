// The real SDK as a client, and a receiver of the event webhook that verifies signatures.
import { createPublicKey, verify } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import sharedClient from "@sendgrid/client";
import sharedMail from "@sendgrid/mail";
import type { SendgridEvent, SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";

// The SDK's types know only its process-wide singletons; the classes are properties of them.
const { Client } = sharedClient as typeof sharedClient & { Client: new () => typeof sharedClient };
const { MailService } = sharedMail as typeof sharedMail & { MailService: new () => typeof sharedMail };

/** The SDK against the simulator. The base URL goes in after the key, because setApiKey puts it back. */
export function createMailer(simulator: SendgridSimulator, key = "SG.simulator", timeoutMs = 5000): typeof sharedMail {
  const client = new Client();
  client.setApiKey(key);
  client.setDefaultRequest("baseUrl", `${simulator.url}/`);
  const mailer = new MailService();
  mailer.setClient(client);
  mailer.setTimeout(timeoutMs);
  return mailer;
}

export interface Answer {
  status: number;
  headers: Headers;
  errors: { message: string; field: string | null; help: string | null }[];
}

/** A bare POST /v3/mail/send, for bodies that the SDK would not build. */
export async function post(simulator: SendgridSimulator, body: unknown, headers: object = {}): Promise<Answer> {
  const response = await fetch(`${simulator.url}/v3/mail/send`, {
    method: "POST",
    body: typeof body === "string" ? body : JSON.stringify(body),
    headers: { Authorization: "Bearer SG.simulator", "Content-Type": "application/json", ...headers },
  });
  const text = await response.text();
  const errors = text === "" ? [] : (JSON.parse(text) as Pick<Answer, "errors">).errors;
  return { status: response.status, headers: response.headers, errors };
}

/** A valid request body for one recipient. */
export function createBody(to = "ann@example.com", changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    personalizations: [{ to: [{ email: to }], custom_args: { bo_msg: `row-of-${to}` } }],
    from: { email: "shop@example.com", name: "Shop" },
    subject: "Hello",
    content: [{ type: "text/plain", value: "Hello" }],
    ...changes,
  };
}

export interface Receiver extends AsyncDisposable {
  url: string;
  /** Every POST, in order: the parsed body and whether its signature is valid. */
  posts: { events: SendgridEvent[]; raw: Buffer; signature: string; verified: boolean; timestamp: number }[];
  /** Responses to the next POSTs; 204 if empty. */
  answers: { status: number; headers?: Record<string, string> }[];
}

export async function createReceiver(publicKey: string): Promise<Receiver> {
  const posts: Receiver["posts"] = [];
  const answers: Receiver["answers"] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const raw = Buffer.concat(chunks);
      const timestamp = String(request.headers["x-twilio-email-event-webhook-timestamp"]);
      const signature = String(request.headers["x-twilio-email-event-webhook-signature"]);
      const verified = verifySignature(publicKey, timestamp, raw, signature);
      posts.push({
        events: JSON.parse(raw.toString()) as SendgridEvent[],
        raw,
        signature,
        verified,
        timestamp: Number(timestamp),
      });
      const answer = answers.shift() ?? { status: 204 };
      response.writeHead(answer.status, answer.headers).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/webhooks/sendgrid`,
    posts,
    answers,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** Verifies as receivers must: over timestamp and raw body, ECDSA P-256 with SHA-256. */
export function verifySignature(publicKey: string, timestamp: string, raw: Buffer, signature: string): boolean {
  const key = createPublicKey({ key: Buffer.from(publicKey, "base64"), format: "der", type: "spki" });
  return verify("sha256", Buffer.concat([Buffer.from(timestamp), raw]), key, Buffer.from(signature, "base64"));
}
