// The simulator's control endpoints, for other processes. README.md lists them; loopback only, no key.
import type { IncomingMessage, ServerResponse } from "node:http";
import { z } from "zod";
import { parse, readBody } from "../sendgrid/server.ts";
import type { TwilioSimulator } from "./simulator.ts";

const moment = z.enum(["before", "after"]).exactOptional();
const conditions = {
  times: z.int().positive().exactOptional(),
  probability: z.number().min(0).max(1).exactOptional(),
  recipient: z.string().min(1).exactOptional(),
  request: z.enum(["create", "list"]).exactOptional(),
};
const httpStatus = (min: number, max: number) => z.int().min(min).max(max).exactOptional();
const faultRule = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("rate_limited"),
    retryAfterSeconds: z.number().min(0).exactOptional(),
    ...conditions,
  }),
  z.strictObject({ kind: z.literal("server_error"), status: httpStatus(500, 599), moment, ...conditions }),
  z.strictObject({ kind: z.literal("reset"), moment, ...conditions }),
  z.strictObject({ kind: z.literal("slow"), delayMs: z.number().min(0), ...conditions }),
  z.strictObject({ kind: z.literal("unauthorized"), ...conditions }),
  z.strictObject({
    kind: z.literal("refused"),
    code: z.int().positive(),
    message: z.string(),
    status: httpStatus(400, 499),
    ...conditions,
  }),
]);
const faultRules = z.union([z.array(faultRule).min(1), faultRule.transform((rule) => [rule])]);

const webhook = z.strictObject({
  url: z.url().nullable().exactOptional(),
  duplicates: z.enum(["none", "same"]).exactOptional(),
  copies: z.int().positive().exactOptional(),
  reorder: z.boolean().exactOptional(),
  concurrency: z.int().positive().exactOptional(),
  lose: z.number().min(0).max(1).exactOptional(),
  wrongSignature: z.union([z.boolean(), z.int().min(0)]).exactOptional(),
});

const inbound = z.strictObject({
  from: z.string().min(3),
  to: z.string().min(3).exactOptional(),
  body: z.string(),
  account: z.string().exactOptional(),
});

type Answer = { status: number; body: unknown };
type Endpoint = (simulator: TwilioSimulator, body: unknown, query: URLSearchParams) => Answer | Promise<Answer>;

const endpoints: Record<string, Endpoint> = {
  "GET /_control/faults": (simulator) => ok(simulator.faults.list()),
  "POST /_control/faults": (simulator, body) => {
    const rules = faultRules.safeParse(body);
    if (!rules.success) return malformed(rules.error);
    for (const rule of rules.data) simulator.faults.add(rule);
    return { status: 201, body: simulator.faults.list() };
  },
  "GET /_control/messages": (simulator, _body, query) => {
    const row = query.get("row");
    if (row === null) return ok(simulator.messages);
    const messages = simulator.messages.filter((message) => message.row === row);
    return ok({ row, accepted: simulator.acceptedCount(row), messages });
  },
  "GET /_control/stats": (simulator) => ok({ ...simulator.stats, duplicates: simulator.duplicates() }),
  "POST /_control/receive": (simulator, body) => {
    const text = inbound.safeParse(body);
    return text.success ? { status: 201, body: simulator.receive(text.data) } : malformed(text.error);
  },
  "POST /_control/webhook": (simulator, body) => {
    const settings = webhook.safeParse(body);
    if (!settings.success) return malformed(settings.error);
    const { url, ...modes } = settings.data;
    simulator.setWebhook(url === undefined ? simulator.webhookUrl : url, modes);
    return ok({ url: simulator.webhookUrl, ...simulator.webhooks.modes });
  },
  "POST /_control/events/flush": async (simulator) => ok(await simulator.flushEvents()),
  "POST /_control/reset": (simulator) => {
    simulator.reset();
    return { status: 204, body: undefined };
  },
};

export async function control(
  request: IncomingMessage,
  response: ServerResponse,
  simulator: TwilioSimulator,
): Promise<void> {
  const body = await readBody(request);
  const url = new URL(request.url ?? "/", "http://127.0.0.1");
  const endpoint = endpoints[`${request.method} ${url.pathname}`];
  const answer =
    endpoint === undefined
      ? { status: 404, body: { error: "No such control endpoint", endpoints: Object.keys(endpoints) } }
      : await answerOf(() => endpoint(simulator, Buffer.isBuffer(body) ? parse(body) : undefined, url.searchParams));
  response
    .writeHead(answer.status, { "Content-Type": "application/json" })
    .end(answer.body === undefined ? "" : JSON.stringify(answer.body));
}

/** An error such as an unknown account is a 400. */
async function answerOf(run: () => Answer | Promise<Answer>): Promise<Answer> {
  try {
    return await run();
  } catch (error) {
    return { status: 400, body: { error: error instanceof Error ? error.message : String(error) } };
  }
}

function ok(body: unknown): Answer {
  return { status: 200, body };
}

function malformed(error: z.ZodError): Answer {
  return { status: 400, body: { error: z.prettifyError(error) } };
}
