// Parameters as Stripe reads them from a form: every value is a text, an empty text removes a value, and unknown
// parameters are rejected. The response names the first error.
import { z } from "zod";
import { invalid, type Refusal } from "./errors.ts";
import type { Form } from "./form.ts";

/** Stripe's messages for values of the wrong type. */
function wrong(ctx: z.RefinementCtx, what: string, value: string, code?: string): never {
  ctx.addIssue({ code: "custom", message: `Invalid ${what}: ${value}`, params: { code } });
  return z.NEVER;
}

export const text = z.string().max(5000);

export const integer = z
  .string()
  .transform((value, ctx) =>
    /^-?\d{1,12}$/.test(value) ? Number(value) : wrong(ctx, "integer", value, "parameter_invalid_integer"),
  );

export const natural = integer.refine((value) => value >= 0, {
  message: "Invalid non-negative integer",
  params: { code: "parameter_invalid_integer" },
});

export const positive = integer.refine((value) => value > 0, {
  message: "Invalid positive integer",
  params: { code: "parameter_invalid_integer" },
});

export const flag = z
  .string()
  .transform((value, ctx) => (value === "true" || value === "false" ? value === "true" : wrong(ctx, "boolean", value)));

export const currency = z
  .string()
  .transform((value, ctx) => (/^[a-z]{3}$/i.test(value) ? value.toLowerCase() : wrong(ctx, "currency", value)));

export const url = z.string().refine((value) => URL.canParse(value) && /^https?:/.test(value), {
  message: "Not a valid URL",
  params: { code: "url_invalid" },
});

export const metadata = z
  .record(z.string().max(40, "Metadata keys can be up to 40 characters long."), z.string().max(500, { error: tooLong }))
  .refine((pairs) => Object.keys(pairs).length <= 50, "You can have up to 50 metadata keys.");

function tooLong(issue: { input?: unknown }): string {
  const value = String(issue.input);
  return `Metadata values can have up to 500 characters, but you passed in a value that is ${value.length} characters. Invalid value: ${value}`;
}

/** A list of objects or of texts; in the form, positions are names. */
export function list<T extends z.ZodType>(element: T, atMost = 100): z.ZodType<z.output<T>[]> {
  return z.preprocess(
    (value) => (typeof value === "object" && value !== null ? Object.values(value) : value),
    z.array(element).min(1).max(atMost),
  );
}

/** A parameter that an empty text removes; it is read as null. */
export function emptyable<T extends z.ZodType>(schema: T): z.ZodType<z.output<T> | null> {
  return z.union([z.literal("").transform(() => null), schema]);
}

/** Parameters that every request may have. */
const common = { expand: list(z.string(), 20).optional() };

export function shape<T extends z.ZodRawShape>(fields: T): z.ZodObject<T & typeof common> {
  return z.strictObject({ ...fields, ...common }) as unknown as z.ZodObject<T & typeof common>;
}

/** Reads the parameters. Throws a Refusal that names the first error. */
export function read<T extends z.ZodType>(schema: T, form: Form): z.output<T> {
  const parsed = schema.safeParse(form);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw issue === undefined ? invalid("Invalid parameters") : refusalOf(deepest(issue), form);
}

/** For a union, the error of the alternative that got furthest; the other alternative is the empty text. */
function deepest(issue: z.core.$ZodIssue): z.core.$ZodIssue {
  if (issue.code !== "invalid_union") return issue;
  const [inner] = issue.errors.at(-1) ?? [];
  return inner === undefined ? issue : deepest({ ...inner, path: [...issue.path, ...inner.path] });
}

function refusalOf(issue: z.core.$ZodIssue, form: Form): Refusal {
  if (issue.code === "unrecognized_keys") {
    const param = nameOf([...issue.path, issue.keys[0] ?? ""]);
    return invalid(`Received unknown parameter: ${param}`, param, "parameter_unknown");
  }
  const param = nameOf(issue.path);
  const value = valueAt(form, issue.path);
  if (value === undefined) return invalid(`Missing required param: ${param}.`, param, "parameter_missing");
  if (issue.code === "invalid_value") {
    return invalid(`Invalid ${param}: must be one of ${issue.values.map(String).join(", ")}`, param);
  }
  if (issue.code === "invalid_type") return invalid(`Invalid ${issue.expected}`, param);
  const code: unknown = issue.code === "custom" ? issue.params?.["code"] : undefined;
  return invalid(issue.message, param, typeof code === "string" ? code : undefined);
}

/** Path -> line_items[0][price_data][currency] */
function nameOf(path: readonly PropertyKey[]): string {
  const [first = "", ...rest] = path.map(String);
  return first + rest.map((part) => `[${part}]`).join("");
}

function valueAt(form: Form, path: readonly PropertyKey[]): unknown {
  let value: unknown = form;
  for (const part of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}

/** Metadata after an update; an empty text removes a key. */
export function mergeMetadata(old: Record<string, string>, update: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries({ ...old, ...update }).filter(([, value]) => value !== ""));
}
