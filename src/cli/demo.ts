// `brainops demo`: runs the whole product on this machine in a minute, without setup. Ends with a table
// of expected and found figures. Exits with 0 only if every figure is right.
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
      "show everything on the built-in Postgres, with simulators for SendGrid, Twilio and Stripe; takes a minute, leaves nothing behind",
    )
    .option("--database <name>", "run on DATABASE_URL's server in a new database, which is dropped at the end")
    .action(async (flags: { readonly database?: string }) => {
      const config = loadConfig();
      const interrupted = new AbortController();
      for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => interrupted.abort());
      const cleanup = createCleanup();
      const screen = createScreen();
      const play = async (): Promise<number> => {
        const stage = await setStage(config, flags.database, screen, cleanup);
        const figures = await playAll(stage).catch((error: unknown) => {
          const lines = stage.workers.flatMap(({ pid, logTail }) => logTail.map((line) => `worker ${pid}: ${line}\n`));
          if (!interrupted.signal.aborted) process.stderr.write(lines.join(""));
          throw error;
        });
        screen.chapter("Expected and found");
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
