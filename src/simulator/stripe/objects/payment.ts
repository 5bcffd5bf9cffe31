// One payment, and its entry on the balance.
import { DAY } from "../clock.ts";
import { letters, newId } from "../ids.ts";
import type { Metadata, Objects } from "../types.ts";

export interface IntentOrder {
  amount: number;
  currency: string;
  customer: string | null;
  description: string | null;
  metadata: Metadata;
  receiptEmail: string | null;
  offSession: boolean;
}

export function newIntent(now: number, order: IntentOrder): Objects["payment_intent"] {
  const id = newId("payment_intent");
  return {
    id,
    object: "payment_intent",
    allowed_payment_method_types: null,
    amount: order.amount,
    amount_capturable: 0,
    amount_details: { tip: {} },
    amount_received: 0,
    application: null,
    application_fee_amount: null,
    automatic_payment_methods: null,
    canceled_at: null,
    cancellation_reason: null,
    capture_method: "automatic",
    client_secret: `${id}_secret_${letters(25)}`,
    confirmation_method: "automatic",
    created: now,
    currency: order.currency,
    customer: order.customer,
    customer_account: null,
    description: order.description,
    excluded_payment_method_types: null,
    last_payment_error: null,
    latest_charge: null,
    livemode: false,
    managed_payments: { enabled: false },
    metadata: order.metadata,
    next_action: null,
    on_behalf_of: null,
    payment_method: null,
    payment_method_configuration_details: null,
    payment_method_options: {},
    payment_method_types: ["card", "us_bank_account"],
    payment_record: null,
    processing: null,
    receipt_email: order.receiptEmail,
    review: null,
    setup_future_usage: order.offSession ? "off_session" : null,
    shipping: null,
    source: null,
    statement_descriptor: null,
    statement_descriptor_suffix: null,
    status: "requires_payment_method",
    transfer_data: null,
    transfer_group: null,
  };
}

export interface MovementOrder {
  /** Signed, before the fee. */
  amount: number;
  fee: number;
  currency: string;
  type: Objects["balance_transaction"]["type"];
  category: string;
  source: string;
  description: string | null;
}

/** The balance entry of a charge, refund or dispute; available two days later, as for cards in the US. */
export function newMovement(now: number, order: MovementOrder): Objects["balance_transaction"] {
  const { amount, fee, currency } = order;
  return {
    id: newId("balance_transaction"),
    object: "balance_transaction",
    amount,
    available_on: now + 2 * DAY,
    balance_type: "payments",
    created: now,
    currency,
    description: order.description,
    exchange_rate: null,
    fee,
    fee_details:
      fee === 0
        ? []
        : [{ amount: fee, application: null, currency, description: "Stripe processing fees", type: "stripe_fee" }],
    net: amount - fee,
    reporting_category: order.category,
    source: order.source,
    status: "pending",
    type: order.type,
  };
}
