// Each minute: looks up texts whose outcome was lost in Twilio's list of messages.
import { defineTask } from "../src/jobs/define.ts";
import { reconcileSms } from "../src/revenue/sms/reconcile.ts";

export default defineTask((_payload, context) => reconcileSms(context));
