// Texts whose outcome was lost, settled by Twilio's own list of what an account has sent. What the
// list means is decided in SQL (brainops_internal.reconcile_sms); here it is fetched, with no transaction open.
import type { Config } from "../../config.ts";
import { messageOf } from "../../errors.ts";
import { listMessages, type TwilioAccount } from "../../providers/twilio.ts";
import type { TaskContext } from "../../jobs/define.ts";
import { sealedCredential, type SealedCredential } from "../credentials/store.ts";
import { commonAccount, ownAccount } from "./account.ts";

/** One list to ask for: what went through an account to a number. */
interface Lost {
  readonly account_sid: string;
  readonly number: string;
  readonly since: Date;
  /** The accounts of their own that its tenants have now. */
  readonly own_accounts: readonly SealedCredential[];
}

const LISTS_A_RUN = 100;

const unconfirmed = `
  select u.account_sid, u.number, u.since, coalesce(o.accounts, '[]') as own_accounts
  from brainops_internal.unconfirmed_sms($1) as u
  cross join lateral (
    select jsonb_agg(a.account) as accounts
    from unnest(u.tenant_ids) as i (tenant_id)
    cross join lateral (select ${sealedCredential("twilio", "i.tenant_id")}) as a (account)
    where a.account is not null
  ) as o
`;

/**
 * Settles what can be settled. A list that can't be had leaves its rows as they are, for the next
 * run or for a person.
 */
export async function reconcileSms({
  pool,
  config,
  log,
  signal,
}: Pick<TaskContext, "pool" | "config" | "log" | "signal">): Promise<void> {
  const { rows } = await pool.query<Lost>(unconfirmed, [LISTS_A_RUN]);
  // An account that does not answer once is not asked again in this run: each time costs a time limit.
  const silent = new Set<string>();
  for (const lost of rows) {
    if (signal.aborted) return;
    if (silent.has(lost.account_sid)) continue;
    const account = accountOf(lost, config);
    if (account === null) {
      log.warn(
        { account: lost.account_sid },
        "sms: nobody has the account any more that texts without an outcome went through",
      );
      continue;
    }
    try {
      const messages = await listMessages(account, lost.number, lost.since);
      const verdicts = await pool.query<{ id: string; verdict: string }>(
        "select id, verdict from brainops_internal.reconcile_sms($1, $2, $3)",
        [lost.account_sid, lost.number, JSON.stringify(messages)],
      );
      for (const row of verdicts.rows) log.info(row, "sms: looked for a text without an outcome");
    } catch (error) {
      silent.add(lost.account_sid);
      log.warn(
        { account: lost.account_sid, reason: messageOf(error) },
        "sms: could not look for texts without an outcome",
      );
    }
  }
}

/** The account that the texts went through, where the installation or one of the tenants still has it. */
function accountOf(lost: Lost, config: Config): TwilioAccount | null {
  const candidates = [
    commonAccount(config),
    ...lost.own_accounts.map((sealed) => {
      try {
        return ownAccount(sealed, config);
      } catch {
        return null; // sealed with another key: as good as none
      }
    }),
  ];
  return candidates.find((account) => account?.accountSid === lost.account_sid) ?? null;
}
