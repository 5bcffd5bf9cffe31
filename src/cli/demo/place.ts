// Where the demo runs: the built-in Postgres in a fresh folder, or a database of its own on the
// server of DATABASE_URL. Either is gone afterwards.
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { ConfigError, type Config } from "../../config.ts";
import { startEmbedded } from "../../db/embedded/index.ts";
import { codeOf } from "../../errors.ts";
import { placeOf, withClient } from "../database.ts";
import type { Screen } from "./screen.ts";

export interface Place {
  readonly url: string;
  readonly description: string;
  /** Appended to each login's name: on a server they belong to all its databases. */
  readonly suffix: string;
  /** Takes everything away, the logins included. */
  close(logins: readonly string[]): Promise<void>;
}

export function openPlace(config: Config, database: string | undefined, screen: Screen): Promise<Place> {
  if (config.DATABASE_URL === undefined) {
    if (database !== undefined) throw new ConfigError("--database names a database of DATABASE_URL, which is not set.");
    return builtIn(screen);
  }
  if (database === undefined) {
    throw new ConfigError(
      "DATABASE_URL is set, and the demo makes tenants, logins and mails of its own. Unset it to run on the built-in " +
        "Postgres, or give --database <name>: a database that is made on that server, and dropped at the end.",
    );
  }
  return onServer(config.DATABASE_URL, database);
}

async function builtIn(screen: Screen): Promise<Place> {
  screen.say("the built-in Postgres starts");
  const folder = await mkdtemp(join(tmpdir(), "brainops-demo-"));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  // Also when the process ends on the way.
  process.once("exit", remove);
  const embedded = await startEmbedded({ dataDir: join(folder, "postgres") });
  return {
    url: embedded.url,
    description: `it listens on port ${embedded.port}; its data is in ${folder}`,
    suffix: "",
    close: async () => {
      await embedded.close();
      remove();
      process.off("exit", remove);
    },
  };
}

async function onServer(serverUrl: string, database: string): Promise<Place> {
  const name = pg.escapeIdentifier(database);
  await withClient(serverUrl, "demo", async (client) => {
    await client.query(`create database ${name}`).catch((error: unknown) => {
      if (codeOf(error) !== "42P04") throw error;
      throw new Error(`Database ${database} is there already. Give --database a name that is free.`, { cause: error });
    });
  });
  const url = new URL(serverUrl);
  url.pathname = `/${encodeURIComponent(database)}`;
  return {
    url: url.href,
    description: `a database of its own: ${placeOf(url.href)}`,
    suffix: `_${process.pid}`,
    close: (logins) =>
      withClient(serverUrl, "demo", async (client) => {
        await client.query(`drop database ${name} with (force)`);
        for (const login of logins) await client.query(`drop role if exists ${pg.escapeIdentifier(login)}`);
      }),
  };
}
