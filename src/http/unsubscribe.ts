// The link in every marketing mail (RFC 8058). A mailbox provider posts to it without a person, a
// login, cookies or redirects; a person opens it and presses a button. GET changes nothing, because
// scanners and previews open links too. Who holds the token may unsubscribe, and nothing else.
import type { FastifyInstance } from "fastify";
import type pg from "pg";
import type { Log } from "../telemetry/log.ts";
import { logFailure, outcomeOf, RETRY_AFTER } from "./answers.ts";
import { sendPage, type Page } from "./page.ts";

// The body says List-Unsubscribe=One-Click, or nothing; more is no request of this kind.
const BODY_LIMIT = 16 * 1024;

const elsewhere = (token: string): Required<Pick<Page, "link">> => ({
  link: { href: `../preferences/${token}`, text: "Choose what you want to get instead" },
});
const ask: Page = {
  title: "Unsubscribe",
  paragraphs: ["Press the button, and this sender will write no more e-mail to the address that got this link."],
  form: { name: "List-Unsubscribe", value: "One-Click", button: "Unsubscribe" },
};
const done: Page = {
  title: "You are unsubscribed",
  paragraphs: ["This sender will write no more e-mail to the address that got this link. You can close this page."],
};
/** The same for a token that never was, one that is gone and one that was cut off. */
export const unknown: Page = {
  title: "This link does not work",
  paragraphs: [
    "It may have been cut off on its way. Open it again from the mail itself, or copy all of it.",
    "If that does not help, answer the mail and ask its sender to take you off the list.",
  ],
};
const later: Page = {
  title: "Not possible right now",
  paragraphs: ["You are not unsubscribed yet. Please try again in a few minutes."],
};
const notUnderstood: Page = {
  title: "Not understood",
  paragraphs: ["You are not unsubscribed yet. Open the link from the mail again and press the button."],
};

interface Params {
  readonly token: string;
}

export function serveUnsubscribe(app: FastifyInstance, { log, pool }: { log: Log; pool: pg.Pool }): void {
  app.register(async (scope) => {
    // Only the URL counts. Whatever media type a mailbox provider thinks of, nobody is kept on a
    // list because of it.
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("*", { parseAs: "buffer" }, (_request, _body, parsed) => parsed(null));

    scope.setErrorHandler((error, request, reply) => {
      const { status } = outcomeOf(error);
      logFailure(log, request, error, status);
      if (status >= 500) void reply.header("retry-after", RETRY_AFTER);
      return sendPage(reply, status, status >= 500 ? later : notUnderstood);
    });

    const options = { bodyLimit: BODY_LIMIT, config: { access: "public" } } as const;

    // Asks no database: it works while that is out of reach, and tells nobody which tokens exist.
    scope.get<{ Params: Params }>("/unsubscribe/:token", options, async (request, reply) =>
      isToken(request.params.token)
        ? sendPage(reply, 200, { ...ask, ...elsewhere(request.params.token) })
        : sendPage(reply, 404, unknown),
    );

    scope.post<{ Params: Params }>("/unsubscribe/:token", options, async (request, reply) => {
      const { token } = request.params;
      if (!isToken(token)) return sendPage(reply, 404, unknown);
      const { rows } = await pool.query<{ known: boolean }>("select brainops.unsubscribe($1) as known", [token]);
      return rows[0]?.known === true
        ? sendPage(reply, 200, { ...done, ...elsewhere(token) })
        : sendPage(reply, 404, unknown);
    });
  });
}

export function isToken(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text);
}
