// One client's connection after login: runs its batches, and holds the lock for as long as a transaction is open.
import type { Answer, Notification, Status } from "./answer.ts";
import { copyIn, copyInOnly, copyRefused } from "./copy.ts";
import type { Engine } from "./engine.ts";
import { applyListen, reconcile } from "./listen.ts";
import type { Release } from "./lock.ts";
import { errorResponse, FatalError, encode, MAX_FRAME_BYTES, typeOf } from "./messages.ts";
import type { Session } from "./session.ts";
import type { ListenCommand } from "./sqltext.ts";
import type { MessageStream } from "./stream.ts";

/** What a connection uses of its server. */
export interface Host {
  readonly engine: Engine;
  readonly idleInTransactionMs: number;
  /** The sessions of all connections that are logged in. */
  sessions(): Session[];
  /** Sends a notification to all listening connections except `from`. */
  deliver(notification: Notification, from: Session): void;
}

/** Limit for a whole batch, which is passed to Postgres in one piece. */
const MAX_BATCH_BYTES = 4 * MAX_FRAME_BYTES;

export class Connection {
  readonly session: Session;
  readonly stream: MessageStream;
  readonly #host: Host;
  #status: Status = "I";
  /** Set while this connection holds the lock: during a batch, and between the batches of a transaction. */
  #release: Release | null = null;
  #idleTimer: NodeJS.Timeout | undefined;
  #waiting: AbortController | null = null;
  /** LISTEN and UNLISTEN commands of the open transaction. */
  #uncommitted: ListenCommand[] = [];
  /** RESET or DISCARD ran, so the settings of the startup message must be restored. */
  #wasReset = false;

  constructor(host: Host, session: Session, stream: MessageStream) {
    this.#host = host;
    this.session = session;
    this.stream = stream;
  }

  /** Serves until the client disconnects. Throws a FatalError, which the caller sends to the client. */
  async serve(): Promise<void> {
    let batch: Buffer[] = [];
    let bytes = 0;
    for (;;) {
      const message = await this.stream.next(MAX_FRAME_BYTES);
      if (message === null) return;
      const type = typeOf(message);
      if (type === "X") return;
      if ("dcf".includes(type)) continue; // remains of a COPY that failed
      if (!"QPBDECHSF".includes(type))
        throw new FatalError("08P01", `invalid frontend message type ${message[0] ?? 0}`);
      batch.push(message);
      bytes += message.length;
      if (bytes > MAX_BATCH_BYTES) throw new FatalError("54000", `a batch is longer than ${MAX_BATCH_BYTES} bytes`);
      if (!"QSHF".includes(type)) continue;
      await this.#answer(batch, type);
      batch = [];
      bytes = 0;
    }
  }

  /** Handles a CancelRequest: cancels a batch that waits for the lock. A running batch can't be interrupted. */
  cancel(): void {
    this.#waiting?.abort(new FatalError("57014", "canceling statement due to user request"));
  }

  notify(notification: Buffer): void {
    this.stream.write(notification);
  }

  /** Rolls back and releases what the connection holds in Postgres; then runs `farewell` before the lock is released. */
  async leave(farewell: () => Promise<void>): Promise<void> {
    clearTimeout(this.#idleTimer);
    const { engine } = this.#host;
    const release = this.#release ?? (await engine.lock.acquire());
    try {
      if (engine.broken) return;
      // An open transaction means that the session is this connection's. Statements can be closed in any session.
      await engine.abandon(this.session);
      if (this.session.channels.size > 0) {
        this.session.channels.clear();
        await reconcile(engine, this.#host.sessions());
      }
      await farewell();
    } finally {
      this.#release = null;
      release();
    }
  }

  async #answer(batch: readonly Buffer[], type: string): Promise<void> {
    clearTimeout(this.#idleTimer);
    if (!(await this.#lock(type))) return;
    const { engine } = this.#host;
    const [first] = batch;
    const answer =
      type === "Q" && batch.length === 1 && first !== undefined && copyInOnly(first)
        ? await this.#copy(first)
        : copyRefused(await this.#run(batch));
    if (answer === null) return;
    this.#refuseEncoding(answer);
    await this.#settle(answer);
    this.#send(answer);
    // Null after a Flush: the extended query and its implicit transaction are still open.
    if (answer.status === "I") {
      if (this.#wasReset) engine.invalidate();
      this.#wasReset = false;
      this.#unlock();
    } else {
      this.#startIdleTimer();
    }
    await this.stream.drained();
  }

  /** Acquires the lock unless this connection holds it, and activates the session. False if the client cancelled or disconnected. */
  async #lock(type: string): Promise<boolean> {
    if (this.#release !== null) return true;
    this.#waiting = type === "Q" || type === "S" ? new AbortController() : null;
    try {
      this.#release = await this.#host.engine.lock.acquire(this.#waiting?.signal);
    } catch (error) {
      if (!(error instanceof FatalError)) throw error;
      this.stream.write(errorResponse("ERROR", error.fields), encode("Z", "I"));
      return false;
    } finally {
      this.#waiting = null;
    }
    if (this.stream.closed) {
      this.#unlock();
      return false;
    }
    await this.#host.engine.activate(this.session);
    this.#report();
    return true;
  }

  #unlock(): void {
    this.#release?.();
    this.#release = null;
  }

  async #run(batch: readonly Buffer[]): Promise<Answer> {
    const { statements } = this.session;
    const rewritten = statements.rewrite(batch);
    const answer = await this.#host.engine.run(rewritten.frames, rewritten.repeats);
    statements.settle(rewritten, answer.parseCompletes);
    this.#uncommitted.push(...rewritten.commands);
    return answer;
  }

  /** Throws if the client chose an encoding for which PGlite has no conversion: PGlite would crash at the first é. */
  #refuseEncoding(answer: Answer): void {
    const encoding = answer.reports.get("client_encoding") ?? "UTF8";
    if (!hasEncoding(encoding)) throw encodingError(encoding);
  }

  /** Repairs what the batch changed in shared parts of the session, before another connection gets the lock. */
  async #settle(answer: Answer): Promise<void> {
    const { engine } = this.#host;
    const wasIdle = this.#status === "I";
    this.#status = answer.status ?? this.#status;
    const { tags } = answer;
    if (tags.has("DEALLOCATE ALL") || tags.has("DISCARD ALL")) {
      this.session.statements.forget();
      for (const other of this.#host.sessions()) if (other !== this.session) other.statements.allLost();
    }
    if (tags.has("RESET") || tags.has("DISCARD ALL")) this.#wasReset = true;
    if (tags.has("DISCARD ALL")) this.#uncommitted = [{ verb: "unlisten", channel: null }];
    if (answer.status !== "I" || this.#uncommitted.length === 0) return;
    const rolledBack = tags.has("ROLLBACK") || (wasIdle && answer.error !== null);
    if (!rolledBack) {
      applyListen(this.session.channels, this.#uncommitted);
      await reconcile(engine, this.#host.sessions());
    }
    this.#uncommitted = [];
  }

  #send(answer: Answer): void {
    for (const [name, value] of answer.reports) this.session.reported.set(name, value);
    const toClient: Buffer[] = [];
    for (const part of answer.parts) {
      if (Buffer.isBuffer(part)) toClient.push(part);
      else {
        if (this.session.channels.has(part.channel)) toClient.push(signed(part.frame, this.session.id));
        this.#host.deliver(part, this.session);
      }
    }
    this.stream.write(...toClient);
  }

  /** Sends ParameterStatus for every parameter whose value differs from the one the client was sent. */
  #report(): void {
    const { reported } = this.session;
    for (const [name, value] of this.#host.engine.reports()) {
      if (reported.get(name) === value) continue;
      reported.set(name, value);
      this.stream.write(encode("S", `${name}\0${value}\0`));
    }
  }

  async #copy(message: Buffer): Promise<Answer | null> {
    return await copyIn(message, {
      stream: this.stream,
      inTransaction: this.#status === "T",
      run: (batch) => this.#run(batch),
      pause: () => {
        if (this.#status === "I") this.#unlock();
        else this.#startIdleTimer();
      },
      resume: async () => {
        clearTimeout(this.#idleTimer);
        return await this.#lock("");
      },
    });
  }

  #startIdleTimer(): void {
    const { idleInTransactionMs } = this.#host;
    clearTimeout(this.#idleTimer);
    this.#idleTimer = setTimeout(() => {
      const fields = { code: "25P03", message: "terminating connection due to idle-in-transaction timeout" };
      this.stream.write(errorResponse("FATAL", fields));
      this.stream.end(); // serve() sees the end of the stream, and leave() rolls back
    }, idleInTransactionMs);
  }
}

/** The notification with the notifying connection's number as the backend pid. */
export function signed(notification: Buffer, pid: number): Buffer {
  const copy = Buffer.from(notification);
  copy.writeInt32BE(pid, 5);
  return copy;
}

export const hasEncoding = (name: string): boolean => name === "UTF8" || name === "SQL_ASCII";

export function encodingError(name: string): FatalError {
  return new FatalError("0A000", `client_encoding ${name} is not supported by the built-in Postgres`, {
    hint: "Use UTF8.",
  });
}
