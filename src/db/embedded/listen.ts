// LISTEN for many connections over one session: Postgres listens on the union of their channels, and a notification
// is sent only to the connections that listen on its channel.
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
 * Makes Postgres listen on the union of the connections' channels: the UNLISTEN of one connection stops a channel for
 * all. Must be called before the lock under which that UNLISTEN ran is released, so that no notification is lost.
 */
export async function reconcile(engine: Engine, sessions: Iterable<Session>): Promise<void> {
  const wanted = new Set([...sessions].flatMap((session) => [...session.channels]));
  const rows = await engine.ask("select pg_catalog.pg_listening_channels()");
  const present = new Set(rows.map(([channel]) => channel ?? ""));
  const commands = [
    ...[...wanted].filter((channel) => !present.has(channel)).map((channel) => `listen ${identifier(channel)}`),
    ...[...present].filter((channel) => !wanted.has(channel)).map((channel) => `unlisten ${identifier(channel)}`),
  ];
  if (commands.length > 0) await engine.ask(commands.join("; "));
}
