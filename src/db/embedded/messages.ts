// Frames of the Postgres wire protocol, version 3.0: splits a byte stream into frames, reads the few fields that the
// server needs, and builds the frames that the server sends itself. All other frames pass through unchanged.

/** Limit for a client's frame. Postgres allows 1 GB, which this process would have to hold in memory. */
export const MAX_FRAME_BYTES = 64 * 1024 * 1024;
/** Postgres' limit for StartupMessage (PG_MAX_STARTUP_PACKET_LENGTH); also large enough for SASL responses. */
export const MAX_STARTUP_BYTES = 10_000;

export const PROTOCOL_3_0 = 196_608;
export const SSL_REQUEST = 80_877_103;
export const GSSENC_REQUEST = 80_877_104;
export const CANCEL_REQUEST = 80_877_102;

/** The fields of an ErrorResponse. */
export interface ErrorFields {
  readonly code: string;
  readonly message: string;
  readonly detail?: string;
  readonly hint?: string;
}

/** An error raised by this server and not by Postgres. It ends the connection with a FATAL ErrorResponse. */
export class FatalError extends Error {
  override name = "FatalError";
  readonly fields: ErrorFields;

  constructor(code: string, message: string, more: { detail?: string; hint?: string } = {}) {
    super(message);
    this.fields = { code, message, ...more };
  }
}

/** Splits a stream of chunks into frames. Copies chunks only if a frame spans several. */
export class FrameReader {
  #chunks: Buffer[] = [];
  #size = 0;

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
  }

  /** The next complete frame with its header; null if it is not complete yet. `typed` is false for frames before authentication. */
  next(typed: boolean, limit: number): Buffer | null {
    const header = typed ? 5 : 4;
    if (this.#size < header) return null;
    const length = this.#join(header).readInt32BE(header - 4);
    if (length < 4 || length > limit) {
      throw new FatalError("08P01", `invalid message length ${length}: expected 4 to ${limit} bytes`);
    }
    const total = header - 4 + length;
    if (this.#size < total) return null;
    const joined = this.#join(total);
    this.#size -= total;
    if (joined.length === total) this.#chunks.shift();
    else this.#chunks[0] = joined.subarray(total);
    return joined.subarray(0, total);
  }

  /** Makes the first chunk at least `bytes` long. */
  #join(bytes: number): Buffer {
    const first = this.#chunks[0] ?? Buffer.alloc(0);
    if (first.length >= bytes) return first;
    const joined = Buffer.concat(this.#chunks);
    this.#chunks = [joined];
    return joined;
  }
}

/** The type letter of a frame. */
export function typeOf(frame: Buffer): string {
  return String.fromCharCode(frame[0] ?? 0);
}

/** The zero-terminated string at `offset`. Throws a ProtocolViolation if the zero is missing, as Postgres does. */
export function cstring(frame: Buffer, offset: number): { text: string; end: number } {
  const end = frame.indexOf(0, offset);
  if (end < 0) throw new ProtocolViolation("invalid string in message");
  return { text: frame.toString("utf8", offset, end), end: end + 1 };
}

/** A malformed message in a valid frame: the batch fails with 08P01, the connection stays open. */
export class ProtocolViolation extends Error {
  override name = "ProtocolViolation";
}

export function encode(type: string, ...parts: readonly (Buffer | string)[]): Buffer {
  const body = parts.map((part) => (typeof part === "string" ? Buffer.from(part, "utf8") : part));
  const length = body.reduce((sum, part) => sum + part.length, 4);
  const header = Buffer.alloc(5);
  header.write(type, 0, "latin1");
  header.writeInt32BE(length, 1);
  return Buffer.concat([header, ...body]);
}

export function int32(...values: readonly number[]): Buffer {
  const buffer = Buffer.alloc(values.length * 4);
  values.forEach((value, index) => buffer.writeInt32BE(value, index * 4));
  return buffer;
}

export function errorResponse(severity: "ERROR" | "FATAL", fields: ErrorFields): Buffer {
  const parts = [`S${severity}\0V${severity}\0C${fields.code}\0M${fields.message}\0`];
  if (fields.detail !== undefined) parts.push(`D${fields.detail}\0`);
  if (fields.hint !== undefined) parts.push(`H${fields.hint}\0`);
  return encode("E", ...parts, "\0");
}

/** The fields of an ErrorResponse or NoticeResponse that Postgres sent, by their letter. */
export function errorFields(response: Buffer): ErrorFields {
  const fields = new Map<string, string>();
  for (let offset = 5; offset < response.length && response[offset] !== 0;) {
    const { text, end } = cstring(response, offset + 1);
    fields.set(String.fromCharCode(response[offset] ?? 0), text);
    offset = end;
  }
  return { code: fields.get("C") ?? "XX000", message: fields.get("M") ?? "unknown error" };
}

export const query = (sql: string): Buffer => encode("Q", sql, "\0");
export const closeStatement = (name: string): Buffer => encode("C", "S", name, "\0");
export const sync = encode("S");
export const copyFail = encode("f", "no data was sent\0");

/** The frames of a complete response, as views into it. */
export function* frames(answer: Buffer): Generator<Buffer> {
  for (let offset = 0; offset + 5 <= answer.length;) {
    const end = offset + 1 + answer.readInt32BE(offset + 1);
    yield answer.subarray(offset, end);
    offset = end;
  }
}
