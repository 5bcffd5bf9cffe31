// A queue that is fair between tenants by processor time: the tenant goes next that has had the least. So a tenant whose
// rows are slow gets its turn after many rows of one whose rows are fast.

/** An item in the thread's hands, and what its tenant was charged for it so far. */
export interface Taken<Item> {
  readonly tenant: string;
  readonly item: Item;
  readonly charged: number;
}

interface Lane<Item> {
  readonly items: Item[];
  /** Processor time in ms that the tenant has had; for items that are out, what its items usually take. */
  served: number;
  usual: number;
  /** Items that are out. */
  out: number;
}

export interface FairQueue<Item> {
  readonly size: number;
  push(tenant: string, item: Item): void;
  /** The next item. Null if the queue is empty, or if the item is not `accepted` now. */
  take(accepted: (item: Item) => boolean): Taken<Item> | null;
  /** Puts an item back to the front of its tenant's. */
  putBack(taken: Taken<Item>): void;
  /** Replaces what the tenant was charged by what the item took, in ms. */
  settle(taken: Taken<Item>, tookMs: number): void;
  /** Removes the tenant's items and returns them. */
  drop(tenant: string): Item[];
}

/** What a tenant's first item is charged until it is settled, in ms. */
const FIRST_CHARGE = 1;
/** How much the latest item counts for what the tenant's items usually take. */
const WEIGHT = 0.3;
const MAX_IDLE_LANES = 200;

export function createFairQueue<Item>(): FairQueue<Item> {
  const lanes = new Map<string, Lane<Item>>();
  let size = 0;
  // `served` of the lane that was last taken from. A tenant that comes back starts here, without credit for its absence.
  let floor = 0;

  const laneOf = (tenant: string): Lane<Item> => {
    const known = lanes.get(tenant);
    if (known !== undefined) return known;
    if (lanes.size >= MAX_IDLE_LANES) forgetIdle(lanes, floor);
    const lane = { items: [], served: floor, usual: FIRST_CHARGE, out: 0 };
    lanes.set(tenant, lane);
    return lane;
  };

  return {
    get size() {
      return size;
    },
    push: (tenant, item) => {
      const lane = laneOf(tenant);
      if (lane.items.length === 0 && lane.out === 0) lane.served = Math.max(lane.served, floor);
      lane.items.push(item);
      size += 1;
    },
    take: (accepted) => {
      let next: [string, Lane<Item>] | null = null;
      for (const entry of lanes) {
        if (entry[1].items.length > 0 && (next === null || entry[1].served < next[1].served)) next = entry;
      }
      const [item] = next?.[1].items ?? [];
      if (next === null || item === undefined || !accepted(item)) return null;
      const [tenant, lane] = next;
      lane.items.shift();
      size -= 1;
      floor = lane.served;
      lane.out += 1;
      lane.served += lane.usual;
      return { tenant, item, charged: lane.usual };
    },
    putBack: ({ tenant, item, charged }) => {
      const lane = laneOf(tenant);
      lane.served -= charged;
      lane.out -= 1;
      lane.items.unshift(item);
      size += 1;
    },
    settle: ({ tenant, charged }, tookMs) => {
      const lane = laneOf(tenant);
      lane.served += tookMs - charged;
      lane.usual += WEIGHT * (tookMs - lane.usual);
      lane.out -= 1;
    },
    drop: (tenant) => {
      const items = lanes.get(tenant)?.items.splice(0) ?? [];
      size -= items.length;
      return items;
    },
  };
}

function forgetIdle<Item>(lanes: Map<string, Lane<Item>>, floor: number): void {
  for (const [tenant, { items, out, served }] of lanes) {
    if (items.length === 0 && out === 0 && served <= floor) lanes.delete(tenant);
  }
}
