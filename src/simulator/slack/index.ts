// A simulator of Slack's incoming webhooks: what they check, what they answer, and how they fail.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text as readAll } from "node:stream/consumers";

export interface SlackFault {
  /** 404 no_service, 403 action_prohibited, 410 channel_is_archived, 429 or a 5xx. */
  readonly status: number;
  readonly body: string;
  /** The header Retry-After, for 429. */
  readonly retryAfterSeconds?: number;
  /** @default 1 */
  readonly times?: number;
}

export interface SlackSimulator extends AsyncDisposable {
  /** Its origin, for SLACK_BASE_URL. */
  readonly url: string;
  /** The webhook as Slack would show it, for a tenant's credential; with SLACK_BASE_URL, posts to it arrive here. */
  readonly webhookUrl: string;
  /** Texts that arrived, in order. */
  readonly messages: readonly string[];
  /** Answers the next valid requests with this error. */
  fail(fault: SlackFault): void;
  close(): Promise<void>;
}

const PATH = "/services/T00000000/B00000000/simulated";
// Slack truncates longer texts; ours must be shorter.
const MAX_CHARACTERS = 40_000;

/** Starts the simulator on a free port of the loopback interface. */
export async function startSlackSimulator(): Promise<SlackSimulator> {
  const messages: string[] = [];
  const faults: SlackFault[] = [];
  const server = createServer((request, response) => {
    void answer(request, response).catch(() => response.destroy());
  });
  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readAll(request);
    const reply = (status: number, content: string, headers: Record<string, string> = {}): void =>
      void response.writeHead(status, { "content-type": "text/html", ...headers }).end(content);
    if (request.url !== PATH) return reply(404, "no_service");
    if (request.method !== "POST") return reply(400, "invalid_payload");
    const text = textOf(body);
    if (text === null) return reply(400, "invalid_payload");
    if (text === "" || text.length > MAX_CHARACTERS) return reply(400, "no_text");
    const fault = faults.shift();
    if (fault !== undefined) {
      const { status, retryAfterSeconds } = fault;
      const headers = retryAfterSeconds === undefined ? {} : { "retry-after": String(retryAfterSeconds) };
      return reply(status, fault.body, headers);
    }
    messages.push(text);
    reply(200, "ok");
  }
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  return {
    url: `http://127.0.0.1:${port}`,
    webhookUrl: `https://hooks.slack.com${PATH}`,
    messages,
    fail: (fault) => void faults.push(...Array.from({ length: fault.times ?? 1 }, () => fault)),
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** The payload's text; null for a payload that Slack does not accept. */
function textOf(body: string): string | null {
  try {
    const payload: unknown = JSON.parse(body);
    const isObject = typeof payload === "object" && payload !== null && "text" in payload;
    return isObject && typeof payload.text === "string" ? payload.text : null;
  } catch {
    return null;
  }
}
