// The unsubscribe link of every marketing mail (RFC 8058). A mailbox provider posts to it without a
// person, login, cookie or redirect; a person opens it and presses a button. GET changes nothing,
// because scanners and previews open links too. The token allows unsubscribing and nothing else.
import type { FastifyInstance } from "fastify";
import type pg from "pg";
import type { Log } from "../telemetry/log.ts";
import { answerErrorsWithPages } from "./answers.ts";
import { sendPage, type Page } from "./page.ts";

// The body is List-Unsubscribe=One-Click or empty.
const BODY_LIMIT = 16 * 1024;

const preferencesLink = (token: string): Required<Pick<Page, "link">> => ({
  link: { href: `../preferences/${token}`, text: "Choose what you want to receive instead" },
});
const ask: Page = {
  title: "Unsubscribe",
  paragraphs: ["Press the button, and this sender will no longer send e-mail to the address that received this link."],
  form: { name: "List-Unsubscribe", value: "One-Click", button: "Unsubscribe" },
};
const done: Page = {
  title: "You are unsubscribed",
  paragraphs: [
    "This sender will no longer send e-mail to the address that received this link. You can close this page.",
  ],
};
/** The same for a token that never existed, one that was deleted and one that is incomplete. */
export const unknownLink: Page = {
  title: "This link does not work",
  paragraphs: [
    "It may be incomplete. Open it again from the e-mail, or copy the whole link.",
    "If that does not help, reply to the e-mail and ask to be removed from the list.",
  ],
};
const later: Page = {
  title: "Not possible right now",
  paragraphs: ["You are not unsubscribed yet. Please try again in a few minutes."],
};
const notUnderstood: Page = {
  title: "The request could not be read",
  paragraphs: ["You are not unsubscribed yet. Open the link from the e-mail again and press the button."],
};

interface Params {
  readonly token: string;
}

export function serveUnsubscribe(app: FastifyInstance, { log, pool }: { log: Log; pool: pg.Pool }): void {
  app.register(async (scope) => {
    // Only the URL counts: no media type that a mailbox provider sends may prevent an unsubscription.
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("*", { parseAs: "buffer" }, (_request, _body, parsed) => parsed(null));

    answerErrorsWithPages(scope, log, { later, notUnderstood });

    const options = { bodyLimit: BODY_LIMIT, config: { access: "public", limitsFailures: true } } as const;

    // No query: it works while Postgres is unreachable, and does not reveal which tokens exist.
    scope.get<{ Params: Params }>("/unsubscribe/:token", options, async (request, reply) =>
      isToken(request.params.token)
        ? sendPage(reply, 200, { ...ask, ...preferencesLink(request.params.token) })
        : sendPage(reply, 404, unknownLink),
    );

    scope.post<{ Params: Params }>("/unsubscribe/:token", options, async (request, reply) => {
      const { token } = request.params;
      if (!isToken(token)) return sendPage(reply, 404, unknownLink);
      const { rows } = await pool.query<{ known: boolean }>("select brainops_internal.unsubscribe($1) as known", [
        token,
      ]);
      return rows[0]?.known === true
        ? sendPage(reply, 200, { ...done, ...preferencesLink(token) })
        : sendPage(reply, 404, unknownLink);
    });
  });
}

/** Whether the text has the form of a link's token; it may still be unknown. */
export function isToken(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text);
}
