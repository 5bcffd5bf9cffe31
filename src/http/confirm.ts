// Double opt-in: the link in the mail that asks whether the address really wants to be written to. A
// scanner opens links too, so opening it changes nothing; its button is the word that counts.
import type { FastifyInstance } from "fastify";
import type pg from "pg";
import type { Log } from "../telemetry/log.ts";
import { logFailure, outcomeOf, RETRY_AFTER } from "./answers.ts";
import { sendPage, type Page } from "./page.ts";
import { isToken, unknown } from "./unsubscribe.ts";

const BODY_LIMIT = 16 * 1024;

const ask: Page = {
  title: "Please confirm",
  paragraphs: ["Press the button, and this sender may write to the address that got this link."],
  form: { name: "confirm", value: "yes", button: "Yes, I want it" },
};
const pages = {
  confirmed: { title: "Thank you", paragraphs: ["It is confirmed. You can close this page."] },
  expired: {
    title: "This link is too old",
    paragraphs: ["Nothing has changed. If you still want to get mail, fill in the form of the sender again."],
  },
  unknown,
} as const satisfies Record<string, Page>;
const later: Page = {
  title: "Not possible right now",
  paragraphs: ["It is not confirmed yet. Please try again in a few minutes."],
};
const notUnderstood: Page = {
  title: "Not understood",
  paragraphs: ["It is not confirmed yet. Open the link from the mail again and press the button."],
};

interface Params {
  readonly token: string;
}

export function serveConfirm(app: FastifyInstance, { log, pool }: { log: Log; pool: pg.Pool }): void {
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    // Only the URL counts.
    scope.addContentTypeParser("*", { parseAs: "buffer" }, (_request, _body, parsed) => parsed(null));
    scope.setErrorHandler((error, request, reply) => {
      const { status } = outcomeOf(error);
      logFailure(log, request, error, status);
      if (status >= 500) void reply.header("retry-after", RETRY_AFTER);
      return sendPage(reply, status, status >= 500 ? later : notUnderstood);
    });

    const options = { bodyLimit: BODY_LIMIT, config: { access: "public" } } as const;
    // Asks no database, and tells nobody which tokens exist.
    scope.get<{ Params: Params }>("/confirm/:token", options, async (request, reply) =>
      isToken(request.params.token) ? sendPage(reply, 200, ask) : sendPage(reply, 404, unknown),
    );

    scope.post<{ Params: Params }>("/confirm/:token", options, async (request, reply) => {
      const { token } = request.params;
      if (!isToken(token)) return sendPage(reply, 404, unknown);
      const evidence = { page: "/confirm", user_agent: request.headers["user-agent"]?.slice(0, 300) ?? null };
      const { rows } = await pool.query<{ answer: keyof typeof pages }>(
        "select brainops.confirm_opt_in($1, $2) as answer",
        [token, JSON.stringify(evidence)],
      );
      const answer = rows[0]?.answer ?? "unknown";
      return sendPage(reply, { confirmed: 200, expired: 410, unknown: 404 }[answer], pages[answer]);
    });
  });
}
