/** Chance that can be had again: a drill prints its seed when it fails, and DRILL_SEED repeats it. */

export interface Random {
  readonly seed: number
  /** From 0 up to 1. */
  next(): number
  /** A whole number from 0 up to, not including, `below`. */
  integer(below: number): number
}

/** So many of them, others at every run, in the order in which they come. */
export function pick<Item>(items: readonly Item[], count: number, random: Random): Item[] {
  const chosen = new Set<Item>()
  while (chosen.size < Math.min(count, items.length)) chosen.add(items[random.integer(items.length)] as Item)
  return items.filter((item) => chosen.has(item))
}

/** Mulberry32: small, and good enough to scatter kills. */
export function createRandom(seed = Number(process.env.DRILL_SEED ?? Date.now() % 1_000_000)): Random {
  let state = seed
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  return { seed, next, integer: (below) => Math.floor(next() * below) }
}
