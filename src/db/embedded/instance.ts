// One running built-in Postgres: folder, engine and server, started in this order and stopped in reverse.
import { DataDir, makePassword } from "./datadir.ts";
import { Engine } from "./engine.ts";
import { makeVerifier, matches } from "./scram.ts";
import { EmbeddedServer, type ServerOptions } from "./server.ts";
import { literal } from "./sqltext.ts";

export interface InstanceOptions extends ServerOptions {
  /** Null keeps the data in memory. */
  readonly dataDir: string | null;
  readonly loadDataDir: Blob | null;
  /** The superuser's password for data in memory, so that a restart keeps it; null generates one. */
  readonly password: string | null;
}

export interface Instance {
  readonly url: string;
  readonly port: number;
  dump(): Promise<Blob>;
  close(): Promise<void>;
  /** After a crash: closes what can be closed. Returns the data if it was in memory, else null. */
  salvage(): Promise<Blob | null>;
}

/**
 * Revokes rights on what connections share. A temporary table would hide every connection's table of the same name, and
 * the views list every connection's queries. A DBA may grant them again.
 */
const NEW_DATABASE = `
  revoke temporary on database postgres from public;
  revoke select on pg_catalog.pg_prepared_statements, pg_catalog.pg_cursors from public;
  revoke execute on function pg_catalog.pg_prepared_statement(), pg_catalog.pg_cursor() from public;
`;

export async function startInstance(options: InstanceOptions): Promise<Instance> {
  const dataDir = options.dataDir === null ? null : await DataDir.open(options.dataDir);
  try {
    return await start(options, dataDir);
  } catch (error) {
    await dataDir?.release();
    throw error;
  }
}

async function start(options: InstanceOptions, dataDir: DataDir | null): Promise<Instance> {
  const folder = dataDir?.folder ?? null;
  const open = async (created: boolean): Promise<Engine> => {
    const engine = await Engine.open({ folder, loadDataDir: options.loadDataDir });
    if (created && options.loadDataDir === null) await engine.system(NEW_DATABASE);
    return engine;
  };
  const engine = dataDir === null ? await open(true) : await dataDir.initialize(open);
  const password = dataDir === null ? (options.password ?? makePassword()) : await dataDir.password();
  if (options.auth === "scram") await usePassword(engine, password);

  const server = new EmbeddedServer(engine, options);
  const port = await server.listen();
  await dataDir?.announce(port);
  const login = options.auth === "scram" ? `postgres:${password}` : "postgres";
  return {
    url: `postgres://${login}@127.0.0.1:${port}/postgres`,
    port,
    dump: () => engine.lock.run(() => engine.dump()),
    close: async () => {
      await server.close();
      await engine.close();
      await dataDir?.release();
    },
    salvage: async () => {
      await server.close();
      const data = dataDir === null ? await engine.salvage() : null;
      await dataDir?.release();
      return data;
    },
  };
}

/** Sets the superuser's password, unless it is set already: hashing it again would write to the database. */
async function usePassword(engine: Engine, password: string): Promise<void> {
  const [row] = await engine.system("select rolpassword from pg_catalog.pg_authid where oid = 10");
  if (matches(row?.[0] ?? null, password)) return;
  await engine.system(`alter role postgres password ${literal(makeVerifier(password))}`);
}
