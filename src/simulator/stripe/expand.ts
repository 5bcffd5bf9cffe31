// The parameter expand: replaces ids in a response by the objects, and adds lists that are omitted by default.
import type { Account } from "./account.ts";
import { invalid } from "./errors.ts";

const deepest = 4;

/** A copy of the response with these fields expanded; `data.` applies to each element of a list. */
export function expand(account: Account, body: object, paths: readonly string[]): object {
  const copy = structuredClone(body);
  for (const path of paths) {
    const parts = path.split(".");
    if (parts.length > deepest) throw invalid(`You cannot expand more than ${deepest} levels of a property`, "expand");
    into(account, copy as Record<string, unknown>, parts, path);
  }
  return copy;
}

function into(
  account: Account,
  object: Record<string, unknown>,
  [name = "", ...rest]: readonly string[],
  path: string,
): void {
  const value = object[name] ?? included(account, object, name);
  if (value === undefined && !(name in object)) {
    throw invalid(`This property cannot be expanded (${path}).`, "expand[0]");
  }
  const found = typeof value === "string" ? structuredClone(account.store.find(value)) : value;
  if (typeof found !== "object" || found === null) return;
  object[name] = found;
  const inner = Array.isArray(found) ? (found as Record<string, unknown>[]) : [found as Record<string, unknown>];
  if (rest.length > 0) for (const each of inner) into(account, each, rest, path);
}

/** Fields that Stripe omits unless they are requested. */
function included(account: Account, object: Record<string, unknown>, name: string): object | undefined {
  const id = String(object["id"]);
  const list = (url: string, data: readonly object[]): object => ({ object: "list", data, has_more: false, url });
  switch (`${String(object["object"])} ${name}`) {
    case "payment_link line_items":
      return list(`/v1/payment_links/${id}/line_items`, structuredClone(account.items.get(id) ?? []));
    case "checkout.session line_items":
      return list(`/v1/checkout/sessions/${id}/line_items`, structuredClone(account.items.get(id) ?? []));
    case "charge refunds": {
      const refunds = account.store.all("refund").filter(({ charge }) => charge === id);
      return list(`/v1/charges/${id}/refunds`, structuredClone(refunds));
    }
    case "invoice payments": {
      const payments = account.store.all("invoice_payment").filter(({ invoice }) => invoice === id);
      return list(`/v1/invoice_payments?invoice=${id}`, structuredClone(payments));
    }
    default:
      return undefined;
  }
}
