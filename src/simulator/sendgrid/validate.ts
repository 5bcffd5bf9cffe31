// Decides whether a request body would be accepted, by SendGrid's published schema and its documented rules.
import { Ajv2020 } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import schema from "./mail-send.schema.json" with { type: "json" };
import { brokenRules } from "./rules.ts";
import { fromSchemaError } from "./schema-errors.ts";
import type { MailSend, SendgridError } from "./types.ts";

const ajv = new Ajv2020({ allErrors: true });
// This format is ASCII-only and requires a dot in the domain, which covers "the from address can't contain Unicode".
formats.default(ajv, ["email"]);
const fitsSchema = ajv.compile<MailSend>(schema);

export type Checked = { mail: MailSend; errors: null } | { mail: null; errors: SendgridError[] };

/** `now` is in Unix seconds. Rules are checked only if the body conforms to the schema, because they rely on its types. */
export function checkMailSend(body: unknown, now: number): Checked {
  if (!fitsSchema(body)) {
    return { mail: null, errors: (fitsSchema.errors ?? []).map((error) => fromSchemaError(error, body)) };
  }
  const errors = [...brokenRules(body, now)];
  return errors.length === 0 ? { mail: body, errors: null } : { mail: null, errors };
}
