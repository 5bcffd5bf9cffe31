// What a person wants to get: the page behind the unsubscribe link's token. Opening it reads, and
// changes nothing; its button saves. What may be chosen, and what follows from it, is decided in SQL.
import type { FastifyInstance } from "fastify";
import type pg from "pg";
import { z } from "zod";
import type { Log } from "../telemetry/log.ts";
import { logFailure, outcomeOf, RETRY_AFTER } from "./answers.ts";
import { sendPage, type Box, type Page } from "./page.ts";
import { isToken, unknown } from "./unsubscribe.ts";

const BODY_LIMIT = 16 * 1024;
const TOPIC = "topic:";

/** What brainops.preferences() answers. */
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
  title: "Not understood",
  paragraphs: ["Nothing has changed yet. Open the link from the mail again."],
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
    scope.setErrorHandler((error, request, reply) => {
      const { status } = outcomeOf(error);
      logFailure(log, request, error, status);
      if (status >= 500) void reply.header("retry-after", RETRY_AFTER);
      return sendPage(reply, status, status >= 500 ? later : notUnderstood);
    });

    const options = { bodyLimit: BODY_LIMIT, config: { access: "public" } } as const;
    scope.get<{ Params: Params }>("/preferences/:token", options, async (request, reply) => {
      const preferences = await read(pool, request.params.token);
      return preferences === null ? sendPage(reply, 404, unknown) : sendPage(reply, 200, pageOf(preferences, false));
    });

    scope.post<{ Params: Params }>("/preferences/:token", options, async (request, reply) => {
      const { token } = request.params;
      if (!isToken(token)) return sendPage(reply, 404, unknown);
      const choices = choicesOf(new URLSearchParams(typeof request.body === "string" ? request.body : ""));
      if (choices === null) return sendPage(reply, 400, notUnderstood);
      await pool.query("select brainops.save_preferences($1, $2)", [token, JSON.stringify(choices)]);
      const preferences = await read(pool, token);
      return preferences === null ? sendPage(reply, 404, unknown) : sendPage(reply, 200, pageOf(preferences, true));
    });
  });
}

async function read(pool: pg.Pool, token: string): Promise<Preferences | null> {
  if (!isToken(token)) return null;
  const { rows } = await pool.query<{ preferences: unknown }>("select brainops.preferences($1) as preferences", [
    token,
  ]);
  const preferences = rows[0]?.preferences ?? null;
  return preferences === null ? null : preferencesShape.parse(preferences);
}

/** The choices of a form that was filled in; null for a body that is none. */
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
  const elsewhere = phones.filter((phone) => !phone.here).map(({ phone }) => phone);
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
    title: saved ? "Your choice is saved" : "What would you like to get?",
    paragraphs: [
      saved
        ? `${sender} keeps to it from now on. You can close this page.`
        : `Tick what you want to get from ${sender}. Mails about what you have ordered come in any case.`,
      ...(elsewhere.length === 0
        ? []
        : [
            `Text messages to ${elsewhere.join(", ")} were stopped by a text message; only the word START, texted from there, brings them back.`,
          ]),
    ],
    form: { name: "save", value: "choices", button: "Save", boxes },
  };
}
