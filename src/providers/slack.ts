// Slack's incoming webhooks: one POST, answered with "ok", and the mapping of other answers to outcomes.
import { codeOf } from "../errors.ts";
import type { Outcome } from "../jobs/outcome.ts";
import { watchRequests } from "../jobs/requests.ts";
import { OutboundRefusedError, sendOutbound, type OutboundAnswer } from "./outbound.ts";

/** Where Slack's webhooks are. config.SLACK_BASE_URL replaces the first. */
const ORIGINS = ["https://hooks.slack.com", "https://hooks.slack-gov.com"];
// Shorter than the table's time limit, so that this file classifies the timeout and not the engine.
const TIMEOUT_MS = 10_000;
const RETRY_AFTER_SECONDS = 60;
// Slack's answers are one word.
const MAX_BYTES = 1000;

export interface SlackMessage {
  /** One line, shown in bold. */
  readonly title: string;
  readonly text: string;
}

/** Whether the text is the URL of a webhook at Slack, and nothing more than that: no port, credentials or query. */
export function isSlackWebhook(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { origin, pathname, href } = new URL(text);
  return ORIGINS.includes(origin) && pathname.length > 1 && href === origin + pathname;
}

/**
 * Posts to the webhook. Never throws: every error becomes an outcome. `fail` means that the webhook no longer accepts
 * messages, is not at Slack, or that nothing can be sent to it. Its reason is shown to the tenant, so it contains nothing of the answer but a code.
 */
export async function postToSlack(
  webhookUrl: string,
  message: SlackMessage,
  {
    baseUrl,
    now,
    signal,
  }: {
    /** config.SLACK_BASE_URL: what the operator wants to be called instead of https://hooks.slack.com. */
    readonly baseUrl: string;
    readonly now: () => Date;
    readonly signal: AbortSignal;
  },
): Promise<Outcome> {
  // Checked when it was stored, too; but the credential may be older than the check.
  if (!isSlackWebhook(webhookUrl)) {
    return { kind: "fail", reason: "The Slack credential's webhook_url is not a webhook of hooks.slack.com" };
  }
  const url = new URL(webhookUrl);
  const base = new URL(baseUrl);
  const isOperators = url.origin === ORIGINS[0] && url.origin !== base.origin;
  // Not new URL(path, base): a path that begins with // would name another host.
  if (isOperators) base.pathname = url.pathname;
  const watch = watchRequests();
  try {
    const answer = await watch.run(() =>
      sendOutbound(isOperators ? base : url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ text: `*${escape(message.title)}*\n${escape(message.text)}`, unfurl_links: false }),
        signal,
        isOperators,
        timeoutMs: TIMEOUT_MS,
        maxBytes: MAX_BYTES,
      }),
    );
    return outcomeOf(answer, now());
  } catch (error) {
    // The reason must contain neither the URL, which is a secret (it allows posting to the channel), nor an address.
    if (error instanceof OutboundRefusedError)
      return { kind: "fail", reason: `Slack was not called: ${error.message}` };
    const cause = error instanceof Error ? (error.cause ?? error) : error;
    const name = cause instanceof Error ? cause.name : "unknown error";
    return watch.begun
      ? { kind: "retry", reason: `Slack did not answer: ${codeOf(cause) ?? name}` }
      : { kind: "fail", reason: `not sent to Slack: ${codeOf(cause) ?? "the request is invalid"}` };
  }
}

function outcomeOf({ status, headers, body }: OutboundAnswer, now: Date): Outcome {
  if (status >= 200 && status < 300) return { kind: "completed", result: { sent_via: "slack", sent_at: now } };
  // no_service, invalid_token, channel_is_archived and the like. Any other text is not shown: it need not be Slack's.
  const code = /^[a-z_]{1,40}$/.test(body.trim()) ? `: ${body.trim()}` : "";
  const reason = `Slack answered ${status}${code}`;
  if (status === 429) {
    const seconds = Number(headers["retry-after"] ?? RETRY_AFTER_SECONDS);
    const wait = Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 3600) : RETRY_AFTER_SECONDS;
    return { kind: "defer", reason, at: new Date(now.getTime() + wait * 1000) };
  }
  return status >= 500 ? { kind: "retry", reason } : { kind: "fail", reason };
}

/** Escapes the three characters that start Slack's markup. */
function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
