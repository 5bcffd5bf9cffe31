// A local SendGrid simulator that speaks SendGrid's protocol. It runs only when this function is called.
import { control } from "./control.ts";
import type { SendgridSimulatorOptions } from "./options.ts";
import { SendgridSimulator } from "./simulator.ts";

export type { FaultRule } from "./faults.ts";
export type { SendgridSimulatorOptions } from "./options.ts";
export type { SendgridSimulator } from "./simulator.ts";
export type { SendgridEvent } from "./types.ts";

export async function startSendgridSimulator(options: SendgridSimulatorOptions = {}): Promise<SendgridSimulator> {
  const simulator = new SendgridSimulator(options, control);
  await simulator.listen(options.port ?? 0);
  return simulator;
}
