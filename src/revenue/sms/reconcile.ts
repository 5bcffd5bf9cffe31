// Settles unconfirmed texts by Twilio's list of the messages that an account has sent. The list is fetched here, with
// no transaction open; SQL decides what it means for the rows (brainops_internal.reconcile_sms).
import type { Config } from "../../config.ts";
import { messageOf } from "../../errors.ts";
import { listMessages, type TwilioAccount } from "../../providers/twilio.ts";
import type { TaskContext } from "../../jobs/define.ts";
import type { SealedCredential } from "../credentials/store.ts";
import { platformAccount, tenantAccount } from "./account.ts";

/** One list to fetch: the texts that an account sent to a number. */
interface Unconfirmed {
  readonly account_sid: string;
  readonly number: string;
  readonly since: Date;
  /** The current Twilio credentials of the tenants whose texts are unconfirmed. */
  readonly own_accounts: readonly SealedCredential[];
}

const MAX_LISTS_PER_RUN = 100;

const unconfirmedSql =
  "select account_sid, number, since, own_accounts from brainops_internal.load_unconfirmed_sms($1)";

/** Settles what Twilio's lists decide. If a list cannot be fetched, its rows stay unconfirmed for the next run. */
export async function reconcileSms({
  pool,
  config,
  log,
  signal,
}: Pick<TaskContext, "pool" | "config" | "log" | "signal">): Promise<void> {
  const { rows } = await pool.query<Unconfirmed>(unconfirmedSql, [MAX_LISTS_PER_RUN]);
  // After one failure an account is skipped for the rest of the run: every attempt may cost a full timeout.
  const failedAccounts = new Set<string>();
  for (const unconfirmed of rows) {
    if (signal.aborted) return;
    if (failedAccounts.has(unconfirmed.account_sid)) continue;
    const account = accountOf(unconfirmed, config);
    if (account === null) {
      log.warn(
        { account: unconfirmed.account_sid },
        "sms: cannot check unconfirmed texts: the credential of their Twilio account no longer exists",
      );
      continue;
    }
    try {
      const messages = await listMessages(account, unconfirmed.number, unconfirmed.since);
      const verdicts = await pool.query<{ id: string; verdict: string }>(
        "select id, verdict from brainops_internal.reconcile_sms($1, $2, $3)",
        [unconfirmed.account_sid, unconfirmed.number, JSON.stringify(messages)],
      );
      for (const row of verdicts.rows) log.info(row, "sms: checked an unconfirmed text");
    } catch (error) {
      failedAccounts.add(unconfirmed.account_sid);
      log.warn(
        { account: unconfirmed.account_sid, reason: messageOf(error) },
        "sms: could not check unconfirmed texts at Twilio",
      );
    }
  }
}

/** The account that sent the texts; null if neither the platform nor one of the tenants has credentials of it any more. */
function accountOf({ account_sid, own_accounts }: Unconfirmed, config: Config): TwilioAccount | null {
  const candidates = [
    platformAccount(config),
    ...own_accounts.map((sealed) => {
      try {
        return tenantAccount(sealed, config);
      } catch {
        return null; // Sealed with another key: cannot be used.
      }
    }),
  ];
  return candidates.find((account) => account?.accountSid === account_sid) ?? null;
}
