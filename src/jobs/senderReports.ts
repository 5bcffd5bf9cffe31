// What a settled batch says of its senders: their breakers, the wait that they asked for, and pauses.
import type { Statement } from "../db/tenant.ts";
import { healthOf } from "./outcome.ts";
import type { Settlement } from "./settlements.ts";
import type { JobTable } from "./store.ts";

/** What the batch says of the sender's health: only what there is to say, most batches nothing but "up". */
export function senderReports(all: readonly Settlement[]): Statement[] {
  // Nearly always one: a tenant's rows go through its own account or through the installation's.
  const senders = new Set(all.flatMap(({ sender }) => (sender === null ? [] : [sender])));
  return [...senders].flatMap((sender) =>
    senderReport(
      sender,
      all.filter((settlement) => settlement.sender === sender),
    ),
  );
}

function senderReport(sender: string, settlements: readonly Settlement[]): Statement[] {
  const until = settlements.flatMap(({ outcome }) =>
    outcome.kind === "defer" && outcome.holdsSender === true ? [outcome.at.getTime()] : [],
  );
  const hold =
    until.length === 0
      ? []
      : [{ text: "select brainops.hold_sender($1, $2)", values: [sender, new Date(Math.max(...until))] }];
  const health =
    (wanted: "up" | "down") =>
    (settlement: Settlement): boolean =>
      settlement.reachedSender && healthOf(settlement.outcome) === wanted;
  const down = settlements.filter(health("down"));
  const up = settlements.filter(health("up")).length;
  if (up + down.length === 0 && hold.length > 0) return hold;
  const last = down.at(-1)?.outcome;
  const error = last !== undefined && "reason" in last ? wellFormed(last.reason) : null;
  return [
    {
      name: "tell_breaker",
      text: "select brainops.tell_breaker($1, $2, $3, $4)",
      values: [sender, up, down.length, error],
    },
    ...hold,
  ];
}

export function pauses(table: JobTable, settlements: readonly Settlement[]): Statement[] {
  return settlements
    .flatMap(({ outcome }) => (outcome.kind === "pause" ? [outcome] : []))
    .slice(0, 1)
    .map(({ reason, scope }) => ({
      text: "select brainops.pause_sender($1, $2, $3)",
      values: [table.table_name, scope === "everyone", wellFormed(reason)],
    }));
}

/** A provider's error text may hold what Postgres refuses in text: NUL, halves of a surrogate pair. */
export function wellFormed(text: string): string {
  return text.toWellFormed().replaceAll("\u0000", "\uFFFD").slice(0, 2000);
}
