// How much processor time a tenant's slow rows may take in this worker. A row that is being rendered or waits for the
// thread holds one of the worker's few places, so that a tenant's slow rows would leave none for the others. Fast rows
// are not counted, however many they are.

/** A row that takes less, in ms, is not counted. Usual mails take a tenth of one. */
const SLOW_MS = 10;
/** What a tenant may use at once, in ms of processor time. */
const ALLOWANCE_MS = 750;
/** The share of a processor that it may use in the long run. */
const SHARE = 0.1;
const MAX_WAIT_MS = 15 * 60_000;

interface Account {
  /** Processor time used and not yet made up for, as of `asOf`. */
  debt: number;
  asOf: number;
  /** What a slow row of the tenant usually takes. */
  usual: number;
  /** The time after which the next row may come. */
  reserved: number;
}

export interface Budget {
  charge(tenant: string, tookMs: number): void;
  isOver(tenant: string): boolean;
  /** How long the tenant's next row should wait, in ms. Each call reserves a later time, so that rows do not come back together. */
  reserve(tenant: string): number;
}

/** `now`: a clock in ms. */
export function createBudget(now: () => number): Budget {
  const accounts = new Map<string, Account>();
  const current = (tenant: string): Account | undefined => {
    const account = accounts.get(tenant);
    if (account === undefined) return undefined;
    const at = now();
    account.debt = Math.max(0, account.debt - (at - account.asOf) * SHARE);
    account.asOf = at;
    if (account.debt === 0 && account.reserved <= at) accounts.delete(tenant);
    return account;
  };
  return {
    charge: (tenant, tookMs) => {
      if (tookMs < SLOW_MS) return;
      const account = current(tenant) ?? { debt: 0, asOf: now(), usual: tookMs, reserved: 0 };
      account.debt += tookMs;
      account.usual += (tookMs - account.usual) / 4;
      accounts.set(tenant, account);
    },
    isOver: (tenant) => (current(tenant)?.debt ?? 0) > ALLOWANCE_MS,
    reserve: (tenant) => {
      const account = current(tenant);
      if (account === undefined) return 0;
      const free = now() + Math.max(0, account.debt - ALLOWANCE_MS) / SHARE;
      const at = Math.min(Math.max(free, account.reserved), now() + MAX_WAIT_MS);
      account.reserved = at + account.usual / SHARE;
      return at - now();
    },
  };
}
