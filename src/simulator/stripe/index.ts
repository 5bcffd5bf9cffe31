// A local Stripe simulator that speaks Stripe's protocol. It runs only when this function is called.
import { control } from "./control.ts";
import type { StripeSimulatorOptions } from "./options.ts";
import { page } from "./page.ts";
import { StripeSimulator } from "./simulator.ts";

export type { StripeSimulatorOptions } from "./options.ts";
export type { StripeSimulator } from "./simulator.ts";

export async function startStripeSimulator(options: StripeSimulatorOptions = {}): Promise<StripeSimulator> {
  const simulator = new StripeSimulator(options, { control, page });
  await simulator.listen(options.port ?? 0);
  return simulator;
}
