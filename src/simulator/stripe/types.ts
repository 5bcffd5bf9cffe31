// Terms of this folder:
// - account: the objects, endpoints and events that one secret key can access
// - object: a Stripe object, stored by id; its type is the SDK's, and Stripe's fixtures check its contents
// - act: something that a person does or that time causes: paying, refunding, a renewal
// - target: any id (or a link's URL) around a payment, from which the payment is found
// - event: a Stripe event about a change, with a copy of the object at that moment
// - delivery: one event to be sent to one endpoint
// - fault: an error response, or a missing response, that was requested in advance
import type Stripe from "stripe";

/** Object types follow the SDK: this line does not compile after an SDK update with another API version. */
export const apiVersion: typeof Stripe.API_VERSION = "2026-10-28.endive";

type Plain = string | number | bigint | boolean | null | undefined | void;

/** An object as it is sent: decimals are strings, which the SDK converts to its own number type. */
export type Wire<T> = T extends Plain
  ? T
  : T extends Stripe.Decimal
    ? string
    : T extends readonly (infer Element)[]
      ? Wire<Element>[]
      : { [Key in keyof T]: Wire<T[Key]> };

/** One event; `data.object` is a copy of the object at that moment. */
export interface StripeEvent {
  id: string;
  object: "event";
  api_version: string;
  created: number;
  data: { object: object; previous_attributes?: object };
  livemode: false;
  pending_webhooks: number;
  request: { id: string | null; idempotency_key: string | null };
  type: Stripe.Event["type"];
}

/** All kinds of stored objects, by the value of their field `object`. */
export interface Objects {
  product: Wire<Stripe.Product>;
  price: Wire<Stripe.Price>;
  payment_link: Wire<Stripe.PaymentLink>;
  "checkout.session": Wire<Stripe.Checkout.Session>;
  customer: Wire<Stripe.Customer>;
  payment_method: Wire<Stripe.PaymentMethod>;
  payment_intent: Wire<Stripe.PaymentIntent>;
  charge: Wire<Stripe.Charge>;
  balance_transaction: Wire<Stripe.BalanceTransaction>;
  refund: Wire<Stripe.Refund>;
  dispute: Wire<Stripe.Dispute>;
  subscription: Wire<Stripe.Subscription>;
  invoice: Wire<Stripe.Invoice>;
  invoice_payment: Wire<Stripe.InvoicePayment>;
  event: StripeEvent;
  webhook_endpoint: Wire<Stripe.WebhookEndpoint>;
}

export type Kind = keyof Objects;
export type Item = Wire<Stripe.LineItem>;
export type Metadata = Record<string, string>;

/** The id in a field that holds an id or, if expanded, the object. */
export function idOf(field: string | { id: string } | null | undefined): string | null {
  if (field === null || field === undefined) return null;
  return typeof field === "string" ? field : field.id;
}
