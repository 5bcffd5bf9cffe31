// Tells the database where this server is reached, so that SQL can refuse to launch what would have no
// link to it. In the background: a server starts, and serves what needs no Postgres, without one.
import type pg from "pg";
import { messageOf } from "../errors.ts";
import type { Log } from "../telemetry/log.ts";

const AGAIN_MS = 30_000;

/** Begun once the server listens. Without a URL there is nothing to say. */
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
      log.warn({ reason: messageOf(error) }, "PUBLIC_URL could not be announced yet");
      timer = setTimeout(() => void announce(), AGAIN_MS).unref();
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
