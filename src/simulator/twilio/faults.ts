// Faults on demand. A fault applies to a request that would have been accepted; a request that is rejected anyway does
// not use up a fault. The first rule that matches wins.
import type { Refusal } from "./types.ts";

/** When a fault happens: `before` the text is accepted (not sent), or `after` (sent, and callbacks follow). */
type Moment = "before" | "after";

export type Fault =
  /** 429 with code 20429 and Retry-After. @default 1 */
  | { kind: "rate_limited"; retryAfterSeconds?: number }
  /** A 5xx. `after` is the ambiguous one: the client sees a failure, but the text is sent. @default 500, before */
  | { kind: "server_error"; status?: number; moment?: Moment }
  /** The connection is reset (RST) without a response. @default before */
  | { kind: "reset"; moment?: Moment }
  /** Accepted at once, answered after `delayMs`, possibly after the client's timeout. */
  | { kind: "slow"; delayMs: number }
  /** 401 with code 20003: the token was changed. */
  | { kind: "unauthorized" }
  /** Any other error response. @default status 400 */
  | { kind: "refused"; code: number; message: string; status?: number };

/** Which requests a fault applies to. All given conditions must hold. */
export type FaultRule = Fault & {
  /** How many requests it applies to. @default 1, or unlimited if `probability` or `recipient` is given */
  times?: number;
  /** From 0 to 1, drawn from the seeded generator. @default 1 */
  probability?: number;
  /** The recipient's number; `*` matches any digits. @default every request */
  recipient?: string;
  /** create: sending a text; list: fetching the list of texts. @default create */
  request?: "create" | "list";
};

interface Entry {
  readonly rule: FaultRule;
  struck: number;
  remaining: number;
}

export class Faults {
  #entries: Entry[] = [];
  readonly #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  add(rule: FaultRule): { readonly struck: number; readonly remaining: number; remove(): void } {
    const unlimited = rule.probability !== undefined || rule.recipient !== undefined;
    const entry: Entry = { rule, struck: 0, remaining: rule.times ?? (unlimited ? Number.POSITIVE_INFINITY : 1) };
    this.#entries.push(entry);
    return {
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
  take(request: "create" | "list", recipient: string | null): Fault | null {
    for (const entry of this.#entries) {
      const { rule } = entry;
      if ((rule.request ?? "create") !== request || !matches(rule.recipient, recipient)) continue;
      const probability = rule.probability ?? 1;
      if (probability < 1 && this.#random() >= probability) continue;
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

function matches(pattern: string | undefined, recipient: string | null): boolean {
  if (pattern === undefined) return true;
  const parts = pattern.split("*").map((part) => part.replaceAll(/[^\d]/g, String.raw`\$&`));
  return recipient !== null && new RegExp(`^${parts.join(String.raw`\d*`)}$`).test(recipient);
}

/** Whether the text is sent although the client gets no success response. */
export function isAccepted(fault: Fault): boolean {
  return fault.kind === "slow" || ("moment" in fault && fault.moment === "after");
}

/** The error response of a fault; null for a fault that resets or delays. */
export function refusalOf(fault: Fault): Refusal | null {
  switch (fault.kind) {
    case "rate_limited":
      return { status: 429, code: 20429, message: "Too Many Requests" };
    case "server_error":
      return { status: fault.status ?? 500, code: 20500, message: "An internal server error has occurred" };
    case "unauthorized":
      return unauthorized;
    case "refused":
      return { status: fault.status ?? 400, code: fault.code, message: fault.message };
    case "reset":
    case "slow":
      return null;
    default:
      return fault satisfies never;
  }
}

export const unauthorized: Refusal = { status: 401, code: 20003, message: "Authenticate" };
