// The Postgres for tests: TEST_DATABASE_URL, else Docker, else a local server with pgvector, else the
// built-in Postgres. TEST_POSTGRES (url, docker, local or embedded) selects one; if it is not available,
// the run fails.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { chown, mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { GenericContainer, getContainerRuntimeClient, Wait } from "testcontainers";
import { messageOf } from "../../src/errors.ts";

const run = promisify(execFile);

export interface RestartCommand {
  readonly command: readonly string[];
  readonly uid: number;
}

export type FoundServer =
  | {
      readonly kind: "server";
      readonly description: string;
      readonly url: string;
      /** Command that restarts the server; the mode (fast, immediate) is appended. Null if it can't be restarted. */
      readonly restart: RestartCommand | null;
      readonly stop: () => Promise<void>;
    }
  | { readonly kind: "embedded"; readonly description: string };

export async function findServer(): Promise<FoundServer> {
  const wanted = process.env["TEST_POSTGRES"];
  const url = process.env["TEST_DATABASE_URL"];
  switch (wanted) {
    case "url":
    case undefined:
      break;
    case "docker":
      return startContainer();
    case "local": {
      const local = await findLocalBinaries();
      if (local === null) throw new Error("TEST_POSTGRES=local: no server binary with pgvector was found");
      return startLocal(local);
    }
    case "embedded":
      return embedded("as TEST_POSTGRES asks");
    default:
      throw new Error(`TEST_POSTGRES=${wanted}: expected url, docker, local or embedded`);
  }
  if (url !== undefined) {
    const restart = process.env["TEST_POSTGRES_RESTART"];
    return {
      kind: "server",
      description: "the Postgres of TEST_DATABASE_URL",
      url,
      restart: restart === undefined ? null : { command: restart.split(" "), uid: process.getuid?.() ?? 0 },
      stop: async () => {},
    };
  }
  const reasons: string[] = [];
  try {
    return await startContainer();
  } catch (error) {
    reasons.push(`Docker: ${messageOf(error).split("\n")[0]}`);
  }
  const local = await findLocalBinaries();
  if (local !== null) return startLocal(local);
  reasons.push("no local server with pgvector");
  return embedded(reasons.join("; "));
}

function embedded(why: string): FoundServer {
  return {
    kind: "embedded",
    description: `the built-in Postgres (${why}); tests that need server processes are skipped`,
  };
}

async function startContainer(): Promise<FoundServer> {
  // Throws at once without Docker.
  await getContainerRuntimeClient();
  const image = process.env["TEST_POSTGRES_IMAGE"] ?? "pgvector/pgvector:pg17";
  const container = await new GenericContainer(image)
    .withEnvironment({ POSTGRES_PASSWORD: "postgres" })
    .withCommand(["-c", "fsync=off", "-c", "max_connections=300"])
    .withExposedPorts(5432)
    // Logged twice: during the image's initialization, and when the server is ready.
    .withWaitStrategy(Wait.forLogMessage(/database system is ready to accept connections/, 2))
    .start();
  const url = `postgres://postgres:postgres@${container.getHost()}:${container.getMappedPort(5432)}/postgres`;
  const stop = async (): Promise<void> => void (await container.stop());
  return { kind: "server", description: `${image} in Docker`, url, restart: null, stop };
}

/** Folder with initdb and pg_ctl of the newest installed server that has pgvector; null if there is none. */
async function findLocalBinaries(): Promise<string | null> {
  const debian = "/usr/lib/postgresql";
  const versions = existsSync(debian) ? await readdir(debian) : [];
  const candidates = versions
    .toSorted((a, b) => Number(b) - Number(a))
    .filter((version) => existsSync(`/usr/share/postgresql/${version}/extension/vector.control`))
    .map((version) => `${debian}/${version}/bin`);
  for (const folder of candidates) if (existsSync(join(folder, "initdb"))) return folder;
  try {
    const { stdout } = await run("pg_config", ["--bindir", "--sharedir"]);
    const [bin = "", share = ""] = stdout.trim().split("\n");
    return existsSync(join(bin, "initdb")) && existsSync(join(share, "extension/vector.control")) ? bin : null;
  } catch {
    return null;
  }
}

async function startLocal(bin: string): Promise<FoundServer> {
  const folder = await mkdtemp(join(tmpdir(), "brainops-pg-"));
  const port = await freePort();
  // Postgres does not run as root.
  const asRoot = process.getuid?.() === 0;
  const { stdout } = asRoot ? await run("id", ["-u", "postgres"]) : { stdout: String(process.getuid?.() ?? 0) };
  const uid = Number(stdout);
  if (asRoot) await chown(folder, uid, uid);
  const options = { uid, cwd: folder };
  await run(join(bin, "initdb"), ["-D", join(folder, "data"), "-U", "postgres", "--auth=trust", "--locale=C"], options);
  const settings = `-p ${port} -k ${folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=300`;
  await run(
    join(bin, "pg_ctl"),
    ["-D", join(folder, "data"), "-l", join(folder, "log"), "-o", settings, "-w", "start"],
    options,
  );
  return {
    kind: "server",
    description: `a throwaway cluster of ${bin}`,
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    restart: {
      command: [join(bin, "pg_ctl"), "-D", join(folder, "data"), "-l", join(folder, "log"), "-w", "restart", "-m"],
      uid,
    },
    stop: async () => {
      await run(join(bin, "pg_ctl"), ["-D", join(folder, "data"), "-m", "fast", "-w", "stop"], options);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() =>
        typeof address === "object" && address !== null ? resolve(address.port) : reject(new Error("no port")),
      );
    });
  });
}
