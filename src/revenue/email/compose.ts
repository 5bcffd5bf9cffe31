// Row -> mail. Pure. An error it throws is caused by the row, which fails with the error's message.
import type { Config } from "../../config.ts";
import { messageOf } from "../../errors.ts";
import type { Mail } from "../../providers/sendgrid.ts";
import { withFooter } from "./footer.ts";
import { htmlParts } from "./html.ts";
import type { EmailRow } from "./load.ts";
import { isHtml, renderHtml, renderText } from "./template.ts";

/**
 * The variables of a template: postal_address, the keys of metadata (which override postal_address),
 * and the objects metadata, lead and tenant, and unsubscribe_url (null unless the mail is marketing).
 */
export function variablesOf(
  row: Pick<EmailRow, "tenant" | "metadata" | "lead">,
  unsubscribeUrl: string | null,
): object {
  const tenant = { name: row.tenant.name, slug: row.tenant.slug };
  const postal_address = postalAddressOf(row);
  return {
    postal_address,
    ...row.metadata,
    metadata: row.metadata,
    lead: row.lead,
    tenant,
    unsubscribe_url: unsubscribeUrl,
  };
}

export function postalAddressOf({ tenant }: Pick<EmailRow, "tenant">): string | null {
  return stringOf(tenant.settings["postal_address"]);
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

export const EMPTY = {
  subject: "subject: is empty after rendering",
  body: "body: is empty after rendering",
} as const;

export function composeEmail(row: EmailRow, config: Config): Mail {
  const unsubscribeUrl = unsubscribeUrlOf(row, config);
  const variables = variablesOf(row, unsubscribeUrl);
  const subject = oneLine(rendered("subject", () => renderText(row.subject, variables)));
  if (subject === "") throw new Error(EMPTY.subject);
  const body = unsubscribeUrl === null ? row.body : withFooter(row.body, postalAddressOf(row));
  const { html, text } = rendered("body", () => partsOf(body, variables));
  if (text.trim() === "") throw new Error(EMPTY.body);
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

/** The mail's From, Reply-To and category. `from` is "" if neither settings.mail_from nor MAIL_FROM is set. */
export function sendingOf(
  { tenant, metadata }: Pick<EmailRow, "tenant" | "metadata">,
  config: Config,
): Pick<Mail, "from" | "fromTenant" | "replyTo" | "category"> {
  const tenantFrom = stringOf(tenant.settings["mail_from"]);
  const replyTo = stringOf(metadata["reply_to"]);
  const category = stringOf(metadata["category"]);
  return {
    from: tenantFrom ?? config.MAIL_FROM ?? "",
    fromTenant: tenantFrom !== null,
    ...(replyTo === null ? {} : { replyTo }),
    ...(category === null ? {} : { category }),
  };
}

/** A body without an HTML tag is plain text; its line breaks become <br> in the HTML part. */
function partsOf(body: string, variables: object): { html: string; text: string } {
  if (isHtml(body)) return htmlParts(body, variables);
  return { html: paragraph(renderHtml(escaped(body), variables)), text: renderText(body, variables) };
}

export function escaped(body: string): string {
  return body.replaceAll("&", "&amp;").replaceAll(">", "&gt;");
}

export function paragraph(text: string): string {
  return `<p>${withBreaks(text)}</p>`;
}

export function withBreaks(text: string): string {
  return text.replaceAll(/\r?\n/g, "<br>\n");
}

export function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ").trim();
}

export function rendered<T>(column: string, render: () => T): T {
  try {
    return render();
  } catch (error) {
    throw new Error(`${column}: Liquid cannot be rendered: ${messageOf(error).replaceAll(/\s+/g, " ")}`, {
      cause: error,
    });
  }
}

function stringOf(value: unknown): string | null {
  return typeof value === "string" && value.trim() !== "" ? value : null;
}
