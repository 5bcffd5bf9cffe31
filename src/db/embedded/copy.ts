// COPY FROM STDIN. Postgres reads the data while the statement runs, but PGlite needs all data up front. So the
// statement first runs with a CopyFail, which returns the real CopyInResponse (or the real error) and changes
// nothing; then the client's data is collected, and the statement runs again with it.
import type { Answer, Notification } from "./answer.ts";
import { cstring, errorResponse, FatalError, frames, MAX_FRAME_BYTES, query, typeOf } from "./messages.ts";
import { isCopyFromStdin } from "./sqltext.ts";
import type { MessageStream } from "./stream.ts";

/** The data of one COPY is kept in memory until it is complete. */
const MAX_COPY_BYTES = 8 * MAX_FRAME_BYTES;
const SAVEPOINT = '"brainops copy"';

interface CopyContext {
  readonly stream: MessageStream;
  readonly inTransaction: boolean;
  run(batch: readonly Buffer[]): Promise<Answer>;
  /** Releases the lock while the client sends its data, unless a transaction is open. */
  pause(): void;
  resume(): Promise<boolean>;
}

/** Whether a Query consists of one COPY FROM STDIN only. */
export function copyInOnly(message: Buffer): boolean {
  const end = message.indexOf(0, 5);
  return isCopyFromStdin(message.toString("utf8", 5, end < 0 ? undefined : end));
}

/** Runs the COPY. Null if the client disconnected before its data was complete. */
export async function copyIn(message: Buffer, context: CopyContext): Promise<Answer | null> {
  if (context.inTransaction) await context.run([query(`savepoint ${SAVEPOINT}`)]);
  const trial = await context.run([message]);
  const response = [...frames(trial.raw)].find((each) => typeOf(each) === "G");
  if (response === undefined) return trial;
  if (context.inTransaction)
    await context.run([query(`rollback to savepoint ${SAVEPOINT}; release savepoint ${SAVEPOINT}`)]);

  context.stream.write(response);
  const data = await collect(context);
  if (data === null || !(await context.resume())) return null;
  const answer = await context.run([message, ...data]);
  // The client already received its CopyInResponse.
  const parts = answer.parts.flatMap<Buffer | Notification>((part) =>
    Buffer.isBuffer(part) ? without(part, "G") : [part],
  );
  return { ...answer, parts };
}

/** CopyData up to CopyDone or CopyFail; null if the client disconnected. */
async function collect(context: CopyContext): Promise<Buffer[] | null> {
  const data: Buffer[] = [];
  let bytes = 0;
  for (;;) {
    context.pause();
    const message = await context.stream.next(MAX_FRAME_BYTES);
    const type = message === null ? "X" : typeOf(message);
    if (message === null || type === "X") return null;
    if (type === "S" || type === "H") continue;
    if (!"dcf".includes(type)) throw new FatalError("08P01", `unexpected message type ${type} during COPY from stdin`);
    data.push(message);
    bytes += message.length;
    if (bytes > MAX_COPY_BYTES) {
      throw new FatalError("54000", `a COPY has more than ${MAX_COPY_BYTES} bytes of data`, {
        hint: "Copy in several parts.",
      });
    }
    if (type !== "d") return data;
  }
}

/** Replaces the error of a COPY FROM STDIN that was not a simple query of its own, and so had no data. */
export function copyRefused(answer: Answer): Answer {
  if (!answer.copyIn) return answer;
  const refusal = errorResponse("ERROR", {
    code: "0A000",
    message: "COPY FROM STDIN must be a simple query of its own in the built-in Postgres",
  });
  const parts = answer.parts.flatMap<Buffer | Notification>((part) =>
    Buffer.isBuffer(part) ? without(part, "G").map((each) => (isCopyFailure(each) ? refusal : each)) : [part],
  );
  return { ...answer, parts };
}

function without(part: Buffer, type: string): Buffer[] {
  return [...frames(part)].filter((each) => typeOf(each) !== type);
}

function isCopyFailure(message: Buffer): boolean {
  return typeOf(message) === "E" && message.includes("C57014\0") && cstring(message, 5).text.startsWith("SERROR");
}
