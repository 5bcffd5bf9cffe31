// The worker thread of an instance. A running query cannot be interrupted; in a thread it does not block the process's
// event loop, and it has the stack size that Postgres' recursion limit needs.
import { parentPort, workerData } from "node:worker_threads";
import { messageOf } from "../../errors.ts";
import { startInstance, type InstanceOptions } from "./instance.ts";

/** The thread's start options, without functions, which can't be passed to a thread. */
export type ThreadOptions = Omit<InstanceOptions, "log" | "onCrash">;

export type Request = { readonly id: number; readonly ask: "dump" | "close" };

export type Report =
  | { readonly kind: "ready"; readonly url: string; readonly port: number }
  | { readonly kind: "failed"; readonly message: string }
  | { readonly kind: "log"; readonly level: "info" | "warn" | "error"; readonly message: string }
  | { readonly kind: "done"; readonly id: number; readonly data: ArrayBuffer | null }
  | { readonly kind: "refused"; readonly id: number; readonly message: string }
  | { readonly kind: "crashed"; readonly data: ArrayBuffer | null };

async function main(port: NonNullable<typeof parentPort>): Promise<void> {
  const report = (message: Report, transfer: ArrayBuffer[] = []): void => port.postMessage(message, transfer);
  const bytes = async (blob: Blob | null): Promise<ArrayBuffer | null> => (await blob?.arrayBuffer()) ?? null;
  const crashed = Promise.withResolvers<void>();
  const instance = await startInstance({
    ...(workerData as ThreadOptions),
    log: (level, message) => report({ kind: "log", level, message }),
    onCrash: () => crashed.resolve(),
  });
  report({ kind: "ready", url: instance.url, port: instance.port });

  port.on("message", async ({ id, ask }: Request) => {
    try {
      const data = ask === "dump" ? await bytes(await instance.dump()) : await bytes(null);
      if (ask === "close") await instance.close();
      report({ kind: "done", id, data }, data === null ? [] : [data]);
      if (ask === "close") port.close();
    } catch (error) {
      report({ kind: "refused", id, message: messageOf(error) });
    }
  });

  await crashed.promise;
  const data = await bytes(await instance.salvage());
  report({ kind: "crashed", data }, data === null ? [] : [data]);
  port.close();
}

if (parentPort === null) throw new Error("thread.ts is the entry of a worker thread; call startEmbedded() instead");
const toParent = parentPort;
main(toParent).catch((error: unknown) => {
  toParent.postMessage({ kind: "failed", message: messageOf(error) } satisfies Report, []);
  toParent.close();
});
