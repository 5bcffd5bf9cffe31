// Faults on demand. A rule waits until a request that would have been executed comes by; one that is refused anyway
// neither suffers nor uses up a fault. The first rule that applies wins.
import { invalid, Refusal, serverError } from "./errors.ts";
import { wanted } from "./webhook/modes.ts";

/** When a fault strikes: `before` the request is executed (nothing happens), or `after` (it is done, and events follow). */
type Moment = "before" | "after";

export type Fault =
  /** 429. */
  | { kind: "rate_limited" }
  /**
   * A 5xx. `after` is the ambiguous one: the client sees a failure, and the link is there. `stored`: whether the
   * idempotency key gives this 5xx again for good, as it does once something was executed.
   * @default 500, before; stored where it is after
   */
  | { kind: "server_error"; status?: number; moment?: Moment; stored?: boolean }
  /** The connection is reset (RST) without an answer. @default before */
  | { kind: "reset"; moment?: Moment }
  /** Answered `delayMs` later, perhaps to a client that has given up; executed at once, or (`before`) only then. @default after */
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

/** Which requests a fault is for. Conditions that are given must all hold. */
export type FaultRule = Fault & {
  /** How many requests it strikes. @default 1, or no limit where another condition is given */
  times?: number;
  /** Between 0 and 1, drawn from the seeded generator. @default 1 */
  probability?: number;
  /** Method and path, e.g. "POST /v1/payment_links*"; `*` stands for any text. @default every request */
  request?: string;
  /** The secret key of one account. @default every account */
  key?: string;
};

/** A rule as it stands: how often it struck, and how often it still will (Infinity: until removed). */
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

  /** The fault for this request, counted as having struck; null for none. `request` is its method and path. */
  take(request: string, key: string): Fault | null {
    for (const entry of this.#entries) {
      const { rule } = entry;
      if (!wanted(request, [rule.request ?? "*"]) || (rule.key ?? key) !== key) continue;
      if (rule.probability !== undefined && this.#random() >= rule.probability) continue;
      entry.struck++;
      entry.remaining--;
      if (entry.remaining <= 0) this.#entries = this.#entries.filter((each) => each !== entry);
      return rule;
    }
    return null;
  }

  /** Rules that may still strike, in order. */
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

/** The answer of a fault that answers with a refusal; null for one that resets or delays. */
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
