// Where a command's database is: DATABASE_URL, else (for commands that may) the built-in one.
import { resolve } from "node:path";
import { ConfigError, type Config } from "../config.ts";
import { startEmbedded } from "../db/embedded/index.ts";

export interface Database {
  readonly url: string;
  /** Whether this process runs it. */
  readonly builtIn: boolean;
  close(): Promise<void>;
}

/** DATABASE_URL, or a ConfigError that says what to do. */
export function requireDatabaseUrl(config: Config): string {
  if (config.DATABASE_URL !== undefined) return config.DATABASE_URL;
  throw new ConfigError(
    "DATABASE_URL is not set. Set it to postgres://user:password@host:5432/database, " +
      "or run `brainops up`, which starts the built-in Postgres and prints its URL.",
  );
}

/** DATABASE_URL, or the built-in Postgres with its data in .brainops/ of the current folder. */
export async function openDatabase(config: Config, port: number): Promise<Database> {
  if (config.DATABASE_URL !== undefined) {
    return { url: config.DATABASE_URL, builtIn: false, close: async () => {} };
  }
  const embedded = await startEmbedded({ dataDir: resolve(".brainops/postgres"), port });
  return { url: embedded.url, builtIn: true, close: () => embedded.close() };
}
