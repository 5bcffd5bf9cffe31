// Double opt-in: the link in the mail that asks an address to confirm its consent. Scanners open links
// too, so opening it changes nothing; pressing its button is the consent.
import type { FastifyInstance } from "fastify";
import type pg from "pg";
import type { Log } from "../telemetry/log.ts";
import { answerErrorsWithPages } from "./answers.ts";
import { sendPage, type Page } from "./page.ts";
import { isToken, unknownLink } from "./unsubscribe.ts";

const BODY_LIMIT = 16 * 1024;

const ask: Page = {
  title: "Please confirm",
  paragraphs: ["Press the button to allow this sender to send e-mail to the address that received this link."],
  form: { name: "confirm", value: "yes", button: "Yes, I want it" },
};
const pages = {
  confirmed: { title: "Thank you", paragraphs: ["Your address is confirmed. You can close this page."] },
  expired: {
    title: "This link has expired",
    paragraphs: ["Nothing has changed. If you still want to receive e-mail, fill in the sender's form again."],
  },
  unknown: unknownLink,
} as const satisfies Record<string, Page>;
const later: Page = {
  title: "Not possible right now",
  paragraphs: ["Your address is not confirmed yet. Please try again in a few minutes."],
};
const notUnderstood: Page = {
  title: "The request could not be read",
  paragraphs: ["Your address is not confirmed yet. Open the link from the e-mail again and press the button."],
};

interface Params {
  readonly token: string;
}

export function serveConfirm(app: FastifyInstance, { log, pool }: { log: Log; pool: pg.Pool }): void {
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    // The body is ignored; only the URL counts.
    scope.addContentTypeParser("*", { parseAs: "buffer" }, (_request, _body, parsed) => parsed(null));
    answerErrorsWithPages(scope, log, { later, notUnderstood });

    const options = { bodyLimit: BODY_LIMIT, config: { access: "public", limitsFailures: true } } as const;
    // No query, and no answer that reveals which tokens exist.
    scope.get<{ Params: Params }>("/confirm/:token", options, async (request, reply) =>
      isToken(request.params.token) ? sendPage(reply, 200, ask) : sendPage(reply, 404, unknownLink),
    );

    scope.post<{ Params: Params }>("/confirm/:token", options, async (request, reply) => {
      const { token } = request.params;
      if (!isToken(token)) return sendPage(reply, 404, unknownLink);
      const evidence = { page: "/confirm", user_agent: request.headers["user-agent"]?.slice(0, 300) ?? null };
      const { rows } = await pool.query<{ answer: keyof typeof pages }>(
        "select brainops_internal.confirm_opt_in($1, $2) as answer",
        [token, JSON.stringify(evidence)],
      );
      const answer = rows[0]?.answer ?? "unknown";
      return sendPage(reply, { confirmed: 200, expired: 410, unknown: 404 }[answer], pages[answer]);
    });
  });
}
