// The simulator's control endpoints, for other processes. README.md lists them; loopback only, no key.
import type { IncomingMessage, ServerResponse } from "node:http";
import { z } from "zod";
import { Refusal } from "./errors.ts";
import { readBody } from "./server.ts";
import type { StripeSimulator } from "./simulator.ts";

const moment = z.enum(["before", "after"]).exactOptional();
const conditions = {
  times: z.int().positive().exactOptional(),
  probability: z.number().min(0).max(1).exactOptional(),
  request: z.string().min(1).exactOptional(),
  key: z.string().min(1).exactOptional(),
};
const message = z.string().exactOptional();
const faultRule = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("rate_limited"), ...conditions }),
  z.strictObject({
    kind: z.literal("server_error"),
    status: z.int().min(500).max(599).exactOptional(),
    stored: z.boolean().exactOptional(),
    moment,
    ...conditions,
  }),
  z.strictObject({ kind: z.literal("reset"), moment, ...conditions }),
  z.strictObject({ kind: z.literal("slow"), delayMs: z.number().min(0), moment, ...conditions }),
  z.strictObject({ kind: z.literal("unauthorized"), ...conditions }),
  z.strictObject({ kind: z.literal("forbidden"), message, ...conditions }),
  z.strictObject({ kind: z.literal("payment_required"), message, ...conditions }),
  z.strictObject({ kind: z.literal("conflict"), ...conditions }),
  z.strictObject({
    kind: z.literal("bad_request"),
    message: z.string(),
    param: z.string().exactOptional(),
    code: z.string().exactOptional(),
    ...conditions,
  }),
]);
const faultRules = z.union([z.array(faultRule).min(1), faultRule.transform((rule) => [rule])]);

const webhook = z.strictObject({
  url: z.url().nullable().exactOptional(),
  duplicates: z.enum(["none", "same", "new_event"]).exactOptional(),
  copies: z.int().positive().exactOptional(),
  reorder: z.boolean().exactOptional(),
  late: z.array(z.string()).exactOptional(),
  concurrent: z.int().positive().exactOptional(),
  malformed: z.boolean().exactOptional(),
  wrongSignature: z.union([z.boolean(), z.int().min(0)]).exactOptional(),
  oldTimestampSeconds: z.number().exactOptional(),
});
const target = z.string().min(1);
const payer = z.strictObject({
  link: target,
  email: z.email(),
  name: z.string().exactOptional(),
  card: z.enum(["ok", "declined", "async_ok", "async_fail"]).exactOptional(),
});
const amount = z.int().positive().exactOptional();
const reason = z.enum(["duplicate", "fraudulent", "requested_by_customer"]).exactOptional();

type Endpoint = (simulator: StripeSimulator, body: unknown) => unknown;

/** An endpoint that checks its body first; an error thrown by `act` becomes a 400. */
function act<S extends z.ZodType>(
  schema: S,
  perform: (simulator: StripeSimulator, input: z.output<S>) => unknown,
): Endpoint {
  return (simulator, body) => perform(simulator, schema.parse(body ?? {}));
}

const endpoints: Record<string, Endpoint> = {
  "POST /_control/pay": act(payer, (simulator, { link, ...who }) => simulator.pay(link, who)),
  "POST /_control/visit": act(z.strictObject({ link: target }), (simulator, { link }) => simulator.visit(link)),
  "POST /_control/settle": act(z.strictObject({ target: target.exactOptional() }), (simulator, input) => ({
    settled: simulator.settle(input.target),
  })),
  "POST /_control/refund": act(z.strictObject({ target, amount, reason }), (simulator, { target: what, ...order }) =>
    simulator.refund(what, order),
  ),
  "POST /_control/fail-refund": act(z.strictObject({ refund: target }), (simulator, { refund }) =>
    simulator.failRefund(refund),
  ),
  "POST /_control/dispute": act(
    z.strictObject({ target, amount, reason: z.string().exactOptional(), inquiry: z.boolean().exactOptional() }),
    (simulator, { target: what, ...order }) => simulator.dispute(what, order),
  ),
  "POST /_control/close-dispute": act(
    z.strictObject({ dispute: target, verdict: z.enum(["won", "lost"]) }),
    (simulator, { dispute, verdict }) => simulator.closeDispute(dispute, verdict),
  ),
  "POST /_control/deactivate": act(z.strictObject({ link: target }), (simulator, { link }) =>
    simulator.deactivate(link),
  ),
  "POST /_control/cancel": act(
    z.strictObject({ target, atPeriodEnd: z.boolean().exactOptional() }),
    (simulator, { target: what, ...order }) => simulator.cancel(what, order),
  ),
  "POST /_control/fail-payments": act(
    z.strictObject({ target, times: z.int().min(0).exactOptional() }),
    (simulator, { target: what, times }) => {
      simulator.failPayments(what, times);
      return { target: what, times: times ?? 1 };
    },
  ),
  "POST /_control/advance": act(z.strictObject({ ms: z.number().min(0) }), (simulator, { ms }) => {
    simulator.advance(ms);
    return { now: simulator.clock.now };
  }),
  "GET /_control/links": (simulator) => simulator.links(),
  "GET /_control/stats": (simulator) => simulator.stats,
  "GET /_control/webhook-secret": (simulator) => ({ webhook_secret: simulator.webhookSecret }),
  "GET /_control/faults": (simulator) => simulator.faults.list(),
  "POST /_control/faults": act(faultRules, (simulator, rules) => {
    for (const rule of rules) simulator.faults.add(rule);
    return simulator.faults.list();
  }),
  "POST /_control/webhook": act(webhook, (simulator, { url, ...modes }) => {
    if (url !== undefined) simulator.setWebhook(url);
    simulator.setModes(modes);
    return simulator.sender.modes;
  }),
  "POST /_control/events/resend": act(z.strictObject({ event: target }), (simulator, { event }) =>
    simulator.resend(event),
  ),
  "POST /_control/events/flush": (simulator) => simulator.flushEvents(),
  "POST /_control/reset": (simulator) => {
    simulator.reset();
    return simulator.stats;
  },
};

export async function control(
  request: IncomingMessage,
  response: ServerResponse,
  simulator: StripeSimulator,
): Promise<void> {
  const text = await readBody(request);
  if (text === null) return;
  const answer = (status: number, body: unknown): void => {
    response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
  };
  const endpoint = endpoints[`${request.method} ${(request.url ?? "/").split("?")[0]}`];
  if (endpoint === undefined) {
    return answer(404, { error: "No such control endpoint", endpoints: Object.keys(endpoints) });
  }
  try {
    answer(200, await endpoint(simulator, text === "" ? undefined : (JSON.parse(text) as unknown)));
  } catch (error) {
    if (error instanceof z.ZodError) answer(400, { error: z.prettifyError(error) });
    else if (error instanceof Refusal) answer(error.status, error.body);
    else answer(400, { error: error instanceof Error ? error.message : String(error) });
  }
}
