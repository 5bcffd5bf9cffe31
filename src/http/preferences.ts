// What a person wants to receive: a page with the same token as the unsubscribe link. GET only reads;
// POST saves. What can be chosen, and what a choice changes, is decided in SQL.
import type { FastifyInstance } from "fastify";
import type pg from "pg";
import { z } from "zod";
import type { Log } from "../telemetry/log.ts";
import { answerErrorsWithPages } from "./answers.ts";
import { sendPage, type Box, type Page } from "./page.ts";
import { isToken, unknownLink } from "./unsubscribe.ts";

const BODY_LIMIT = 16 * 1024;
const TOPIC = "topic:";

/** The result of brainops_internal.preferences(). */
const preferencesShape = z.object({
  sender: z.string(),
  address: z.string(),
  email: z.boolean(),
  topics: z.array(z.object({ code: z.string(), name: z.string(), description: z.string(), wanted: z.boolean() })),
  phones: z.array(z.object({ phone: z.string(), wanted: z.boolean(), here: z.boolean() })),
});
type Preferences = z.infer<typeof preferencesShape>;

const later: Page = {
  title: "Not possible right now",
  paragraphs: ["Nothing has changed yet. Please try again in a few minutes."],
};
const notUnderstood: Page = {
  title: "The request could not be read",
  paragraphs: ["Nothing has changed yet. Open the link from the e-mail again."],
};

interface Params {
  readonly token: string;
}

export function servePreferences(app: FastifyInstance, { log, pool }: { log: Log; pool: pg.Pool }): void {
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("application/x-www-form-urlencoded", { parseAs: "string" }, (_request, body, parsed) =>
      parsed(null, body),
    );
    answerErrorsWithPages(scope, log, { later, notUnderstood });

    const options = { bodyLimit: BODY_LIMIT, config: { access: "public", limitsFailures: true } } as const;
    scope.get<{ Params: Params }>("/preferences/:token", options, async (request, reply) => {
      const preferences = await readPreferences(pool, request.params.token);
      return preferences === null
        ? sendPage(reply, 404, unknownLink)
        : sendPage(reply, 200, pageOf(preferences, false));
    });

    scope.post<{ Params: Params }>("/preferences/:token", options, async (request, reply) => {
      const { token } = request.params;
      if (!isToken(token)) return sendPage(reply, 404, unknownLink);
      const choices = choicesOf(new URLSearchParams(typeof request.body === "string" ? request.body : ""));
      if (choices === null) return sendPage(reply, 400, notUnderstood);
      await pool.query("select brainops_internal.save_preferences($1, $2)", [token, JSON.stringify(choices)]);
      const preferences = await readPreferences(pool, token);
      return preferences === null ? sendPage(reply, 404, unknownLink) : sendPage(reply, 200, pageOf(preferences, true));
    });
  });
}

async function readPreferences(pool: pg.Pool, token: string): Promise<Preferences | null> {
  if (!isToken(token)) return null;
  const { rows } = await pool.query<{ preferences: unknown }>(
    "select brainops_internal.preferences($1) as preferences",
    [token],
  );
  const preferences = rows[0]?.preferences ?? null;
  return preferences === null ? null : preferencesShape.parse(preferences);
}

/** The choices in a submitted form, limited to the boxes that were shown; null for any other body. */
function choicesOf(form: URLSearchParams): object | null {
  if (form.get("save") !== "choices") return null;
  const shown = form.getAll("shown");
  const topics = shown.filter((name) => name.startsWith(TOPIC));
  return {
    ...(shown.includes("email") && { email: form.has("email") }),
    ...(shown.includes("sms") && { sms: form.has("sms") }),
    topics: Object.fromEntries(topics.map((name) => [name.slice(TOPIC.length), form.has(name)])),
  };
}

function pageOf({ sender, address, email, topics, phones }: Preferences, saved: boolean): Page {
  const here = phones.filter((phone) => phone.here);
  const stoppedByText = phones.filter((phone) => !phone.here).map(({ phone }) => phone);
  const boxes: Box[] = [
    { name: "email", label: `E-mail to ${address}`, ticked: email },
    ...topics.map(({ code, name, description, wanted }) => ({
      name: `${TOPIC}${code}`,
      label: name,
      note: description,
      ticked: wanted,
    })),
  ];
  if (here.length > 0) {
    const numbers = here.map(({ phone }) => phone).join(", ");
    boxes.push({ name: "sms", label: `Text messages to ${numbers}`, ticked: here.every(({ wanted }) => wanted) });
  }
  return {
    title: saved ? "Your choices are saved" : "What would you like to receive?",
    paragraphs: [
      saved
        ? `${sender} will follow them from now on. You can close this page.`
        : `Select what you want to receive from ${sender}. E-mails about your orders are always sent.`,
      ...(stoppedByText.length === 0
        ? []
        : [
            `Text messages to ${stoppedByText.join(", ")} were stopped by a text message. To receive them again, text START from that number.`,
          ]),
    ],
    form: { name: "save", value: "choices", button: "Save", boxes },
  };
}
