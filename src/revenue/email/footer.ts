// What the law wants in marketing mail, and its author may have left out: whose it is with a postal
// address (CAN-SPAM, 15 USC 7704(a)(5)), and a way out that can be seen.
import { isHtml } from "./template.ts";

/**
 * The template with what it lacks of the two at its end. An address counts as there when it is
 * written out or comes in by {{ postal_address }}, the way out when {{ unsubscribe_url }} does.
 */
export function withFooter(body: string, postalAddress: string | null): string {
  const hasAddress = body.includes("postal_address") || (postalAddress !== null && body.includes(postalAddress));
  const hasWayOut = body.includes("unsubscribe_url");
  if (isHtml(body)) {
    const parts = [
      ...(hasAddress ? [] : ["{{ tenant.name }}, {{ postal_address }}"]),
      ...(hasWayOut ? [] : ['<a href="{{ unsubscribe_url }}">Unsubscribe</a>']),
    ];
    return parts.length === 0 ? body : `${body}\n<p style="color:#666;font-size:12px">${parts.join("<br>")}</p>`;
  }
  const lines = [
    ...(hasAddress ? [] : ["{{ tenant.name }}, {{ postal_address }}"]),
    ...(hasWayOut ? [] : ["Unsubscribe: {{ unsubscribe_url }}"]),
  ];
  return lines.length === 0 ? body : `${body}\n\n-- \n${lines.join("\n")}`;
}
