// The page of a payment link: says that it is a simulator, and lets a person pay.
import type { IncomingMessage, ServerResponse } from "node:http";
import { closedReason } from "./acts/checkout.ts";
import type { Payer } from "./objects/payer.ts";
import { readBody } from "./server.ts";
import type { StripeSimulator } from "./simulator.ts";
import type { Objects } from "./types.ts";

const cards: readonly (readonly [card: NonNullable<Payer["card"]>, label: string])[] = [
  ["ok", "A card that works"],
  ["declined", "A card that is declined"],
  ["async_ok", "A bank debit that succeeds after three days"],
  ["async_fail", "A bank debit that fails after three days"],
];

export async function page(
  request: IncomingMessage,
  response: ServerResponse,
  simulator: StripeSimulator,
): Promise<void> {
  const body = await readBody(request);
  if (body === null) return;
  const { pathname, searchParams } = new URL(request.url ?? "/", "http://127.0.0.1");
  const link = simulator.links().find((each) => each.url === simulator.url + pathname);
  if (link === undefined)
    return show(
      response,
      404,
      "This payment link does not exist",
      "<p>Links are kept in memory: a restart of the simulator removes them.</p>",
    );
  const closed = closedReason(link);
  if (closed !== null) return show(response, 200, "This link does not accept payments", `<p>${escaped(closed)}</p>`);
  if (request.method !== "POST")
    return show(response, 200, "Pay", form(link, simulator, searchParams.get("prefilled_email") ?? ""));
  const { outcome, reason } = simulator.pay(link.url, payerOf(new URLSearchParams(body)));
  if (outcome === "declined") {
    return show(response, 402, "Your card was declined", `<p><a href="${escaped(pathname)}">Try again</a></p>`);
  }
  const { redirect, hosted_confirmation: confirmation } = link.after_completion;
  if (redirect !== undefined) {
    response.writeHead(303, { Location: redirect.url }).end();
    return;
  }
  const title = outcome === "processing" ? "Your payment is being processed" : "Thank you for your payment";
  show(response, 200, title, `<p>${escaped(confirmation?.custom_message ?? reason ?? "")}</p>`);
}

function payerOf(input: URLSearchParams): Payer {
  const card = cards.find(([each]) => each === input.get("card"))?.[0] ?? "ok";
  const name = input.get("name") ?? "";
  return { email: input.get("email") ?? "", card, ...(name === "" ? {} : { name }) };
}

function form(link: Objects["payment_link"], simulator: StripeSimulator, email: string): string {
  const lines = simulator.linesOf(link.id).map(({ description, quantity, amount_total: total, currency, price }) => {
    const every = price?.recurring === null || price === null ? "" : ` every ${price.recurring.interval}`;
    return `<li>${quantity} × ${escaped(description ?? "")}: <b>${amountIn(total, currency)}</b>${escaped(every)}</li>`;
  });
  const choices = cards.map(([card, label]) => `<option value="${card}">${label}</option>`);
  return `<ul>${lines.join("")}</ul>
<form method="post">
<label>E-mail <input name="email" type="email" required value="${escaped(email)}"></label>
<label>Name <input name="name"></label>
<label>With <select name="card">${choices.join("")}</select></label>
<button>Pay</button>
</form>`;
}

/** The amount in the currency's decimals, as Stripe counts them. */
export function amountIn(minor: number, currency: string): string {
  const format = new Intl.NumberFormat("en-US", { style: "currency", currency });
  return format.format(minor / 10 ** (format.resolvedOptions().maximumFractionDigits ?? 2));
}

function show(response: ServerResponse, status: number, title: string, content: string): void {
  response.writeHead(status, { "Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store" })
    .end(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${title} · Stripe simulator</title>
<style>body{font:16px/1.5 system-ui;max-width:26rem;margin:3rem auto;padding:0 1rem}label{display:block;margin:.6rem 0}
input,select{font:inherit;width:100%;box-sizing:border-box}.note{background:#fff3cd;padding:.5rem .8rem;border-radius:.3rem}</style>
<p class="note">This is a simulator, not Stripe. No money moves, whatever is entered here.</p>
<h1>${title}</h1>
${content}
</html>
`);
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
