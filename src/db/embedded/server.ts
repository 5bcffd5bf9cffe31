// The TCP server: accepts and authenticates clients, keeps the list of connections, and cleans up after each.
import { randomBytes, randomInt } from "node:crypto";
import { createServer, type Server, type Socket } from "node:net";
import type { Notification } from "./answer.ts";
import { authenticate, type AuthMethod, type Role } from "./authenticate.ts";
import { Connection, encodingError, hasEncoding, signed, type Host } from "./connection.ts";
import { EngineCrash, type Engine } from "./engine.ts";
import { errorResponse, FatalError, encode, int32, type ErrorFields } from "./messages.ts";
import { Session } from "./session.ts";
import { literal } from "./sqltext.ts";
import { readStartup, type Startup } from "./startup.ts";
import { MessageStream } from "./stream.ts";

export type Log = (level: "info" | "warn" | "error", message: string) => void;

export interface ServerOptions {
  readonly port: number;
  readonly auth: AuthMethod;
  readonly idleInTransactionMs: number;
  readonly maxConnections: number;
  readonly log: Log;
  /** Called once when Postgres has crashed; from then on the server refuses every client. */
  readonly onCrash: () => void;
}

interface Entry {
  readonly connection: Connection;
  readonly role: Role;
  readonly secret: number;
}

/** Like Postgres' authentication_timeout, but shorter, because clients connect over loopback. */
const AUTHENTICATION_MS = 30_000;

export class EmbeddedServer implements Host {
  readonly engine: Engine;
  readonly idleInTransactionMs: number;
  readonly #options: ServerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #entries = new Map<number, Entry>();
  readonly #running = new Set<Promise<void>>();
  readonly #mockKey = randomBytes(32);
  #lastId = 1000;
  #hasCloseFunction = false;
  #crashed = false;

  constructor(engine: Engine, options: ServerOptions) {
    this.engine = engine;
    this.idleInTransactionMs = options.idleInTransactionMs;
    this.#options = options;
    this.#server = createServer({ noDelay: true }, (socket) => this.#accept(socket));
    // Leaves room for clients that are logging in, or that receive the error "too many clients".
    this.#server.maxConnections = options.maxConnections * 2;
    engine.onNotification = (notification) => this.deliver(notification, null);
  }

  /** Listens on loopback and returns the port. */
  async listen(): Promise<number> {
    await this.engine.lock.run(() => this.#connectionClosed(null));
    return await new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ host: "127.0.0.1", port: this.#options.port }, () => {
        this.#server.off("error", reject);
        const address = this.#server.address();
        resolve(typeof address === "object" && address !== null ? address.port : this.#options.port);
      });
    });
  }

  sessions(): Session[] {
    return [...this.#entries.values()].map(({ connection }) => connection.session);
  }

  /** Sends a notification to every listening connection except `from`, which receives it in its own response. */
  deliver(notification: Notification, from: Session | null): void {
    for (const { connection } of this.#entries.values()) {
      if (connection.session === from || !connection.session.channels.has(notification.channel)) continue;
      connection.notify(signed(notification.frame, from?.id ?? 0));
    }
  }

  /** Terminates all connections and waits until each has rolled back. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#terminate({ code: "57P01", message: "terminating connection due to administrator command" });
    await Promise.all(this.#running);
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #terminate(fields: ErrorFields): void {
    for (const { connection } of this.#entries.values()) {
      connection.stream.write(errorResponse("FATAL", fields));
      connection.stream.end();
    }
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    // A reset appears as the end of the stream; without a listener, Node would end the process.
    socket.on("error", () => undefined);
    const stream = new MessageStream(socket);
    const running = this.#serve(socket, stream)
      .catch((error: unknown) => this.#failed(stream, error))
      .finally(() => {
        stream.end();
        this.#running.delete(running);
      });
    this.#running.add(running);
  }

  #failed(stream: MessageStream, error: unknown): void {
    if (error instanceof FatalError) {
      stream.write(errorResponse("FATAL", error.fields));
      return;
    }
    const message = error instanceof Error ? error.message : String(error);
    if (error instanceof EngineCrash) this.#crash(message);
    else this.#options.log("error", `a connection failed: ${message}`);
    stream.write(errorResponse("FATAL", { code: "XX000", message }));
  }

  /** Terminates all connections: a crashed Postgres can't be trusted. The restart recovers the data from the WAL. */
  #crash(message: string): void {
    if (this.#crashed) return;
    this.#crashed = true;
    this.#options.log("error", `the built-in Postgres crashed: ${message}`);
    this.#terminate({ code: "57P02", message: "terminating connection because of crash of another server process" });
    this.#options.onCrash();
  }

  async #serve(socket: Socket, stream: MessageStream): Promise<void> {
    const timeout = setTimeout(() => socket.destroy(), AUTHENTICATION_MS);
    let entry: Entry | null;
    try {
      entry = await this.#login(stream);
    } finally {
      clearTimeout(timeout);
    }
    if (entry === null) return;
    const { connection } = entry;
    try {
      await connection.serve();
    } finally {
      this.#entries.delete(connection.session.id);
      await connection.leave(() => this.#connectionClosed(connection.session.id));
    }
  }

  async #login(stream: MessageStream): Promise<Entry | null> {
    const startup = await readStartup(stream);
    if (startup === null) return null;
    if ("secret" in startup) {
      const entry = this.#entries.get(startup.pid);
      if (entry?.secret === startup.secret) entry.connection.cancel();
      return null;
    }
    if (this.#crashed) throw new FatalError("57P03", "the database system is shutting down");
    const role = await authenticate(this.engine, stream, startup, { auth: this.#options.auth, mockKey: this.#mockKey });
    this.#refuseTooMany(role);

    const session = new Session(++this.#lastId, role);
    const secret = randomInt(2 ** 31);
    const entry = { connection: new Connection(this, session, stream), role, secret };
    // Added before the first await, so that the connection limits count it.
    this.#entries.set(session.id, entry);
    try {
      await this.engine.lock.run(() => this.#openSession(session, role, startup));
    } catch (error) {
      this.#entries.delete(session.id);
      throw error;
    }
    const reports = [...session.reported].map(([name, value]) => encode("S", `${name}\0${value}\0`));
    stream.write(encode("R", int32(0)), ...reports, encode("K", int32(session.id, secret)), encode("Z", "I"));
    return entry;
  }

  async #openSession(session: Session, role: Role, startup: Startup): Promise<void> {
    const roleSettings = role.settings.map((each) => {
      const at = each.indexOf("=");
      return [each.slice(0, at), each.slice(at + 1)] as const;
    });
    session.base = new Map([
      ...roleSettings,
      ["brainops.embedded", "on"],
      ["brainops.connection_id", String(session.id)],
    ]);
    await this.engine.activate(session);
    // Runs as the role itself, so that it cannot set more here than later by SQL.
    for (const [name, value] of startup.settings) {
      await this.engine.ask(`select pg_catalog.set_config(${literal(name)}, ${literal(value)}, false)`);
    }
    const encoding = this.engine.reports().get("client_encoding") ?? "UTF8";
    if (!hasEncoding(encoding)) throw encodingError(encoding);
    session.base = this.engine.settings();
    for (const [name, value] of this.engine.reports()) session.reported.set(name, value);
  }

  #refuseTooMany(role: Role): void {
    if (this.#entries.size >= this.#options.maxConnections) {
      throw new FatalError("53300", "sorry, too many clients already", {
        hint: `The built-in Postgres accepts at most ${this.#options.maxConnections} connections.`,
      });
    }
    const same = [...this.#entries.values()].filter((entry) => entry.role.oid === role.oid).length;
    if (role.connectionLimit >= 0 && same >= role.connectionLimit && !role.superuser) {
      throw new FatalError("53300", `too many connections for role "${role.name}"`);
    }
  }

  /** Reports to SQL that a connection ended, or with null that no connection of an earlier process exists; see the README. */
  async #connectionClosed(id: number | null): Promise<void> {
    try {
      this.#hasCloseFunction ||=
        (
          await this.engine.system(`
            select 1
            from pg_catalog.pg_proc as p
            inner join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
            where n.nspname = 'brainops_internal'
            and p.proname = 'embedded_connection_closed'
          `)
        ).length > 0;
      if (this.#hasCloseFunction)
        await this.engine.system(
          `select brainops_internal.embedded_connection_closed(${id === null ? "null" : literal(String(id))})`,
        );
    } catch (error) {
      if (error instanceof EngineCrash) throw error;
      this.#options.log("warn", `brainops_internal.embedded_connection_closed failed: ${String(error)}`);
    }
  }
}
