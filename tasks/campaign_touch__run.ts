// Performs one row of ai_campaign_touches: runs its step and creates the next touch, in one
// transaction. The gate (enrolment ended or held) was checked in the claiming transaction.
import { defineJob } from "../src/jobs/define.ts";
import { loadTouches, performTouch, type TouchRow } from "../src/revenue/campaigns/perform.ts";

export default defineJob<TouchRow>({
  table: "ai_campaign_touches",
  load: loadTouches,
  effect: performTouch,
});
