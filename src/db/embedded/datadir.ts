// The folder of a built-in Postgres: data/ (Postgres' own), lock.json (who runs it), password (the superuser's), and
// initializing while data/ is being made, so that a first start that was killed is begun again and not taken for data.
import { randomBytes, randomUUID } from "node:crypto";
import { link, mkdir, readFile, rename, rm, stat, unlink, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { codeOf } from "../../errors.ts";

interface Holder {
  readonly pid: number;
  /** Start of that process as the kernel counts it: a pid alone is soon another's, and in a container always 1. */
  readonly started: string | null;
  /** 0 until the server listens. */
  readonly port: number;
  readonly token: string;
}

export class DataDir {
  /** What PGlite gets. */
  readonly folder: string;
  readonly #root: string;
  readonly #holder: Holder;

  private constructor(root: string, holder: Holder) {
    this.#root = root;
    this.#holder = holder;
    this.folder = join(root, "data");
  }

  /** Takes the folder for this process, or throws an error that says which process has it. */
  static async open(path: string): Promise<DataDir> {
    const root = resolve(path);
    await mkdir(root, { recursive: true, mode: 0o700 });
    const holder = { pid: process.pid, started: await startOf(process.pid), port: 0, token: randomUUID() };
    const dataDir = new DataDir(root, holder);
    await dataDir.#lock();
    try {
      if (await exists(dataDir.#initializing)) await rm(dataDir.folder, { recursive: true, force: true });
      return dataDir;
    } catch (error) {
      await dataDir.release();
      throw error;
    }
  }

  /** Runs `make` where there is no data yet; `created` tells it so. */
  async initialize<T>(make: (created: boolean) => Promise<T>): Promise<T> {
    if (await exists(join(this.folder, "PG_VERSION"))) return await make(false);
    await writeFile(this.#initializing, "");
    const made = await make(true);
    await unlink(this.#initializing);
    return made;
  }

  /** The superuser's password, made at the first call and readable by its owner alone. */
  async password(): Promise<string> {
    const path = join(this.#root, "password");
    try {
      return (await readFile(path, "utf8")).trim();
    } catch (error) {
      if (codeOf(error) !== "ENOENT") throw error;
      const password = makePassword();
      await writeFile(path, `${password}\n`, { mode: 0o600, flag: "wx" });
      return password;
    }
  }

  /** Notes the port for whoever is refused. */
  async announce(port: number): Promise<void> {
    const draft = `${this.#lockPath}.${this.#holder.token}`;
    await writeFile(draft, JSON.stringify({ ...this.#holder, port }), { mode: 0o600 });
    await rename(draft, this.#lockPath);
  }

  async release(): Promise<void> {
    const holder = await readHolder(this.#lockPath);
    if (holder?.token === this.#holder.token) await rm(this.#lockPath, { force: true });
  }

  get #lockPath(): string {
    return join(this.#root, "lock.json");
  }

  get #initializing(): string {
    return join(this.#root, "initializing");
  }

  /** The lock appears whole or not at all: it is written aside and linked, and link() refuses where one exists. */
  async #lock(): Promise<void> {
    const draft = `${this.#lockPath}.${this.#holder.token}`;
    await writeFile(draft, JSON.stringify(this.#holder), { mode: 0o600 });
    try {
      for (let attempt = 0; attempt < 10; attempt++) {
        if (await linked(draft, this.#lockPath)) return;
        const holder = await readHolder(this.#lockPath);
        if (holder !== null) await this.#takeOver(holder);
      }
      throw new Error(`${this.#lockPath} changes all the time: are several processes starting on this folder?`);
    } finally {
      await rm(draft, { force: true });
    }
  }

  /**
   * Removes the lock of a dead process. Two that do so at once: the second one's rename may catch the lock that the
   * first has meanwhile taken, so what was caught is looked at, and put back if it is not the dead one's.
   */
  async #takeOver(holder: Holder): Promise<void> {
    if (await isAlive(holder)) throw heldBy(this.#root, holder);
    const caught = `${this.#lockPath}.stale.${this.#holder.token}`;
    try {
      await rename(this.#lockPath, caught);
    } catch (error) {
      if (codeOf(error) === "ENOENT") return;
      throw error;
    }
    const found = await readHolder(caught);
    if (found !== null && found.token !== holder.token) await linked(caught, this.#lockPath);
    await rm(caught, { force: true });
  }
}

export const makePassword = (): string => randomBytes(24).toString("base64url");

function heldBy(root: string, holder: Holder): Error {
  const where = holder.port === 0 ? "and is still starting" : `on port ${holder.port}`;
  return new Error(
    `The built-in Postgres in ${root} is already run by process ${holder.pid} ${where}. ` +
      "Connect to that one, stop it, or use another folder.",
  );
}

async function isAlive(holder: Holder): Promise<boolean> {
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    return codeOf(error) !== "ESRCH";
  }
  return (await startOf(holder.pid)) === holder.started;
}

/** Field 22 of /proc/<pid>/stat, or null where there is no such file. */
async function startOf(pid: number): Promise<string | null> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? null;
  } catch {
    return null;
  }
}

async function readHolder(path: string): Promise<Holder | null> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as Holder;
  } catch (error) {
    if (codeOf(error) === "ENOENT") return null;
    throw new Error(`${path} can't be read as a lock; remove it if no process uses this folder`, { cause: error });
  }
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
