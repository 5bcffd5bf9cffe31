// The rule of a platform account's circuit breaker, as a second implementation to compare with: default settings,
// seconds as time, tenants as numbers.

export interface Report {
  readonly tenant: number;
  readonly succeeded: number;
  readonly failed: number;
}

export interface Open {
  /** The only tenant whose failures keep it open; null: everyone waits. */
  readonly openedBy: number | null;
  readonly retryAt: number;
}

interface Tenant {
  failures: number;
  since: number;
  failedAt: number;
  succeededAt: number;
}

const NEVER = Number.NEGATIVE_INFINITY;
const THRESHOLD = 5;
const WINDOW = 60;
/** Stored times of successes may be this much too old. */
const SLACK = WINDOW / 4;
const LEASE = 40;
const TAKEOVER = 5;

export interface Model {
  record(now: number, report: Report): void;
  /** Whether a row of the tenant may go. */
  acquire(now: number, tenant: number): boolean;
  /** Null while closed. */
  open(): Open | null;
}

export function createModel(): Model {
  const tenants = new Map<number, Tenant>();
  let open: (Open & { current: number; agreed: number }) | null = null;
  let probe: { tenant: number; from: number; until: number } | null = null;
  let shown = 0;

  const of = (tenant: number): Tenant => {
    const known = tenants.get(tenant) ?? { failures: 0, since: NEVER, failedAt: NEVER, succeededAt: NEVER };
    tenants.set(tenant, known);
    return known;
  };
  const recent = (now: number): number =>
    [...tenants.values()]
      .filter(({ failures, failedAt }) => failures > 0 && failedAt > now - WINDOW)
      .reduce((sum, { failures }) => sum + failures, 0);

  function agree(now: number): boolean {
    const fails = (t: Tenant): boolean =>
      t.failures > 0 && t.failedAt > now - WINDOW && (t.failures >= 2 || t.succeededAt <= now - WINDOW - SLACK);
    const failing = [...tenants.values()].filter(fails);
    const sum = failing.reduce((all, { failures }) => all + failures, 0);
    const since = failing.map((t) => t.since).toSorted((x, y) => y - x)[1];
    if (since === undefined || sum < THRESHOLD) return false;
    return ![...tenants.values()].some((t) => !fails(t) && t.succeededAt >= since);
  }

  const isOnlyCaller = (now: number, tenant: number): boolean =>
    ![...tenants].some(
      ([id, t]) => id !== tenant && (t.failedAt > now - WINDOW || t.succeededAt > now - WINDOW - SLACK),
    );

  function openFor(now: number, openedBy: number | null): void {
    const { current = 0, agreed = 0 } = open ?? {};
    const doubled = (delay: number): number => (delay === 0 ? 15 : Math.min(delay * 2, 600));
    const next = openedBy === null ? doubled(agreed) : doubled(current);
    open = { openedBy, retryAt: now + next, current: next, agreed: openedBy === null ? next : agreed };
    probe = null;
  }

  function fail(now: number, { tenant, succeeded, failed }: Report): void {
    const mine = of(tenant);
    const isFresh = succeeded > 0 || mine.failures === 0;
    mine.since = isFresh ? now : mine.since;
    mine.failures = isFresh ? failed : mine.failures + failed;
    mine.failedAt = now;
    if (succeeded > 0) mine.succeededAt = now;
    if (open === null) {
      if (agree(now)) openFor(now, null);
      else if (mine.failures >= THRESHOLD && isOnlyCaller(now, tenant)) openFor(now, tenant);
    } else if (open.openedBy !== null && open.openedBy !== tenant) {
      openFor(now, null);
    } else if (probe?.tenant === tenant && open.retryAt <= now) {
      openFor(now, tenant);
    }
    shown = recent(now);
  }

  function succeed(now: number, tenant: number): void {
    const mine = of(tenant);
    if (shown === 0 && open === null) {
      if (mine.failures === 0 && mine.succeededAt > now - SLACK) return;
      Object.assign(mine, { failures: 0, since: NEVER, succeededAt: now });
      return;
    }
    Object.assign(mine, { failures: 0, since: NEVER, succeededAt: now });
    if (open !== null && (open.retryAt <= now || (open.openedBy !== null && open.openedBy !== tenant))) {
      for (const one of tenants.values()) Object.assign(one, { failures: 0, since: NEVER });
      open = null;
      probe = null;
    }
    shown = recent(now);
  }

  return {
    record: (now, report) => {
      if (report.succeeded > report.failed) succeed(now, report.tenant);
      else if (report.failed > 0) fail(now, report);
      else if (probe?.tenant === report.tenant) probe = null;
    },
    acquire: (now, tenant) => {
      if (open === null) return true;
      const isOthers = open.openedBy !== null && open.openedBy !== tenant;
      if (open.retryAt > now && !isOthers) return false;
      const isFree =
        probe === null ||
        probe.until <= now ||
        (probe.tenant !== tenant && (probe.tenant === open.openedBy || probe.from <= now - TAKEOVER));
      if (isFree) probe = { tenant, from: now, until: now + LEASE };
      return isFree;
    },
    open: () => (open === null ? null : { openedBy: open.openedBy, retryAt: open.retryAt }),
  };
}
