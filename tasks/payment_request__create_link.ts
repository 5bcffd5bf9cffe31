// Creates the payment link of one row of payment_requests. The gate (already paid, expired), pauses,
// rate limits and the circuit breaker were checked in the claiming transaction. The engine writes the
// outcome.
import { defineJob } from "../src/jobs/define.ts";
import { createLink, loadPaymentRequests, type PaymentRequestRow } from "../src/revenue/payments/createLink.ts";

export default defineJob<PaymentRequestRow>({
  table: "payment_requests",
  requires: "stripe",
  load: loadPaymentRequests,
  effect: createLink,
});
