// Slack's incoming webhooks: one POST, answered with "ok", and the mapping of other answers to outcomes.
import { codeOf, messageOf } from "../errors.ts";
import type { Outcome } from "../jobs/outcome.ts";
import { watchRequests } from "../jobs/requests.ts";

// Shorter than the table's time limit, so that this file classifies the timeout and not the engine.
const TIMEOUT_MS = 10_000;
const RETRY_AFTER_SECONDS = 60;

export interface SlackMessage {
  /** One line, shown in bold. */
  readonly title: string;
  readonly text: string;
}

/** Posts to the webhook. Never throws: every error becomes an outcome. `fail` means that the webhook accepts no messages, or that nothing can be sent to it. */
export async function postToSlack(
  webhookUrl: string,
  message: SlackMessage,
  { now, signal }: { readonly now: () => Date; readonly signal: AbortSignal },
): Promise<Outcome> {
  const watch = watchRequests();
  try {
    const response = await watch.run(() =>
      fetch(webhookUrl, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ text: `*${escape(message.title)}*\n${escape(message.text)}`, unfurl_links: false }),
        redirect: "error",
        signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
      }),
    );
    const body = (await response.text()).replaceAll(/\s+/g, " ").slice(0, 200);
    return outcomeOf(response, body, now());
  } catch (error) {
    // The reason must not contain the URL, which is a secret: it allows posting to the channel.
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    return watch.begun
      ? { kind: "retry", reason: `Slack did not answer: ${codeOf(cause) ?? messageOf(cause)}` }
      : { kind: "fail", reason: `not sent to Slack: ${codeOf(cause) ?? "the request is invalid"}` };
  }
}

function outcomeOf(response: Response, body: string, now: Date): Outcome {
  if (response.ok) return { kind: "completed", result: { sent_via: "slack", sent_at: now } };
  const reason = `Slack answered ${response.status}: ${body}`;
  if (response.status === 429) {
    const seconds = Number(response.headers.get("retry-after") ?? RETRY_AFTER_SECONDS);
    const wait = Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 3600) : RETRY_AFTER_SECONDS;
    return { kind: "defer", reason, at: new Date(now.getTime() + wait * 1000) };
  }
  return response.status >= 500 ? { kind: "retry", reason } : { kind: "fail", reason };
}

/** Escapes the three characters that start Slack's markup. */
function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
