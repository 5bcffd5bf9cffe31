// A tenant's share of a pool. Whatever a tenant locks is its own rows, and so the transactions that wait for them are
// those that work for this tenant. Each waits for up to lock_timeout and holds a connection meanwhile; without a bound
// one tenant's transactions would hold all of them, and every other tenant would wait, too.
//
// - One connection is left to the other tenants. A single tenant alone still has all but one, so that its throughput
//   is that of the whole pool.
// - A tenant is slow for half a minute after one of its transactions took more than a second. It then has a third of
//   the connections, and all slow tenants together have half of them. So a tenant that locks its rows again and again
//   delays the others once, by lock_timeout at most; how many tenants do so at once makes no difference after that.
// - Free connections go to the waiting tenants in turn, not in the order of their calls.
import type pg from "pg";

const SLOW_MS = 1000;
const SLOW_FOR_MS = 30_000;

interface Tenant {
  readonly waiting: (() => void)[];
  /** When each of its transactions in progress began. */
  readonly running: Set<{ readonly began: number }>;
  slowUntil: number;
}

export interface Shares {
  /** Runs `work` once the tenant may hold another connection. */
  run<T>(tenantId: string, work: () => Promise<T>): Promise<T>;
}

/** @param now a monotonic clock, in milliseconds */
export function createShares(max: number, now: () => number = () => performance.now()): Shares {
  const most = Math.max(1, max - 1);
  const mostIfSlow = Math.max(1, Math.floor(max / 3));
  const mostOfAllSlow = Math.max(1, Math.floor(max / 2));
  // In the order in which the tenants have their turn. A tenant is listed while it runs, waits or is slow.
  const tenants = new Map<string, Tenant>();
  let running = 0;
  let queued = 0;

  const isSlow = (tenant: Tenant): boolean => {
    const at = now();
    if (tenant.slowUntil > at) return true;
    for (const { began } of tenant.running) return at - began > SLOW_MS; // The first is the oldest.
    return false;
  };
  const mayRun = (tenant: Tenant): boolean => {
    if (running >= max || tenant.running.size >= most) return false;
    if (tenant.running.size < mostIfSlow && running < mostOfAllSlow) return true;
    if (!isSlow(tenant)) return true;
    if (tenant.running.size >= mostIfSlow) return false;
    let ofSlow = 0;
    for (const other of tenants.values()) if (isSlow(other)) ofSlow += other.running.size;
    return ofSlow < mostOfAllSlow;
  };
  const dispatch = (): void => {
    for (let started = true; started && queued > 0;) {
      started = false;
      for (const tenant of Array.from(tenants.values())) {
        if (running >= max) return;
        if (tenant.waiting.length === 0 || !mayRun(tenant)) continue;
        queued -= 1;
        tenant.waiting.shift()?.();
        started = true;
      }
    }
  };
  const start = async <T>(id: string, tenant: Tenant, work: () => Promise<T>): Promise<T> => {
    if (tenants.size > 1 && tenants.delete(id)) tenants.set(id, tenant);
    const one = { began: now() };
    tenant.running.add(one);
    running += 1;
    try {
      return await work();
    } finally {
      running -= 1;
      tenant.running.delete(one);
      const ended = now();
      if (ended - one.began > SLOW_MS) tenant.slowUntil = ended + SLOW_FOR_MS;
      if (tenant.running.size === 0 && tenant.waiting.length === 0 && tenant.slowUntil <= ended) tenants.delete(id);
      dispatch();
    }
  };

  return {
    run: (id, work) => {
      let tenant = tenants.get(id);
      if (tenant === undefined) tenants.set(id, (tenant = { waiting: [], running: new Set(), slowUntil: 0 }));
      const of = tenant;
      if (of.waiting.length === 0 && mayRun(of)) return start(id, of, work);
      return new Promise((resolve, reject) => {
        queued += 1;
        of.waiting.push(() => void start(id, of, work).then(resolve, reject));
      });
    },
  };
}

const shares = new WeakMap<pg.Pool, Shares>();

/** The shares of a pool; the same for each call. */
export function sharesOf(pool: pg.Pool): Shares {
  let of = shares.get(pool);
  if (of === undefined) shares.set(pool, (of = createShares(pool.options.max)));
  return of;
}
