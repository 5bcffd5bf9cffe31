// The simulator's control endpoints, for other processes. README.md lists them; loopback only, no key.
import type { IncomingMessage, ServerResponse } from "node:http";
import { z } from "zod";
import type { SendgridSimulator } from "./simulator.ts";
import { parse, readBody } from "./server.ts";

const moment = z.enum(["before", "after"]).exactOptional();
const conditions = {
  times: z.int().positive().exactOptional(),
  probability: z.number().min(0).max(1).exactOptional(),
  recipient: z.string().min(1).exactOptional(),
};
const faultRule = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("rate_limited"), resetSeconds: z.number().min(0).exactOptional(), ...conditions }),
  z.strictObject({
    kind: z.literal("server_error"),
    status: z.int().min(500).max(599).exactOptional(),
    moment,
    ...conditions,
  }),
  z.strictObject({ kind: z.literal("reset"), moment, ...conditions }),
  z.strictObject({ kind: z.literal("slow"), delayMs: z.number().min(0), ...conditions }),
  z.strictObject({ kind: z.literal("unauthorized"), ...conditions }),
  z.strictObject({ kind: z.literal("forbidden"), message: z.string().exactOptional(), ...conditions }),
  z.strictObject({
    kind: z.literal("bad_request"),
    message: z.string(),
    field: z.string().exactOptional(),
    ...conditions,
  }),
]);
const faultRules = z.union([z.array(faultRule).min(1), faultRule.transform((rule) => [rule])]);

const webhook = z.strictObject({
  url: z.url().nullable().exactOptional(),
  duplicates: z.enum(["none", "same", "new_event_id"]).exactOptional(),
  copies: z.int().positive().exactOptional(),
  reorder: z.boolean().exactOptional(),
  malformed: z.boolean().exactOptional(),
  wrongSignature: z.union([z.boolean(), z.int().min(0)]).exactOptional(),
  oldTimestampSeconds: z.number().exactOptional(),
  bareBounces: z.boolean().exactOptional(),
});

type Answer = { status: number; body: unknown };
type Endpoint = (simulator: SendgridSimulator, body: unknown, query: URLSearchParams) => Answer | Promise<Answer>;

const endpoints: Record<string, Endpoint> = {
  "GET /_control/faults": (simulator) => ok(simulator.faults.list()),
  "POST /_control/faults": (simulator, body) => {
    const rules = faultRules.safeParse(body);
    if (!rules.success) return { status: 400, body: { error: z.prettifyError(rules.error) } };
    for (const rule of rules.data) simulator.faults.add(rule);
    return { status: 201, body: simulator.faults.list() };
  },
  "GET /_control/messages": (simulator, _body, query) => {
    const row = query.get("row");
    if (row === null) return ok(simulator.messages);
    const messages = simulator.messages.filter((message) => message.customArgs["bo_msg"] === row);
    return ok({ row, accepted: simulator.acceptedCount(row), messages });
  },
  "GET /_control/stats": (simulator) => ok({ ...simulator.stats, duplicates: simulator.duplicates() }),
  "GET /_control/public-key": (simulator) => ok({ public_key: simulator.publicKey }),
  "POST /_control/webhook": (simulator, body) => {
    const settings = webhook.safeParse(body);
    if (!settings.success) return { status: 400, body: { error: z.prettifyError(settings.error) } };
    const { url, ...modes } = settings.data;
    simulator.setWebhook(url === undefined ? simulator.webhook.url : url, modes);
    return ok({ url: simulator.webhook.url, ...simulator.webhook.modes });
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
  simulator: SendgridSimulator,
): Promise<void> {
  const body = await readBody(request);
  const url = new URL(request.url ?? "/", "http://127.0.0.1");
  const endpoint = endpoints[`${request.method} ${url.pathname}`];
  const answer =
    endpoint === undefined
      ? { status: 404, body: { error: "No such control endpoint", endpoints: Object.keys(endpoints) } }
      : await endpoint(simulator, Buffer.isBuffer(body) ? parse(body) : undefined, url.searchParams);
  response
    .writeHead(answer.status, { "Content-Type": "application/json" })
    .end(answer.body === undefined ? "" : JSON.stringify(answer.body));
}

function ok(body: unknown): Answer {
  return { status: 200, body };
}
