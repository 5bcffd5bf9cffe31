// The payer and the payment method.
import { newId, letters } from "../ids.ts";
import type { Objects } from "../types.ts";

/** How the bank answers. The delayed methods are direct debits: processing at first, then paid or failed days later. */
export type Card = "ok" | "declined" | "async_ok" | "async_fail";

export interface Payer {
  email: string;
  name?: string;
  /** @default "ok" */
  card?: Card;
}

export const noAddress = { city: null, country: null, line1: null, line2: null, postal_code: null, state: null };

export function newCustomer(now: number, payer: Payer, currency: string): Objects["customer"] {
  return {
    id: newId("customer"),
    object: "customer",
    address: noAddress,
    balance: 0,
    created: now,
    currency,
    default_source: null,
    delinquent: false,
    description: null,
    discount: null,
    email: payer.email,
    invoice_prefix: letters(8).toUpperCase(),
    invoice_settings: { custom_fields: null, default_payment_method: null, footer: null, rendering_options: null },
    livemode: false,
    metadata: {},
    name: payer.name ?? null,
    next_invoice_sequence: 1,
    phone: null,
    preferred_locales: [],
    shipping: null,
    tax_exempt: "none",
    test_clock: null,
  };
}

/** A card with Stripe's test number for this answer, or a bank account. */
export function newMethod(now: number, payer: Payer, customer: string | null): Objects["payment_method"] {
  const delayed = payer.card === "async_ok" || payer.card === "async_fail";
  return {
    id: newId("payment_method"),
    object: "payment_method",
    allow_redisplay: "limited",
    billing_details: { address: noAddress, email: payer.email, name: payer.name ?? null, phone: null, tax_id: null },
    created: now,
    customer,
    customer_account: null,
    livemode: false,
    metadata: {},
    type: delayed ? "us_bank_account" : "card",
    ...(delayed ? { us_bank_account: bank } : { card: cardOf(payer) }),
  };
}

const bank: NonNullable<Objects["payment_method"]["us_bank_account"]> = {
  account_holder_type: "individual",
  account_type: "checking",
  bank_name: "STRIPE TEST BANK",
  financial_connections_account: null,
  fingerprint: "SimulatedBankAcc",
  last4: "6789",
  networks: { preferred: "ach", supported: ["ach"] },
  routing_number: "110000000",
  status_details: null,
};

function cardOf(payer: Payer): NonNullable<Objects["payment_method"]["card"]> {
  return {
    brand: "visa",
    checks: { address_line1_check: null, address_postal_code_check: null, cvc_check: "pass" },
    country: "US",
    display_brand: "visa",
    exp_month: 12,
    exp_year: 2040,
    fingerprint: "SimulatedVisaCrd",
    funding: "credit",
    generated_from: null,
    last4: payer.card === "declined" ? "0002" : "4242",
    networks: { available: ["visa"], preferred: null },
    regulated_status: "unregulated",
    three_d_secure_usage: { supported: true },
    wallet: null,
  };
}
