// What the thread renders of a row, and the mail with the result.
import type { Config } from "../../config.ts";
import type { Mail } from "../../providers/sendgrid.ts";
import { LIMITS, limitError, shown } from "../rendering/limits.ts";
import type { MailTask, RenderedMail, Variables } from "../rendering/tasks.ts";
import type { EmailRow } from "./load.ts";

/** What the row's template is rendered from. Of the tenant's settings it has the postal address alone. */
export function mailTaskOf(
  row: Pick<EmailRow, "subject" | "body" | "metadata" | "lead" | "tenant" | "unsubscribe_token">,
  config: Config,
): MailTask {
  const { subject, body, metadata, lead } = row;
  const unsubscribeUrl = unsubscribeUrlOf(row, config);
  return { kind: "mail", subject, body, metadata, lead, tenant: tenantOf(row), unsubscribeUrl };
}

export function tenantOf({ tenant }: Pick<EmailRow, "tenant">): Variables["tenant"] {
  return { name: tenant.name, slug: tenant.slug, postalAddress: stringOf(tenant.settings["postal_address"]) };
}

/** The one-click link of RFC 8058, below PUBLIC_URL. Null if the mail is not marketing or PUBLIC_URL is not set. */
export function unsubscribeUrlOf(row: Pick<EmailRow, "unsubscribe_token">, config: Config): string | null {
  if (row.unsubscribe_token === null || config.PUBLIC_URL === undefined) return null;
  return linksUnder(config.PUBLIC_URL) + row.unsubscribe_token;
}

let links = { publicUrl: "", href: "" };

/** Caches the parsed URL: a process has one PUBLIC_URL, and parsing it for every mail is slow. */
function linksUnder(publicUrl: string): string {
  if (links.publicUrl !== publicUrl) links = { publicUrl, href: new URL("/unsubscribe/", publicUrl).href };
  return links.href;
}

export function mailOf(
  row: Pick<EmailRow, "id" | "address" | "tenant" | "metadata">,
  { subject, html, text }: RenderedMail,
  { unsubscribeUrl }: MailTask,
  config: Config,
): Mail {
  return {
    rowId: row.id,
    to: row.address,
    subject,
    html,
    text,
    ...sendingOf(row, config),
    ...(unsubscribeUrl === null ? {} : { unsubscribeUrl }),
  };
}

/**
 * The mail's From, Reply-To and category. `from` is "" if neither settings.mail_from nor MAIL_FROM is set. Throws if
 * one of the tenant's cannot be a header.
 */
export function sendingOf(
  { tenant, metadata }: Pick<EmailRow, "tenant" | "metadata">,
  config: Config,
): Pick<Mail, "from" | "fromTenant" | "replyTo" | "category"> {
  const tenantFrom = headerOf("settings.mail_from", tenant.settings["mail_from"]);
  const replyTo = headerOf("metadata.reply_to", metadata["reply_to"]);
  const category = headerOf("metadata.category", metadata["category"]);
  return {
    from: tenantFrom ?? config.MAIL_FROM ?? "",
    fromTenant: tenantFrom !== null,
    ...(replyTo === null ? {} : { replyTo }),
    ...(category === null ? {} : { category }),
  };
}

function headerOf(name: string, value: unknown): string | null {
  const text = stringOf(value);
  if (text === null) return null;
  const most = LIMITS.headerCharacters;
  if (text.length > most) throw limitError(name, `has ${shown(text.length)} characters`, `${most}`);
  if (/\p{Cc}/u.test(text)) {
    throw new Error(`${name}: ${JSON.stringify(text)} contains a control character, such as a line break; remove it`);
  }
  return text;
}

function stringOf(value: unknown): string | null {
  return typeof value === "string" && value.trim() !== "" ? value : null;
}
