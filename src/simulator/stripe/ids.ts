// Ids in Stripe's format: a prefix for the kind, and random letters and digits.
import { randomInt } from "node:crypto";

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/** Prefix and length of the random part, by kind. Not seeded, so that two simulators never share an id. */
const forms = {
  account: ["acct_1", 15],
  product: ["prod_", 14],
  price: ["price_1", 23],
  payment_link: ["plink_1", 23],
  item: ["li_1", 23],
  "checkout.session": ["cs_test_a1", 56],
  customer: ["cus_", 14],
  payment_method: ["pm_1", 23],
  payment_intent: ["pi_3", 23],
  charge: ["ch_3", 23],
  balance_transaction: ["txn_3", 23],
  refund: ["re_3", 23],
  dispute: ["du_1", 23],
  subscription: ["sub_1", 23],
  subscription_item: ["si_", 14],
  invoice: ["in_1", 23],
  line_item: ["il_1", 23],
  invoice_payment: ["inpay_1", 23],
  event: ["evt_1", 23],
  webhook_endpoint: ["we_1", 23],
  request: ["req_", 14],
  webhook_secret: ["whsec_", 32],
  link_code: ["test_", 18],
} as const;

export function newId(kind: keyof typeof forms): string {
  const [prefix, length] = forms[kind];
  return prefix + letters(length);
}

export function letters(length: number): string {
  return Array.from({ length }, () => alphabet.charAt(randomInt(alphabet.length))).join("");
}
