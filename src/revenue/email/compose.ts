// Row -> mail. Pure: what it throws is the row's own fault and makes it fail with that sentence.
import { convert } from "html-to-text";
import type { Config } from "../../config.ts";
import { messageOf } from "../../errors.ts";
import type { Mail } from "../../providers/sendgrid.ts";
import type { EmailRow } from "./load.ts";
import { renderHtml, renderText } from "./template.ts";

/** Variables of the templates: metadata's keys at the top, and metadata, lead and tenant by name. */
function variablesOf(row: EmailRow, unsubscribeUrl: string | null): object {
  const tenant = { name: row.tenant.name, slug: row.tenant.slug };
  return { ...row.metadata, metadata: row.metadata, lead: row.lead, tenant, unsubscribe_url: unsubscribeUrl };
}

/** RFC 8058 asks for an https link that works without a login; PUBLIC_URL is where it leads. */
export function unsubscribeUrlOf(row: EmailRow, config: Config): string | null {
  if (row.unsubscribe_token === null || config.PUBLIC_URL === undefined) return null;
  return new URL(`/unsubscribe/${row.unsubscribe_token}`, config.PUBLIC_URL).href;
}

export function composeEmail(row: EmailRow, config: Config): Mail {
  const unsubscribeUrl = unsubscribeUrlOf(row, config);
  const variables = variablesOf(row, unsubscribeUrl);
  const subject = rendered("subject", () => renderText(row.subject, variables))
    .replaceAll(/\s+/g, " ")
    .trim();
  if (subject === "") throw new Error("subject: is empty once its variables are filled in");
  const { html, text } = rendered("body", () => partsOf(row.body, variables));
  if (text.trim() === "") throw new Error("body: is empty once its variables are filled in");
  const ownFrom = stringOf(row.tenant.settings["mail_from"]);
  const replyTo = stringOf(row.metadata["reply_to"]);
  const category = stringOf(row.metadata["category"]);
  return {
    rowId: row.id,
    to: row.address,
    from: ownFrom ?? config.MAIL_FROM ?? "",
    fromTenant: ownFrom !== null,
    subject,
    html,
    text,
    ...(replyTo === null ? {} : { replyTo }),
    ...(category === null ? {} : { category }),
    ...(unsubscribeUrl === null ? {} : { unsubscribeUrl }),
  };
}

/** A body without a tag is plain text, as many writers send it: its line breaks are kept. */
function partsOf(body: string, variables: object): { html: string; text: string } {
  if (/<[a-z!/]/i.test(body)) {
    const html = renderHtml(body, variables);
    return { html, text: convert(html, { wordwrap: 78 }) };
  }
  const escaped = renderHtml(body.replaceAll("&", "&amp;").replaceAll(">", "&gt;"), variables);
  return { html: `<p>${escaped.replaceAll(/\r?\n/g, "<br>\n")}</p>`, text: renderText(body, variables) };
}

function rendered<T>(column: string, render: () => T): T {
  try {
    return render();
  } catch (error) {
    throw new Error(`${column}: its Liquid cannot be rendered: ${messageOf(error).replaceAll(/\s+/g, " ")}`, {
      cause: error,
    });
  }
}

function stringOf(value: unknown): string | null {
  return typeof value === "string" && value.trim() !== "" ? value : null;
}
