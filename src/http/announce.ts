// Stores PUBLIC_URL in brainops.installation, so that SQL knows where links lead: without it
// marketing can't be launched, and opt-in mails wait. Runs in the background, so that the server starts even if
// Postgres is unreachable.
import type pg from "pg";
import { messageOf } from "../errors.ts";
import type { Log } from "../telemetry/log.ts";

const RETRY_MS = 30_000;

/** Call `begin` once the server listens; it retries until it succeeds or `stop` is called. No-op without a URL. */
export function announcePublicUrl(
  pool: pg.Pool,
  publicUrl: string | undefined,
  log: Log,
): { begin(): void; stop(): void } {
  let stopped = publicUrl === undefined;
  let timer: NodeJS.Timeout | undefined;
  const announce = async (): Promise<void> => {
    if (stopped) return;
    try {
      await pool.query("select brainops.announce_public_url($1)", [publicUrl]);
    } catch (error) {
      if (stopped) return;
      log.warn({ reason: messageOf(error) }, "could not store PUBLIC_URL; will retry");
      timer = setTimeout(() => void announce(), RETRY_MS).unref();
    }
  };
  return {
    begin: () => void announce(),
    stop: () => {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
