// Sends one row of ai_sms_queue. The gate (opt-out, consent, quiet hours, caps), pauses, rate limits
// and the circuit breaker were checked in the claiming transaction. The engine writes the outcome.
import { defineJob } from "../src/jobs/define.ts";
import { loadSms, type SmsRow } from "../src/revenue/sms/load.ts";
import { prepareSms, sendSms, type PreparedSms } from "../src/revenue/sms/send.ts";

export default defineJob<SmsRow, PreparedSms>({
  table: "ai_sms_queue",
  requires: "twilio",
  load: loadSms,
  prepare: prepareSms,
  effect: (prepared, context) => sendSms(prepared, context),
});
