// Payment links and their checkout sessions.
import { DAY } from "../clock.ts";
import { newId } from "../ids.ts";
import type { Item, Metadata, Objects } from "../types.ts";
import { totalOf } from "./catalog.ts";

type Link = Objects["payment_link"];
type Session = Objects["checkout.session"];

/** The properties that differ between new links. */
export type LinkOrder = Pick<
  Link,
  | "after_completion"
  | "allow_promotion_codes"
  | "billing_address_collection"
  | "currency"
  | "customer_creation"
  | "inactive_message"
  | "metadata"
  | "payment_intent_data"
  | "phone_number_collection"
  | "restrictions"
  | "submit_type"
  | "subscription_data"
> & { url: string; recurring: boolean };

const noTexts = { after_submit: null, shipping_address: null, submit: null, terms_of_service_acceptance: null };
const noTax = { enabled: false, liability: null };

export function newLink({ recurring, ...order }: LinkOrder): Link {
  return {
    id: newId("payment_link"),
    object: "payment_link",
    active: true,
    application: null,
    application_fee_amount: null,
    application_fee_percent: null,
    automatic_tax: noTax,
    consent_collection: null,
    custom_fields: [],
    custom_text: noTexts,
    invoice_creation: recurring ? null : noInvoice,
    livemode: false,
    managed_payments: { enabled: false },
    on_behalf_of: null,
    payment_method_collection: "always",
    payment_method_options: null,
    payment_method_types: null,
    shipping_address_collection: null,
    shipping_options: [],
    tax_id_collection: { enabled: false, required: "never" },
    transfer_data: null,
    ...order,
  };
}

const noInvoice = {
  enabled: false,
  invoice_data: {
    account_tax_ids: null,
    custom_fields: null,
    description: null,
    footer: null,
    issuer: null,
    metadata: {},
    rendering_options: null,
  },
};

export function modeOf(items: readonly Item[]): "payment" | "subscription" {
  return items.some((item) => item.price?.recurring !== null) ? "subscription" : "payment";
}

/** A new session: open and unpaid. It has the link's metadata, as at Stripe. */
export function newSession(now: number, link: Link, items: readonly Item[]): Session {
  const mode = modeOf(items);
  const total = totalOf(items);
  return {
    id: newId("checkout.session"),
    object: "checkout.session",
    adaptive_pricing: { enabled: false },
    after_expiration: null,
    allow_promotion_codes: link.allow_promotion_codes,
    allowed_payment_method_types: null,
    amount_subtotal: total,
    amount_total: total,
    automatic_tax: { ...noTax, provider: null, status: null },
    billing_address_collection: link.billing_address_collection,
    cancel_url: "https://stripe.com",
    client_reference_id: null,
    client_secret: null,
    collected_information: null,
    consent: null,
    consent_collection: null,
    created: now,
    currency: link.currency,
    currency_conversion: null,
    custom_fields: [],
    custom_text: noTexts,
    customer: null,
    customer_account: null,
    customer_creation: mode === "payment" ? link.customer_creation : "always",
    customer_details: null,
    customer_email: null,
    discounts: [],
    expires_at: now + DAY,
    integration_identifier: null,
    invoice: null,
    invoice_creation: mode === "payment" ? noInvoice : null,
    livemode: false,
    locale: "auto",
    managed_payments: { enabled: false },
    metadata: copy(link.metadata),
    mode,
    origin_context: null,
    payment_intent: null,
    payment_link: link.id,
    payment_method_collection: mode === "payment" ? "if_required" : "always",
    payment_method_configuration_details: null,
    payment_method_options: {},
    payment_method_types: ["card", "us_bank_account"],
    payment_status: "unpaid",
    permissions: null,
    phone_number_collection: link.phone_number_collection,
    recovered_from: null,
    saved_payment_method_options: null,
    setup_intent: null,
    shipping_address_collection: null,
    shipping_cost: null,
    shipping_options: [],
    status: "open",
    submit_type: link.submit_type,
    subscription: null,
    success_url: link.after_completion.redirect?.url ?? "https://stripe.com",
    total_details: { amount_discount: 0, amount_shipping: 0, amount_tax: 0 },
    ui_mode: "hosted_page",
    url: link.url,
    wallet_options: null,
  };
}

function copy(metadata: Metadata): Metadata {
  return { ...metadata };
}
