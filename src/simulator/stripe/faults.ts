// Faults on demand. A fault applies to a request that would have been executed; a request that is rejected anyway does
// not use up a fault. The first rule that matches wins.
import { invalid, Refusal, serverError } from "./errors.ts";
import { matches } from "./webhook/modes.ts";

/** When a fault happens: `before` the request is executed (no effect), or `after` (executed, and events follow). */
type Moment = "before" | "after";

export type Fault =
  /** 429. */
  | { kind: "rate_limited" }
  /**
   * A 5xx. `after` is the ambiguous one: the client sees a failure, but the link exists. `stored`: whether the
   * idempotency key returns this 5xx from now on, as Stripe does once something was executed.
   * @default 500, before; stored if after
   */
  | { kind: "server_error"; status?: number; moment?: Moment; stored?: boolean }
  /** The connection is reset (RST) without a response. @default before */
  | { kind: "reset"; moment?: Moment }
  /** Responds after `delayMs`, perhaps after the client's timeout; executed at once, or (`before`) then. @default after */
  | { kind: "slow"; delayMs: number; moment?: Moment }
  /** 401: the key is revoked. */
  | { kind: "unauthorized" }
  /** 403: the key may not do this. */
  | { kind: "forbidden"; message?: string }
  /** 402: a card was declined. */
  | { kind: "payment_required"; message?: string }
  /** 409: the object is locked by another request. */
  | { kind: "conflict" }
  /** 400 with this message. */
  | { kind: "bad_request"; message: string; param?: string; code?: string };

/** Which requests a fault applies to. All given conditions must hold. */
export type FaultRule = Fault & {
  /** How many requests it applies to. @default 1, or unlimited if another condition is given */
  times?: number;
  /** From 0 to 1, drawn from the seeded generator. @default 1 */
  probability?: number;
  /** Method and path, e.g. "POST /v1/payment_links*"; `*` matches any text. @default every request */
  request?: string;
  /** The secret key of one account. @default every account */
  key?: string;
};

/** A rule with its counts: how often it applied, and how often it still will (Infinity: until it is removed). */
interface ActiveFault {
  readonly rule: FaultRule;
  readonly struck: number;
  readonly remaining: number;
  remove(): void;
}

interface Entry {
  rule: FaultRule;
  struck: number;
  remaining: number;
}

export class Faults {
  #entries: Entry[] = [];
  readonly #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  add(rule: FaultRule): ActiveFault {
    const unlimited = rule.probability !== undefined || rule.request !== undefined || rule.key !== undefined;
    const entry: Entry = { rule, struck: 0, remaining: rule.times ?? (unlimited ? Number.POSITIVE_INFINITY : 1) };
    this.#entries.push(entry);
    return {
      rule,
      get struck() {
        return entry.struck;
      },
      get remaining() {
        return entry.remaining;
      },
      remove: () => {
        this.#entries = this.#entries.filter((each) => each !== entry);
      },
    };
  }

  /** The fault for a request, which is counted; null if no rule matches. `request` is method and path. */
  take(request: string, key: string): Fault | null {
    for (const entry of this.#entries) {
      const { rule } = entry;
      if (!matches(request, [rule.request ?? "*"]) || (rule.key ?? key) !== key) continue;
      if (rule.probability !== undefined && this.#random() >= rule.probability) continue;
      entry.struck++;
      entry.remaining--;
      if (entry.remaining <= 0) this.#entries = this.#entries.filter((each) => each !== entry);
      return rule;
    }
    return null;
  }

  /** Rules that can still apply, in order. */
  list(): { rule: FaultRule; struck: number; remaining: number | null }[] {
    return this.#entries.map(({ rule, struck, remaining }) => ({
      rule,
      struck,
      remaining: Number.isFinite(remaining) ? remaining : null,
    }));
  }

  clear(): void {
    this.#entries = [];
  }
}

/** The error response of a fault; null for a fault that resets or delays. */
export function refusalOf(fault: Fault): Refusal | null {
  switch (fault.kind) {
    case "rate_limited":
      return new Refusal(
        429,
        {
          type: "invalid_request_error",
          code: "rate_limit",
          message:
            "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
        },
        { "Stripe-Rate-Limited-Reason": "endpoint-rate" },
      );
    case "server_error":
      return serverError(fault.status);
    case "unauthorized":
      return new Refusal(401, {
        type: "invalid_request_error",
        message: "Expired API Key provided",
        code: "api_key_expired",
      });
    case "forbidden":
      return new Refusal(403, { type: "invalid_request_error", message: fault.message ?? notAllowed });
    case "payment_required":
      return new Refusal(402, {
        type: "card_error",
        code: "card_declined",
        decline_code: "generic_decline",
        message: fault.message ?? "Your card was declined.",
      });
    case "conflict":
      return new Refusal(409, { type: "invalid_request_error", code: "lock_timeout", message: locked });
    case "bad_request":
      return invalid(fault.message, fault.param, fault.code);
    case "reset":
    case "slow":
      return null;
    default:
      return fault satisfies never;
  }
}

const notAllowed = "The provided key does not have the required permissions for this endpoint on this account.";
const locked =
  "This object cannot be accessed right now because another API request or Stripe process is currently accessing it. If you see this error intermittently, retry the request. If you see this error frequently and are making multiple concurrent requests to a single object, make your requests serially or at a lower rate.";
