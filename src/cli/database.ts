// A command's database: DATABASE_URL, or for up and demo the built-in Postgres.
import { resolve } from "node:path";
import type pg from "pg";
import { ConfigError, type Config } from "../config.ts";
import { startEmbedded } from "../db/embedded/index.ts";
import { limits } from "../db/limits.ts";
import { openClient } from "../db/pool.ts";
import { codeOf, fromDatabase, messageOf } from "../errors.ts";

export interface Database {
  readonly url: string;
  /** Whether it is the built-in Postgres of this process. */
  readonly builtIn: boolean;
  close(): Promise<void>;
}

/** DATABASE_URL. Throws a ConfigError that says what to do if it is not set. */
export function requireDatabaseUrl(config: Config): string {
  if (config.DATABASE_URL !== undefined) return config.DATABASE_URL;
  throw new ConfigError(
    "DATABASE_URL is not set. Set it to postgres://user:password@host:5432/database, " +
      "or run `brainops up`, which starts the built-in Postgres and prints its URL.",
  );
}

/** DATABASE_URL, or the built-in Postgres with its data in .brainops/ in the current folder. */
export async function openDatabase(config: Config, port: number): Promise<Database> {
  if (config.DATABASE_URL !== undefined) {
    return { url: config.DATABASE_URL, builtIn: false, close: async () => {} };
  }
  const embedded = await startEmbedded({ dataDir: resolve(".brainops/postgres"), port });
  return { url: embedded.url, builtIn: true, close: () => embedded.close() };
}

/**
 * Opens one connection, runs `run` and closes the connection. Throws an error that names the server if it
 * cannot be reached, and one that names `brainops migrate` if the schema is missing.
 */
export async function withClient<T>(
  connectionString: string,
  command: string,
  run: (client: pg.Client) => Promise<T>,
): Promise<T> {
  let client: pg.Client;
  try {
    client = await openClient({ connectionString, applicationName: `brainops ${command}`, limits: limits.command });
  } catch (error) {
    throw new Error(`Cannot connect to ${placeOf(connectionString)}: ${messageOf(error)}`, { cause: error });
  }
  try {
    return await run(client);
  } catch (error) {
    throw NO_SCHEMA.has(codeOf(error) ?? "")
      ? new Error(`${messageOf(error)}. Run \`brainops migrate\` first.`, { cause: error })
      : fromDatabase(error);
  } finally {
    await client.end().catch(() => {});
  }
}

// Undefined table, schema, function.
const NO_SCHEMA = new Set(["42P01", "3F000", "42883"]);

/** user@host:port/database of a connection URL, without the password. */
export function placeOf(connectionString: string): string {
  try {
    const { username, host, pathname } = new URL(connectionString);
    return `${username === "" ? "" : `${decodeURIComponent(username)}@`}${host}${pathname}`;
  } catch {
    return "the server of DATABASE_URL";
  }
}
