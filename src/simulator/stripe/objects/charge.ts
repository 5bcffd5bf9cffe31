// One attempt at a payment: what the bank was asked, and with which payment method.
import { letters, newId } from "../ids.ts";
import type { Objects } from "../types.ts";
import { noAddress } from "./payer.ts";

type Charge = Objects["charge"];
type Method = Objects["payment_method"];

export function newCharge(now: number, intent: Objects["payment_intent"], method: Method): Charge {
  const id = newId("charge");
  return {
    id,
    object: "charge",
    amount: intent.amount,
    amount_captured: 0,
    amount_refunded: 0,
    application: null,
    application_fee: null,
    application_fee_amount: null,
    balance_transaction: null,
    billing_details: { ...method.billing_details, address: noAddress },
    calculated_statement_descriptor: "SIMULATOR",
    captured: false,
    created: now,
    currency: intent.currency,
    customer: intent.customer,
    description: intent.description,
    disputed: false,
    failure_balance_transaction: null,
    failure_code: null,
    failure_message: null,
    fraud_details: {},
    livemode: false,
    metadata: { ...intent.metadata },
    on_behalf_of: null,
    outcome: null,
    paid: false,
    payment_intent: intent.id,
    payment_method: method.id,
    payment_method_details: detailsOf(method, intent.amount),
    radar_options: {},
    receipt_email: intent.receipt_email,
    receipt_number: null,
    receipt_url: null,
    refunded: false,
    review: null,
    shipping: null,
    source: null,
    source_transfer: null,
    statement_descriptor: null,
    statement_descriptor_suffix: null,
    status: "pending",
    transfer_data: null,
    transfer_group: null,
  };
}

function detailsOf(method: Method, amount: number): Charge["payment_method_details"] {
  const { card, us_bank_account: bank } = method;
  if (card === undefined) {
    return {
      type: "us_bank_account",
      us_bank_account: {
        account_holder_type: "individual",
        account_type: "checking",
        bank_name: bank?.bank_name ?? null,
        fingerprint: bank?.fingerprint ?? null,
        last4: bank?.last4 ?? null,
        mandate: `mandate_1${letters(23)}`,
        payment_reference: null,
        routing_number: bank?.routing_number ?? null,
      },
    };
  }
  return {
    type: "card",
    card: {
      amount_authorized: amount,
      authorization_code: letters(6).toUpperCase(),
      brand: card.brand,
      checks: card.checks,
      country: card.country,
      electronic_commerce_indicator: null,
      exp_month: card.exp_month,
      exp_year: card.exp_year,
      extended_authorization: { status: "disabled" },
      fingerprint: card.fingerprint ?? null,
      funding: card.funding,
      incremental_authorization: { status: "unavailable" },
      installments: null,
      last4: card.last4,
      mandate: null,
      multicapture: { status: "unavailable" },
      network: "visa",
      network_token: { used: false },
      network_transaction_id: letters(15).toUpperCase(),
      overcapture: { maximum_amount_capturable: amount, status: "unavailable" },
      regulated_status: "unregulated",
      three_d_secure: null,
      transaction_link_id: null,
      wallet: null,
    },
  };
}
