// Faults on demand. A fault applies to a request that would have been accepted; a request that is rejected anyway does
// not use up a fault. The first rule that matches wins.
import type { MailSend, SendgridError } from "./types.ts";

/** When a fault happens: `before` the mail is accepted (not sent), or `after` (sent, and events follow). */
type Moment = "before" | "after";

export type Fault =
  /** 429; X-RateLimit-Reset is `resetSeconds` from now. @default 1 */
  | { kind: "rate_limited"; resetSeconds?: number }
  /** A 5xx. `after` is the ambiguous one: the client sees a failure, but the mail is sent. @default 500, before */
  | { kind: "server_error"; status?: number; moment?: Moment }
  /** The connection is reset (RST) without a response. @default before */
  | { kind: "reset"; moment?: Moment }
  /** Accepted at once, answered with 202 after `delayMs`, possibly after the client's timeout. */
  | { kind: "slow"; delayMs: number }
  /** 401: the key is revoked. */
  | { kind: "unauthorized" }
  /** 403: the From address is not verified. */
  | { kind: "forbidden"; message?: string }
  /** 400 with this message. */
  | { kind: "bad_request"; message: string; field?: string };

/** Which requests a fault applies to. All given conditions must hold. */
export type FaultRule = Fault & {
  /** How many requests it applies to. @default 1, or unlimited if `probability` or `recipient` is given */
  times?: number;
  /** From 0 to 1, drawn from the seeded generator. @default 1 */
  probability?: number;
  /** An address in to, cc or bcc; `*` matches any text. Case-insensitive. @default every request */
  recipient?: string;
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
  matches: (mail: MailSend) => boolean;
}

export class Faults {
  #entries: Entry[] = [];
  readonly #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  add(rule: FaultRule): ActiveFault {
    const unlimited = rule.probability !== undefined || rule.recipient !== undefined;
    const entry: Entry = {
      rule,
      struck: 0,
      remaining: rule.times ?? (unlimited ? Number.POSITIVE_INFINITY : 1),
      matches: recipientTest(rule.recipient),
    };
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

  /** The fault for a request, which is counted; null if no rule matches. */
  take(mail: MailSend): Fault | null {
    for (const entry of this.#entries) {
      if (entry.remaining <= 0 || !entry.matches(mail)) continue;
      const probability = entry.rule.probability ?? 1;
      if (probability < 1 && this.#random() >= probability) continue;
      entry.struck++;
      entry.remaining--;
      if (entry.remaining <= 0) this.#entries = this.#entries.filter((each) => each !== entry);
      return entry.rule;
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

function recipientTest(pattern: string | undefined): (mail: MailSend) => boolean {
  if (pattern === undefined) return () => true;
  const escaped = pattern.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`));
  const expression = new RegExp(`^${escaped.join(".*")}$`, "i");
  return (mail) =>
    mail.personalizations.some((each) =>
      [each.to, each.cc ?? [], each.bcc ?? []].some((list) => list.some(({ email }) => expression.test(email))),
    );
}

export interface Refusal {
  status: number;
  errors: SendgridError[];
}

/** The error response of a fault; null for a fault that resets or delays. */
export function refusalOf(fault: Fault): Refusal | null {
  switch (fault.kind) {
    case "rate_limited":
      return refusal(429, "too many requests");
    case "server_error":
      return refusal(fault.status ?? 500, "internal server error");
    case "unauthorized":
      return refusal(401, "The provided authorization grant is invalid, expired, or revoked");
    case "forbidden":
      return refusal(403, fault.message ?? unverifiedSender, "from");
    case "bad_request":
      return refusal(400, fault.message, fault.field ?? null);
    case "reset":
    case "slow":
      return null;
    default:
      return fault satisfies never;
  }
}

export function refusal(status: number, message: string, field: string | null = null): Refusal {
  return { status, errors: [{ message, field, help: null }] };
}

const unverifiedSender =
  "The from address does not match a verified Sender Identity. Mail cannot be sent until this error is resolved. Visit https://sendgrid.com/docs/for-developers/sending-email/sender-identity/ to see the Sender Identity requirements";
