// SendGrid's stand-in as a process of its own: what it takes and remembers is not the pipeline's.
// Told "stats", it answers with its counts.
import { startSendgridSimulator } from "../../src/simulator/sendgrid/index.ts";

const simulator = await startSendgridSimulator({ events: false, keepMessages: false, requestsPerSecond: 1_000_000 });
process.on("message", () => process.send?.({ ...simulator.stats, duplicates: simulator.duplicates().length }));
process.on("disconnect", () => process.exit());
process.send?.({ url: simulator.url });
