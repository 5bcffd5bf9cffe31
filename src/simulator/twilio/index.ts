// A local simulator of Twilio's Messages API that speaks its protocol. It runs only when this function is called.
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
