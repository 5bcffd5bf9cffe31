// Reads and writes two pieces of Postgres' state that SQL can't reach, in the WebAssembly memory:
//
// - AuthenticatedUserId (miscinit.c): the role that logged in. It alone decides whether SET SESSION
//   AUTHORIZATION is allowed. PGlite has one session, which logged in as the superuser; with the connection's
//   role written here, Postgres itself rejects every attempt to leave that role, dynamic SQL included.
// - guc_nondef_list (guc.c): all settings with a non-default value, including custom ones. pg_settings omits
//   custom settings, and their names are needed to keep connections apart.
//
// No address is hard-coded: both are located at start by their contents and verified by Postgres' behaviour.
// A PGlite build in which that fails is refused; it never runs with less separation.

/** What this file uses of PGlite's Emscripten module. */
export interface WasmModule {
  readonly HEAPU8: Uint8Array;
  readonly UTF8ToString: (pointer: number) => string;
  readonly _GetConfigOption: (name: number, missingOk: number, restrictPrivileged: number) => number;
  readonly _GetSessionUserId: () => number;
}

/** Runs one simple query and returns the SQLSTATE of its error; null on success. */
export type Probe = (sql: string) => Promise<string | null>;

/** Offsets in struct config_generic of Postgres 18 on wasm32, all fields four bytes long. */
const NAME = 0;
const SOURCE = 32;
const NONDEF_LINK = 64;
const PGC_S_SESSION = 13;

const BOOTSTRAP_SUPERUSER = 10;
// Two built-in roles with fixed, different oids.
const PG_MONITOR = { name: "pg_monitor", oid: 3373 };
const PG_READ_ALL_DATA = { name: "pg_read_all_data", oid: 6181 };
/** Static data ends far below this address, so the heap is not searched. */
const STATIC_DATA_BYTES = 16 * 1024 * 1024;

export class Backend {
  readonly #module: WasmModule;
  readonly #authenticatedUser: number;
  readonly #nondefaultList: number;

  private constructor(module: WasmModule, authenticatedUser: number, nondefaultList: number) {
    this.#module = module;
    this.#authenticatedUser = authenticatedUser;
    this.#nondefaultList = nondefaultList;
  }

  /** Locates both variables. Throws for a PGlite build in which they cannot be found or verified. */
  static async find(module: WasmModule, probe: Probe): Promise<Backend> {
    const user = await findAuthenticatedUser(module, probe);
    return new Backend(module, user, await findNondefaultList(module, probe));
  }

  /** Makes Postgres treat `oid` as the role that logged in. */
  authenticateAs(oid: number): void {
    wordsOf(this.#module)[this.#authenticatedUser] = oid;
  }

  /** The oid of session_user. */
  sessionUser(): number {
    return this.#module._GetSessionUserId();
  }

  /** All settings that were set in the session, by name. Values are in the form that set_config accepts. */
  sessionSettings(): Map<string, string> {
    const settings = new Map<string, string>();
    const memory = wordsOf(this.#module);
    for (const record of walk(memory, this.#nondefaultList)) {
      if (memory[(record + SOURCE) >> 2] !== PGC_S_SESSION) continue;
      const name = memory[(record + NAME) >> 2] ?? 0;
      const value = this.#module._GetConfigOption(name, 1, 0);
      if (value !== 0) settings.set(this.#module.UTF8ToString(name), this.#module.UTF8ToString(value));
    }
    return settings;
  }
}

/** The memory as 32-bit words. Must not be kept: growing the memory detaches the array. */
function wordsOf(module: WasmModule): Uint32Array {
  return new Uint32Array(module.HEAPU8.buffer);
}

/** The addresses of the records on the list. */
function* walk(memory: Uint32Array, head: number): Generator<number> {
  let link = memory[(head + 4) >> 2] ?? head;
  for (let steps = 0; link !== head; link = memory[(link + 4) >> 2] ?? head) {
    if (++steps > 10_000) throw new Error("the list of settings in PGlite's memory is not circular");
    yield link - NONDEF_LINK;
  }
}

async function findAuthenticatedUser(module: WasmModule, probe: Probe): Promise<number> {
  await expectProbe(probe, `set session authorization ${PG_MONITOR.name}`, null);
  const isRun = (memory: Uint32Array, index: number, oid: number): boolean =>
    memory[index] === oid && memory[index + 1] === oid && memory[index + 2] === oid;
  const search = wordsOf(module);
  const runs: number[] = [];
  for (let index = 0; index < STATIC_DATA_BYTES / 4; index++)
    if (isRun(search, index, PG_MONITOR.oid)) runs.push(index);
  await expectProbe(probe, `set session authorization ${PG_READ_ALL_DATA.name}`, null);

  // SessionUserId, OuterUserId and CurrentUserId are adjacent; AuthenticatedUserId is close to them.
  for (const run of runs.filter((index) => isRun(wordsOf(module), index, PG_READ_ALL_DATA.oid))) {
    for (let index = run - 16; index < run + 16; index++) {
      if (wordsOf(module)[index] !== BOOTSTRAP_SUPERUSER) continue;
      wordsOf(module)[index] = PG_READ_ALL_DATA.oid;
      const refused = (await probe("set session authorization postgres")) === "42501";
      wordsOf(module)[index] = BOOTSTRAP_SUPERUSER;
      if (!refused) continue;
      await expectProbe(probe, "set session authorization postgres", null);
      return index;
    }
  }
  throw unknownBuild("AuthenticatedUserId was not found");
}

async function findNondefaultList(module: WasmModule, probe: Probe): Promise<number> {
  const marker = "brainops.embedded";
  await expectProbe(probe, `set ${marker} = 'on'`, null);
  const bytes = Buffer.from(module.HEAPU8.buffer);
  for (const name of occurrences(bytes, Buffer.from(`${marker}\0`))) {
    const pointer = Buffer.alloc(4);
    pointer.writeUInt32LE(name);
    for (const record of occurrences(bytes, pointer)) {
      const head = record % 4 === 0 ? headOf(module, record) : null;
      if (head === null) continue;
      const markers = [...walk(wordsOf(module), head)].filter((each) => nameAt(module, each) === marker);
      if (markers.length === 1) return head;
    }
  }
  throw unknownBuild("the list of settings was not found");
}

function* occurrences(bytes: Buffer, needle: Buffer): Generator<number> {
  for (let at = bytes.indexOf(needle); at >= 0; at = bytes.indexOf(needle, at + 1)) yield at;
}

/** The head of the list that contains `record`: its only link that does not belong to a setting. Null if `record` is not on a list. */
function headOf(module: WasmModule, record: number): number | null {
  const memory = wordsOf(module);
  if (memory[(record + SOURCE) >> 2] !== PGC_S_SESSION) return null;
  const start = record + NONDEF_LINK;
  const heads: number[] = [];
  const names = new Set<string>();
  let link = start;
  for (let steps = 0; steps < 10_000; steps++) {
    const next = memory[(link + 4) >> 2] ?? 0;
    if (next % 4 !== 0 || memory[next >> 2] !== link) return null;
    const name = nameAt(module, link - NONDEF_LINK);
    if (name === null) heads.push(link);
    else names.add(name);
    link = next;
    if (link === start) return heads.length === 1 && names.has("DateStyle") ? (heads[0] ?? null) : null;
  }
  return null;
}

function nameAt(module: WasmModule, record: number): string | null {
  const pointer = wordsOf(module)[(record + NAME) >> 2] ?? 0;
  if (pointer === 0 || pointer >= module.HEAPU8.length) return null;
  const name = module.UTF8ToString(pointer);
  return /^[A-Za-z_][\w.$]*$/.test(name) ? name : null;
}

async function expectProbe(probe: Probe, sql: string, expected: string | null): Promise<void> {
  const code = await probe(sql);
  if (code !== expected) throw unknownBuild(`"${sql}" returned ${code ?? "success"}`);
}

function unknownBuild(what: string): Error {
  return new Error(
    `This build of PGlite can't keep connections apart (${what}). Install the version of @electric-sql/pglite that BrainOps's package.json names.`,
  );
}
