// A client's socket as messages in and frames out.
import { once } from "node:events";
import type { Socket } from "node:net";
import { FrameReader } from "./messages.ts";

export class MessageStream {
  readonly #socket: Socket;
  readonly #chunks: AsyncIterator<Buffer>;
  readonly #reader = new FrameReader();

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#chunks = socket[Symbol.asyncIterator]();
  }

  /** The next frame, or null when the client is gone. Not reading on while a batch runs is the flow control. */
  async next(limit: number, typed = true): Promise<Buffer | null> {
    for (;;) {
      const frame = this.#reader.next(typed, limit);
      if (frame !== null) return frame;
      const chunk = await this.#chunks.next().catch(() => null);
      if (chunk === null || chunk.done === true) return null;
      this.#reader.push(chunk.value);
    }
  }

  write(...frames: readonly Buffer[]): void {
    if (!this.#socket.writable) return;
    this.#socket.cork();
    for (const each of frames) this.#socket.write(each);
    this.#socket.uncork();
  }

  /** Waits until a slow client has taken most of what was written, or is gone. */
  async drained(): Promise<void> {
    if (!this.#socket.writableNeedDrain || this.#socket.destroyed) return;
    const closed = new AbortController();
    const wait = (event: string): Promise<unknown> => once(this.#socket, event, { signal: closed.signal });
    await Promise.race([wait("drain"), wait("close")]).catch(() => undefined);
    closed.abort();
  }

  /** Ends the connection after what was written has gone out; a client that does not read has a second. */
  end(): void {
    if (this.#socket.destroyed) return;
    this.#socket.destroySoon();
    const timer = setTimeout(() => this.#socket.destroy(), 1000);
    this.#socket.once("close", () => clearTimeout(timer));
  }

  get closed(): boolean {
    return this.#socket.destroyed;
  }
}
