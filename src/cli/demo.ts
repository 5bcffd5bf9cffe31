// `brainops demo`: the whole of it on this machine in a minute, with nothing to set up. Ends
// with a table of what was expected and what was found; exit code 0 only when every figure is right.
import { once } from "node:events";
import { Command } from "commander";
import { loadConfig } from "../config.ts";
import { createCleanup } from "./cleanup.ts";
import { isRight, renderFigures } from "./demo/figures.ts";
import { createScreen } from "./demo/screen.ts";
import { setStage, type Stage } from "./demo/stage.ts";
import { playMonth } from "./demo/month/story.ts";
import type { Figure } from "./demo/figures.ts";
import { playStory } from "./demo/story.ts";

export function demoCommand(): Command {
  return new Command("demo")
    .description(
      "show it all on the built-in Postgres and stand-ins for SendGrid, Twilio and Stripe; takes a minute, leaves nothing",
    )
    .option("--database <name>", "run on DATABASE_URL's server instead, in a new database that is dropped at the end")
    .action(async (flags: { readonly database?: string }) => {
      const config = loadConfig();
      const interrupted = new AbortController();
      for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => interrupted.abort());
      const cleanup = createCleanup();
      const screen = createScreen();
      const play = async (): Promise<number> => {
        const stage = await setStage(config, flags.database, screen, cleanup);
        const figures = await playAll(stage).catch((error: unknown) => {
          const words = stage.workers.flatMap(({ pid, lastWords }) =>
            lastWords.map((line) => `worker ${pid}: ${line}\n`),
          );
          if (!interrupted.signal.aborted) process.stderr.write(words.join(""));
          throw error;
        });
        screen.chapter("What was expected, and what was found");
        process.stdout.write(renderFigures(figures));
        return figures.every(isRight) ? 0 : 1;
      };
      try {
        process.exitCode = await Promise.race([play(), once(interrupted.signal, "abort").then(() => 130)]);
      } finally {
        await cleanup.run();
      }
    });
}

async function playAll(stage: Stage): Promise<Figure[]> {
  return [...(await playStory(stage)), ...(await playMonth(stage))];
}
