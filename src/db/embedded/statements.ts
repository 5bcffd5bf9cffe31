// Prepared statements of one connection, in a session that all connections share.
//
// A named statement is renamed to name@connection. The unnamed statement stays unnamed: most drivers parse and use it
// within one batch, and Postgres plans it better. If a driver parses it in one batch and binds it in the next, the
// Parse is repeated; the same applies to named statements that another connection's DISCARD ALL or DEALLOCATE ALL
// removed. Portals are not renamed: they end with the transaction, during which the lock is held.
import { createHash } from "node:crypto";
import { cstring, encode, ProtocolViolation, query, typeOf } from "./messages.ts";
import { deallocatedName, identifier, listenCommands, type ListenCommand } from "./sqltext.ts";

export interface Statement {
  readonly parse: Buffer;
  readonly commands: readonly ListenCommand[];
  /** Whether the statement still exists in Postgres. */
  present: boolean;
}

/** A batch as it is sent to Postgres. */
export interface Rewritten {
  readonly frames: readonly Buffer[];
  /** Numbers (from 0) of the ParseComplete messages that belong to repeated Parses, which the client must not see. */
  readonly repeats: ReadonlySet<number>;
  /** The statement of each Parse in the batch, repeated or not; null if it is not kept. */
  readonly parses: readonly (Statement | null)[];
  /** LISTEN and UNLISTEN that this batch executes. */
  readonly commands: readonly ListenCommand[];
}

const NAME_BYTES = 63;

export class PreparedStatements {
  readonly #owner: number;
  readonly #named = new Map<string, Statement>();
  #unnamed: Statement | null = null;

  constructor(owner: number) {
    this.#owner = owner;
  }

  /** Another connection used the session, so the unnamed statement is not this connection's any more. */
  unnamedLost(): void {
    if (this.#unnamed !== null) this.#unnamed.present = false;
  }

  /** Another connection deallocated all statements of the session. */
  allLost(): void {
    this.unnamedLost();
    for (const statement of this.#named.values()) statement.present = false;
  }

  /** This connection deallocated all its statements. */
  forget(): void {
    this.#named.clear();
    this.#unnamed = null;
  }

  /** The names of this connection's statements in Postgres. */
  names(): string[] {
    return [...this.#named.keys()].map((name) => this.#rename(name));
  }

  rewrite(batch: readonly Buffer[]): Rewritten {
    const frames: Buffer[] = [];
    const repeats = new Set<number>();
    const commands: ListenCommand[] = [];
    const parses: (Statement | null)[] = [];
    const use = (name: string): void => {
      const statement = name === "" ? this.#unnamed : this.#named.get(name);
      if (statement === null || statement === undefined || statement.present) return;
      repeats.add(parses.length);
      parses.push(statement);
      frames.push(statement.parse);
      statement.present = true;
    };
    const rewrite = (message: Buffer): void => {
      switch (typeOf(message)) {
        case "Q": {
          this.#unnamed = null;
          const sql = cstring(message, 5).text;
          commands.push(...listenCommands(sql));
          frames.push(this.#deallocate(sql) ?? message);
          break;
        }
        case "P": {
          const { rewritten, statement } = this.#parse(message);
          parses.push(statement);
          frames.push(rewritten);
          break;
        }
        case "B": {
          const portal = cstring(message, 5);
          const name = cstring(message, portal.end);
          use(name.text);
          commands.push(...(this.#find(name.text)?.commands ?? []));
          frames.push(this.#renamed(message, portal.end, name));
          break;
        }
        case "D":
        case "C": {
          const name = cstring(message, 6);
          if (message[5] !== STATEMENT) frames.push(message);
          else {
            if (typeOf(message) === "D") use(name.text);
            else this.#close(name.text);
            frames.push(this.#renamed(message, 6, name));
          }
          break;
        }
        default:
          frames.push(message);
      }
    };
    for (const message of batch) {
      try {
        rewrite(message);
      } catch (error) {
        if (!(error instanceof ProtocolViolation)) throw error;
        // Sent unchanged: Postgres reports the missing zero itself.
        frames.push(message);
      }
    }
    return { frames, repeats, parses, commands };
  }

  /** Called after the batch. A Parse without ParseComplete has created no statement in Postgres. */
  settle(rewritten: Rewritten, parseCompletes: number): void {
    const failed = new Set(rewritten.parses.slice(parseCompletes));
    for (const statement of failed) if (statement !== null) statement.present = false;
    for (const [name, statement] of this.#named) {
      if (failed.has(statement) && !rewritten.repeats.has(rewritten.parses.indexOf(statement)))
        this.#named.delete(name);
    }
  }

  #find(name: string): Statement | null {
    return name === "" ? this.#unnamed : (this.#named.get(name) ?? null);
  }

  #parse(message: Buffer): { rewritten: Buffer; statement: Statement | null } {
    const name = cstring(message, 5);
    const sql = cstring(message, name.end).text;
    const rewritten = this.#deallocateParse(message, name, sql) ?? this.#renamed(message, 5, name);
    const known = this.#named.get(name.text);
    // Postgres rejects a second statement with that name, so the first one is kept.
    if (name.text !== "" && known?.present === true) return { rewritten, statement: null };
    // Copied: the message is a view into a chunk of the stream, which would be kept in memory as a whole.
    const statement = { parse: Buffer.from(rewritten), commands: listenCommands(sql), present: true };
    if (name.text === "") this.#unnamed = statement;
    else this.#named.set(name.text, statement);
    return { rewritten, statement };
  }

  #close(name: string): void {
    if (name === "") this.#unnamed = null;
    else this.#named.delete(name);
  }

  /** Renames the statement in DEALLOCATE, which some drivers send instead of Close; null for any other query. */
  #deallocate(sql: string): Buffer | null {
    const renamed = this.#deallocateSql(sql);
    return renamed === null ? null : query(renamed);
  }

  #deallocateParse(message: Buffer, name: { text: string; end: number }, sql: string): Buffer | null {
    const renamed = this.#deallocateSql(sql);
    if (renamed === null) return null;
    const rest = message.subarray(cstring(message, name.end).end);
    return encode("P", this.#rename(name.text), "\0", renamed, "\0", rest);
  }

  #deallocateSql(sql: string): string | null {
    const name = deallocatedName(sql);
    if (name === null || !this.#named.has(name)) return null;
    this.#named.delete(name);
    return `deallocate ${identifier(this.#rename(name))}`;
  }

  #renamed(message: Buffer, start: number, name: { text: string; end: number }): Buffer {
    if (name.text === "") return message;
    return encode(typeOf(message), message.subarray(5, start), this.#rename(name.text), message.subarray(name.end - 1));
  }

  /** Postgres truncates names at 63 bytes; a longer name is replaced by its hash, so that names stay unique. */
  #rename(name: string): string {
    const renamed = `${name}@${this.#owner}`;
    if (name === "" || Buffer.byteLength(renamed) <= NAME_BYTES) return name === "" ? "" : renamed;
    return `${createHash("sha256").update(name).digest("hex").slice(0, 40)}@${this.#owner}`;
  }
}

const STATEMENT = "S".charCodeAt(0);
