// Renders as the rendering thread does, in the test's own thread.
import type { Config } from "../../src/config.ts";
import type { Mail } from "../../src/providers/sendgrid.ts";
import { mailOf, mailTaskOf } from "../../src/revenue/email/compose.ts";
import type { EmailRow } from "../../src/revenue/email/load.ts";
import { renderMail } from "../../src/revenue/rendering/mail.ts";
import type { RenderedText } from "../../src/revenue/rendering/tasks.ts";
import { composeSms as composeText } from "../../src/revenue/sms/compose.ts";
import type { SmsRow } from "../../src/revenue/sms/load.ts";
import { textTaskOf } from "../../src/revenue/sms/send.ts";

export function composeEmail(row: EmailRow, config: Config): Mail {
  const task = mailTaskOf(row, config);
  return mailOf(row, renderMail(task), task, config);
}

export function composeSms(row: SmsRow): RenderedText {
  return composeText(textTaskOf(row));
}
