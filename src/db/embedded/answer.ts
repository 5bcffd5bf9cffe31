// Parses Postgres' response to a batch: what the server needs from it, and what is sent to the client.
import { cstring, errorFields, frames, typeOf, type ErrorFields } from "./messages.ts";

/** ReadyForQuery's transaction status: idle, in a transaction, in a failed one. */
export type Status = "I" | "T" | "E";

export interface Notification {
  readonly channel: string;
  readonly frame: Buffer;
}

export interface Answer {
  readonly raw: Buffer;
  /** What is sent to the client, in order. A notification keeps its position and is sent only to listening connections. */
  readonly parts: readonly (Buffer | Notification)[];
  /** Null if the batch had no Sync: the extended query continues. */
  readonly status: Status | null;
  readonly error: ErrorFields | null;
  readonly parseCompletes: number;
  /** CommandComplete tags without row counts. */
  readonly tags: ReadonlySet<string>;
  readonly reports: ReadonlyMap<string, string>;
  readonly copyIn: boolean;
}

/** @param repeats numbers of the ParseComplete messages, from 0, that the client must not see */
export function readAnswer(raw: Buffer, repeats: ReadonlySet<number>): Answer {
  const parts: (Buffer | Notification)[] = [];
  const tags = new Set<string>();
  const reports = new Map<string, string>();
  let status: Status | null = null;
  let error: ErrorFields | null = null;
  let parseCompletes = 0;
  let copyIn = false;
  // Consecutive unchanged frames are sent as one view, which starts at `from`.
  let from = 0;
  let at = 0;
  const cut = (frame: Buffer, replacement?: Notification): void => {
    if (at > from) parts.push(raw.subarray(from, at));
    if (replacement !== undefined) parts.push(replacement);
    from = at + frame.length;
  };
  for (const frame of frames(raw)) {
    switch (typeOf(frame)) {
      case "Z":
        status = statusOf(frame);
        break;
      case "C":
        tags.add(cstring(frame, 5).text.replace(/[\d ]+$/, ""));
        break;
      case "E":
        error ??= errorFields(frame);
        break;
      case "G":
        copyIn = true;
        break;
      case "1":
        if (repeats.has(parseCompletes++)) cut(frame);
        break;
      case "A":
        cut(frame, { channel: cstring(frame, 9).text, frame: Buffer.from(frame) });
        break;
      case "S": {
        const name = cstring(frame, 5);
        reports.set(name.text, cstring(frame, name.end).text);
        break;
      }
    }
    at += frame.length;
  }
  if (raw.length > from) parts.push(raw.subarray(from));
  return { raw, parts, status, error, parseCompletes, tags, reports, copyIn };
}

function statusOf(frame: Buffer): Status {
  const letter = String.fromCharCode(frame[5] ?? 0);
  return letter === "T" || letter === "E" ? letter : "I";
}

/** The rows in the response to a simple query, as text. */
export function rowsOf(raw: Buffer): (string | null)[][] {
  const rows: (string | null)[][] = [];
  for (const frame of frames(raw)) {
    if (typeOf(frame) !== "D") continue;
    const row: (string | null)[] = [];
    for (let offset = 7; offset < frame.length;) {
      const length = frame.readInt32BE(offset);
      offset += 4;
      row.push(length < 0 ? null : frame.toString("utf8", offset, offset + length));
      offset += Math.max(length, 0);
    }
    rows.push(row);
  }
  return rows;
}
