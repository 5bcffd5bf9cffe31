// The words of this folder:
// - account: what one secret key opens; its objects, endpoints and events are seen through that key alone
// - object: something Stripe keeps, by id; the SDK's own types say what it holds, and the fixtures of Stripe's check it
// - act: something a person does, or that time brings: paying, refunding, a renewal
// - target: any id (or a link's url) around a payment, from which the payment is found
// - event: one object of Stripe's about a change, with the changed object as it was at that moment
// - delivery: one event on its way to one endpoint
// - fault: an answer, or the lack of one, that is asked for in advance
import type Stripe from "stripe";

/** What objects look like follows the SDK: this line stops compiling when an update of it speaks another version. */
export const apiVersion: typeof Stripe.API_VERSION = "2026-10-28.endive";

type Plain = string | number | bigint | boolean | null | undefined | void;

/** An object as it travels: decimals are strings there, which the SDK makes numbers of its own of. */
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

/** Every kind of object that is kept, by the word that its field `object` holds. */
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

/** The id of a field that holds an id, or the object itself where it was expanded. */
export function idOf(field: string | { id: string } | null | undefined): string | null {
  if (field === null || field === undefined) return null;
  return typeof field === "string" ? field : field.id;
}
