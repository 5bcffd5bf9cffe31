// Deactivates the payment link of one row of payment_link_closures, after its request was cancelled or has expired.
import { defineJob } from "../src/jobs/define.ts";
import { deactivateLink, loadPaymentClosures, type PaymentClosureRow } from "../src/revenue/payments/deactivate.ts";

export default defineJob<PaymentClosureRow>({
  table: "payment_link_closures",
  requires: "stripe",
  load: loadPaymentClosures,
  effect: deactivateLink,
});
