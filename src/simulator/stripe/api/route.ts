// The parts of an API endpoint.
import type { z } from "zod";
import type { Account } from "../account.ts";
import { invalid, missing } from "../errors.ts";
import type { Form } from "../form.ts";
import { integer, positive, read, shape, text } from "../params.ts";
import { pageOf } from "../store.ts";
import type { Kind, Objects } from "../types.ts";

/** Rejects invalid requests by throwing; the returned function executes the request. */
export type Handler = (account: Account, form: Form, id: string) => () => object;

/** By method and path, with `:id` for an id: "POST /v1/payment_links/:id". */
export type Routes = Readonly<Record<string, Handler>>;

/** The object in the path. Throws a 404 if it does not exist. */
export function theOne<K extends Kind>(account: Account, kind: K, id: string): Objects[K] {
  const found = account.store.get(kind, id);
  if (found === null) throw missing(kind, id);
  return found;
}

export function retrieve<K extends Kind>(kind: K): Handler {
  return (account, form, id) => {
    read(shape({}), form);
    const found = theOne(account, kind, id);
    return () => found;
  };
}

const limit = positive.refine((value) => value <= 100, {
  message: "Limit cannot exceed 100",
  params: { code: "parameter_invalid_integer" },
});
const paging = { limit: limit.optional(), starting_after: text.optional(), ending_before: text.optional() };
const range = { gt: integer.optional(), gte: integer.optional(), lt: integer.optional(), lte: integer.optional() };

/** A list of objects, newest first. `filters` are its parameters; `keep` decides whether an object matches them. */
export function listOf<K extends Kind, S extends z.ZodRawShape>(
  kind: K,
  path: string,
  filters: S,
  keep: (object: Objects[K], asked: z.output<z.ZodObject<S>>) => boolean,
): Handler {
  const schema = shape({ ...filters, ...paging, created: shape(range).optional() });
  return (account, form) => {
    const asked = read(schema, form) as z.output<z.ZodObject<typeof paging>> &
      z.output<z.ZodObject<S>> & { created?: Partial<Record<keyof typeof range, number>> };
    const all = account.store.all(kind).filter((object) => keep(object, asked) && within(object, asked.created ?? {}));
    const page = listed(all, path, asked);
    return () => page;
  };
}

export interface Paging {
  limit?: number | undefined;
  starting_after?: string | undefined;
  ending_before?: string | undefined;
}

/** One page of a list, in Stripe's format. */
export function listed<T extends { id: string }>(all: readonly T[], url: string, asked: Paging): object {
  const startingAfter = asked.starting_after ?? null;
  const endingBefore = asked.ending_before ?? null;
  if (startingAfter !== null && endingBefore !== null) {
    throw invalid("You cannot parameterize both `starting_after` and `ending_before`.");
  }
  const page = pageOf(all, { limit: asked.limit ?? 10, startingAfter, endingBefore });
  if (page === null) {
    const param = startingAfter === null ? "ending_before" : "starting_after";
    throw missing("object", startingAfter ?? endingBefore ?? "", param);
  }
  return { object: "list", data: page.data, has_more: page.more, url };
}

/** The line items of a link or a session. */
export function linesOf(kind: "payment_link" | "checkout.session", path: string): Handler {
  const schema = shape(paging);
  return (account, form, id) => {
    const asked = read(schema, form);
    theOne(account, kind, id);
    const page = listed(account.items.get(id) ?? [], `${path}/${id}/line_items`, asked);
    return () => page;
  };
}

function within(object: object, asked: Partial<Record<keyof typeof range, number>>): boolean {
  const at = "created" in object && typeof object.created === "number" ? object.created : 0;
  return (
    at > (asked.gt ?? Number.NEGATIVE_INFINITY) &&
    at >= (asked.gte ?? Number.NEGATIVE_INFINITY) &&
    at < (asked.lt ?? Number.POSITIVE_INFINITY) &&
    at <= (asked.lte ?? Number.POSITIVE_INFINITY)
  );
}
