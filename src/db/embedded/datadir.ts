// The folder of a built-in Postgres: data/ (Postgres' files), lock.json (the process that runs it), password (of the
// superuser), and `initializing` while data/ is created: if a first start is killed, the next one starts over.
import { randomBytes, randomUUID } from "node:crypto";
import { link, mkdir, readFile, rename, rm, stat, unlink, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { codeOf } from "../../errors.ts";

interface Holder {
  readonly pid: number;
  /** Start time of the process as the kernel counts it: a pid alone is reused, and in a container it is always 1. */
  readonly started: string | null;
  /** 0 until the server listens. */
  readonly port: number;
  readonly token: string;
}

export class DataDir {
  /** The folder that PGlite uses. */
  readonly folder: string;
  readonly #root: string;
  readonly #holder: Holder;

  private constructor(root: string, holder: Holder) {
    this.#root = root;
    this.#holder = holder;
    this.folder = join(root, "data");
  }

  /** Locks the folder for this process. Throws an error that names the process if another one holds it. */
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

  /** Runs `make`; `created` is true if the folder has no data yet. */
  async initialize<T>(make: (created: boolean) => Promise<T>): Promise<T> {
    if (await exists(join(this.folder, "PG_VERSION"))) return await make(false);
    await writeFile(this.#initializing, "");
    const made = await make(true);
    await unlink(this.#initializing);
    return made;
  }

  /** The superuser's password; generated at the first call, in a file with mode 0600. */
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

  /** Writes the port into the lock file, for the error message of a process that is refused. */
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

  /** Creates the lock file atomically: it is written under another name and linked; link() fails if a lock exists. */
  async #lock(): Promise<void> {
    const draft = `${this.#lockPath}.${this.#holder.token}`;
    await writeFile(draft, JSON.stringify(this.#holder), { mode: 0o600 });
    try {
      for (let attempt = 0; attempt < 10; attempt++) {
        if (await linked(draft, this.#lockPath)) return;
        const holder = await readHolder(this.#lockPath);
        if (holder !== null) await this.#takeOver(holder);
      }
      throw new Error(`${this.#lockPath} keeps changing: are several processes starting on this folder?`);
    } finally {
      await rm(draft, { force: true });
    }
  }

  /**
   * Removes the lock of a dead process. Race: if two processes do this at once, the second rename may catch the lock
   * that the first process has just created. So the caught file is read, and restored if it is not the dead process's.
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
  const where = holder.port === 0 ? "(still starting)" : `on port ${holder.port}`;
  return new Error(
    `The built-in Postgres in ${root} is in use by process ${holder.pid} ${where}. ` +
      "Connect to it, stop it, or use another folder.",
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

/** Field 22 of /proc/<pid>/stat; null without such a file (other systems, dead process). */
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
