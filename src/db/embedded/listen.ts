// LISTEN for many connections over one session: Postgres listens on whatever any of them listens on, and each
// notification goes to those connections only.
import type { Engine } from "./engine.ts";
import type { Session } from "./session.ts";
import { identifier, type ListenCommand } from "./sqltext.ts";

/** Applies commands whose transaction has committed. */
export function applyListen(channels: Set<string>, commands: readonly ListenCommand[]): void {
  for (const { verb, channel } of commands) {
    if (channel === null) channels.clear();
    else if (verb === "listen") channels.add(channel);
    else channels.delete(channel);
  }
}

/**
 * Makes Postgres listen on what the connections listen on: one's UNLISTEN has silenced a channel for the others too.
 * Called under the same hold of the lock as that UNLISTEN, so no notification falls in between.
 */
export async function reconcile(engine: Engine, sessions: Iterable<Session>): Promise<void> {
  const wanted = new Set([...sessions].flatMap((session) => [...session.channels]));
  const rows = await engine.ask("select pg_catalog.pg_listening_channels()");
  const heard = new Set(rows.map(([channel]) => channel ?? ""));
  const commands = [
    ...[...wanted].filter((channel) => !heard.has(channel)).map((channel) => `listen ${identifier(channel)}`),
    ...[...heard].filter((channel) => !wanted.has(channel)).map((channel) => `unlisten ${identifier(channel)}`),
  ];
  if (commands.length > 0) await engine.ask(commands.join("; "));
}
