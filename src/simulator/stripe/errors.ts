// Error responses in Stripe's format and, where known, with its messages.

export type ErrorType = "invalid_request_error" | "idempotency_error" | "card_error" | "api_error";

export interface ErrorFields {
  type: ErrorType;
  message: string;
  code?: string;
  param?: string;
  decline_code?: string;
  doc_url?: string;
}

/** An error response. */
export class Refusal extends Error {
  override name = "Refusal";
  readonly status: number;
  readonly fields: ErrorFields;
  /** Additional headers. */
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, fields: ErrorFields, headers: Readonly<Record<string, string>> = {}) {
    super(fields.message);
    this.status = status;
    this.fields =
      fields.code === undefined
        ? fields
        : { ...fields, doc_url: `https://stripe.com/docs/error-codes/${fields.code.replaceAll("_", "-")}` };
    this.headers = headers;
  }

  get body(): object {
    return { error: this.fields };
  }
}

export function invalid(message: string, param?: string, code?: string): Refusal {
  return new Refusal(400, {
    type: "invalid_request_error",
    message,
    ...(code === undefined ? {} : { code }),
    ...(param === undefined ? {} : { param }),
  });
}

/** 404 for an id in the path, 400 for an id in a parameter. */
export function missing(kind: string, id: string, param = "id"): Refusal {
  return new Refusal(param === "id" ? 404 : 400, {
    type: "invalid_request_error",
    code: "resource_missing",
    message: `No such ${kind}: '${id}'`,
    param,
  });
}

export function unauthorized(key: string | null): Refusal {
  const message =
    key === null
      ? "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details, or we can help at https://support.stripe.com/."
      : `Invalid API Key provided: ${masked(key)}`;
  return new Refusal(401, { type: "invalid_request_error", message }, { "WWW-Authenticate": 'Bearer realm="Stripe"' });
}

/** The key as Stripe quotes it: only its two ends. */
function masked(key: string): string {
  if (key.length < 12) return "*".repeat(key.length);
  return `${key.slice(0, 8)}${"*".repeat(key.length - 12)}${key.slice(-4)}`;
}

export function unknownUrl(method: string, path: string): Refusal {
  return new Refusal(404, {
    type: "invalid_request_error",
    message: `Unrecognized request URL (${method}: ${path}). Please see https://stripe.com/docs or we can help at https://support.stripe.com/.`,
  });
}

export function keyInUse(key: string): Refusal {
  return new Refusal(
    409,
    {
      type: "idempotency_error",
      code: "idempotency_key_in_use",
      message: `There is currently another in-progress request using this Idempotency Key (that probably means you submitted twice, and the other request is still going through): ${key}. Please try again later.`,
    },
    { "Stripe-Should-Retry": "true" },
  );
}

export function keyReused(key: string, sameEndpoint: boolean, was: string, is: string): Refusal {
  const again = `Try using a key other than '${key}' if you meant to execute a different request.`;
  return new Refusal(400, {
    type: "idempotency_error",
    message: sameEndpoint
      ? `Keys for idempotent requests can only be used with the same parameters they were first used with. ${again}`
      : `Keys for idempotent requests can only be used for the same endpoint they were first used for ('${is}' vs '${was}'). ${again}`,
  });
}

export function serverError(status = 500): Refusal {
  return new Refusal(status, { type: "api_error", message: "An unknown error occurred" });
}
