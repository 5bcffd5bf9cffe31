// A local stand-in for Stripe that speaks its protocol. Never runs unless it is started by this call.
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
