// Refunds and disputes.
import { DAY } from "../clock.ts";
import { newId } from "../ids.ts";
import type { Metadata, Objects } from "../types.ts";

type Charge = Objects["charge"];
type Dispute = Objects["dispute"];

export function newRefund(
  now: number,
  charge: Charge,
  order: { amount: number; reason: Objects["refund"]["reason"]; metadata: Metadata; movement: string },
): Objects["refund"] {
  const card = charge.payment_method_details?.type === "card";
  return {
    id: newId("refund"),
    object: "refund",
    amount: order.amount,
    balance_transaction: order.movement,
    charge: charge.id,
    created: now,
    currency: charge.currency,
    customer: charge.customer,
    customer_account: null,
    destination_details: card
      ? {
          card: { reference_status: "pending", reference_type: "acquirer_reference_number", type: "refund" },
          type: "card",
        }
      : { type: "us_bank_transfer", us_bank_transfer: { reference: null, reference_status: "pending" } },
    metadata: order.metadata,
    payment_intent: charge.payment_intent,
    payment_method: charge.payment_method,
    reason: order.reason,
    receipt_number: null,
    source_transfer_reversal: null,
    status: "succeeded",
    transfer_reversal: null,
  };
}

export interface DisputeOrder {
  amount: number;
  reason: string;
  /** An inquiry withdraws no money yet. */
  inquiry: boolean;
}

export function newDispute(now: number, charge: Charge, order: DisputeOrder): Dispute {
  return {
    id: newId("dispute"),
    object: "dispute",
    amount: order.amount,
    balance_transactions: [],
    charge: charge.id,
    created: now,
    currency: charge.currency,
    enhanced_eligibility_types: [],
    evidence: noEvidence(),
    evidence_details: {
      due_by: now + 9 * DAY,
      enhanced_eligibility: {},
      has_evidence: false,
      past_due: false,
      submission_count: 0,
      submission_method: "not_submitted",
    },
    intended_submission_method: null,
    is_charge_refundable: order.inquiry,
    livemode: false,
    metadata: {},
    payment_intent: charge.payment_intent,
    payment_method_details: {
      card: {
        brand: "visa",
        case_type: order.inquiry ? "inquiry" : "chargeback",
        network: "visa",
        network_reason_code: "10.4",
      },
      type: "card",
    },
    reason: order.reason,
    status: order.inquiry ? "warning_needs_response" : "needs_response",
  };
}

function noEvidence(): Dispute["evidence"] {
  return {
    access_activity_log: null,
    billing_address: null,
    cancellation_policy: null,
    cancellation_policy_disclosure: null,
    cancellation_rebuttal: null,
    customer_communication: null,
    customer_email_address: null,
    customer_name: null,
    customer_purchase_ip: null,
    customer_signature: null,
    duplicate_charge_documentation: null,
    duplicate_charge_explanation: null,
    duplicate_charge_id: null,
    enhanced_evidence: {},
    product_description: null,
    receipt: null,
    refund_policy: null,
    refund_policy_disclosure: null,
    refund_refusal_explanation: null,
    service_date: null,
    service_documentation: null,
    shipping_address: null,
    shipping_carrier: null,
    shipping_date: null,
    shipping_documentation: null,
    shipping_tracking_number: null,
    uncategorized_file: null,
    uncategorized_text: null,
  };
}
