// Delivers one row of tenant_notifications to the tenant. The gate (whether the tenant has a channel
// for it) was checked in the claiming transaction. The engine writes the outcome.
import { defineJob } from "../src/jobs/define.ts";
import { loadNotifications, sendNotification, type NotificationRow } from "../src/revenue/notifications/send.ts";

export default defineJob<NotificationRow>({
  table: "tenant_notifications",
  load: loadNotifications,
  effect: sendNotification,
});
