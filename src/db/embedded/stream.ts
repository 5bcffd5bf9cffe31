// A client's socket as a stream of frames.
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

  /** The next frame; null if the client has disconnected. Flow control: nothing is read while a batch runs. */
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

  /** Waits until a slow client has read most of what was written, or has disconnected. */
  async drained(): Promise<void> {
    if (!this.#socket.writableNeedDrain || this.#socket.destroyed) return;
    const closed = new AbortController();
    const wait = (event: string): Promise<unknown> => once(this.#socket, event, { signal: closed.signal });
    await Promise.race([wait("drain"), wait("close")]).catch(() => undefined);
    closed.abort();
  }

  /** Closes the connection after pending writes are sent, or after one second if the client does not read. */
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
