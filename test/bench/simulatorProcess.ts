// Entry of the simulator's process, so that its CPU time and memory do not count for the pipeline. Answers
// every message with its counts.
import { startSendgridSimulator } from "../../src/simulator/sendgrid/index.ts";

const simulator = await startSendgridSimulator({ events: false, keepMessages: false, requestsPerSecond: 1_000_000 });
process.on("message", () => process.send?.({ ...simulator.stats, duplicates: simulator.duplicates().length }));
process.on("disconnect", () => process.exit());
process.send?.({ url: simulator.url });
