// A local stand-in for Twilio's Messages API that speaks its protocol. Never runs unless it is started by this call.
import { control } from "./control.ts";
import type { TwilioSimulatorOptions } from "./options.ts";
import { TwilioSimulator } from "./simulator.ts";

export type { TwilioSimulatorOptions } from "./options.ts";
export type { TwilioSimulator } from "./simulator.ts";

export async function startTwilioSimulator(options: TwilioSimulatorOptions = {}): Promise<TwilioSimulator> {
  const simulator = new TwilioSimulator(options, control);
  await simulator.listen(options.port ?? 0);
  return simulator;
}
