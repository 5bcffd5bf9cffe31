// Tells the tenant one row of tenant_notifications. The gate (whether it can be told at all) was asked
// in the claiming transaction; the engine writes the outcome.
import { defineJob } from "../src/jobs/define.ts";
import { loadNotifications, sendNotification, type NotificationRow } from "../src/revenue/notifications/send.ts";

export default defineJob<NotificationRow>({
  table: "tenant_notifications",
  load: loadNotifications,
  effect: sendNotification,
});
