// Decides whether a request body would be accepted: the schema SendGrid publishes, then the rules it states in words.
import { Ajv2020 } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import schema from "./mail-send.schema.json" with { type: "json" };
import { brokenRules } from "./rules.ts";
import { fromSchemaError } from "./schema-errors.ts";
import type { MailSend, SendgridError } from "./types.ts";

const ajv = new Ajv2020({ allErrors: true });
// Its pattern is ASCII only and wants a dot in the domain: "the from address can't contain Unicode" is kept by it.
formats.default(ajv, ["email"]);
const fitsSchema = ajv.compile<MailSend>(schema);

export type Checked = { mail: MailSend; errors: null } | { mail: null; errors: SendgridError[] };

/** `now` in Unix seconds. Rules are only asked of a body that fits the schema, for they rely on its types. */
export function checkMailSend(body: unknown, now: number): Checked {
  if (!fitsSchema(body)) {
    return { mail: null, errors: (fitsSchema.errors ?? []).map((error) => fromSchemaError(error, body)) };
  }
  const errors = [...brokenRules(body, now)];
  return errors.length === 0 ? { mail: body, errors: null } : { mail: null, errors };
}
