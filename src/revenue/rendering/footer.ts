// What the law requires in marketing mail: the sender's name and postal address (CAN-SPAM, 15 USC
// 7704(a)(5)) and a visible unsubscribe link.
import { isHtml } from "./template.ts";

/**
 * Appends the postal address and the unsubscribe link to the template, each only if it is missing. The
 * address is present if the body contains it or uses {{ postal_address }}; the link is present if the
 * body uses {{ unsubscribe_url }}.
 */
export function withFooter(body: string, postalAddress: string | null): string {
  const hasAddress = body.includes("postal_address") || (postalAddress !== null && body.includes(postalAddress));
  const hasLink = body.includes("unsubscribe_url");
  if (isHtml(body)) {
    const parts = [
      ...(hasAddress ? [] : ["{{ tenant.name }}, {{ postal_address }}"]),
      ...(hasLink ? [] : ['<a href="{{ unsubscribe_url }}">Unsubscribe</a>']),
    ];
    return parts.length === 0 ? body : `${body}\n<p style="color:#666;font-size:12px">${parts.join("<br>")}</p>`;
  }
  const lines = [
    ...(hasAddress ? [] : ["{{ tenant.name }}, {{ postal_address }}"]),
    ...(hasLink ? [] : ["Unsubscribe: {{ unsubscribe_url }}"]),
  ];
  return lines.length === 0 ? body : `${body}\n\n-- \n${lines.join("\n")}`;
}
