// Each minute: looks in Twilio's own list for texts whose outcome was lost.
import { defineTask } from "../src/jobs/define.ts";
import { reconcileSms } from "../src/revenue/sms/reconcile.ts";

export default defineTask((_payload, context) => reconcileSms(context));
