// Makes the payment link of one row of payment_requests. The gate (paid already, expired, pause, rate,
// breaker) was asked in the claiming transaction; the engine writes the outcome.
import { defineJob } from "../src/jobs/define.ts";
import { createLink, loadPaymentRequests, type PaymentRequestRow } from "../src/revenue/payments/createLink.ts";

export default defineJob<PaymentRequestRow>({
  table: "payment_requests",
  requires: "stripe",
  load: loadPaymentRequests,
  effect: createLink,
});
