// Performs one row of ai_campaign_touches: what its step makes, and the next touch, in one
// transaction. The gate (the enrolment is over, or held) was asked in the claiming transaction.
import { defineJob } from "../src/jobs/define.ts";
import { loadTouches, performTouch, type TouchRow } from "../src/revenue/campaigns/perform.ts";

export default defineJob<TouchRow>({
  table: "ai_campaign_touches",
  load: loadTouches,
  effect: performTouch,
});
