// The demo's database: the built-in Postgres in a temporary folder, or a new database on the server of
// DATABASE_URL. Both are removed at the end.
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
  /** Suffix of all login names, because logins are shared by all databases of a server. */
  readonly suffix: string;
  /** Removes everything, including the logins. */
  close(logins: readonly string[]): Promise<void>;
}

export function openPlace(config: Config, database: string | undefined, screen: Screen): Promise<Place> {
  if (config.DATABASE_URL === undefined) {
    if (database !== undefined) throw new ConfigError("--database needs DATABASE_URL, which is not set.");
    return builtIn(screen);
  }
  if (database === undefined) {
    throw new ConfigError(
      "DATABASE_URL is set, and the demo creates its own tenants, logins and mails. Unset DATABASE_URL to use the " +
        "built-in Postgres, or give --database <name> to use a new database on that server, dropped at the end.",
    );
  }
  return onServer(config.DATABASE_URL, database);
}

async function builtIn(screen: Screen): Promise<Place> {
  screen.say("starting the built-in Postgres");
  const folder = await mkdtemp(join(tmpdir(), "brainops-demo-"));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  // Removes the folder even if the process exits early.
  process.once("exit", remove);
  const embedded = await startEmbedded({ dataDir: join(folder, "postgres") });
  return {
    url: embedded.url,
    description: `the built-in Postgres listens on port ${embedded.port}; its data is in ${folder}`,
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
      throw new Error(`Database ${database} already exists. Give --database another name.`, { cause: error });
    });
  });
  const url = new URL(serverUrl);
  url.pathname = `/${encodeURIComponent(database)}`;
  return {
    url: url.href,
    description: `using a new database: ${placeOf(url.href)}`,
    suffix: `_${process.pid}`,
    close: (logins) =>
      withClient(serverUrl, "demo", async (client) => {
        await client.query(`drop database ${name} with (force)`);
        for (const login of logins) await client.query(`drop role if exists ${pg.escapeIdentifier(login)}`);
      }),
  };
}
