/** What figures are made of, and how they stand beside what is aimed at. */

/**
 * As Postgres' percentile_cont: the value at this share of the way from the least to the greatest, on a line between the two
 * beside it. Of an even number the median is the middle of two. NaN of none.
 */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((one, other) => one - other)
  const place = (sorted.length - 1) * share
  const below = sorted[Math.floor(place)] ?? Number.NaN
  const above = sorted[Math.ceil(place)] ?? Number.NaN
  return below + (above - below) * (place - Math.floor(place))
}

export const median = (values: readonly number[]): number => percentile(values, 0.5)

export const rounded = (value: number, digits = 2): number => {
  const scale = 10 ** digits
  return Math.round(value * scale) / scale
}

export const verdict = (isKept: boolean): 'ok' | 'missed' => (isKept ? 'ok' : 'missed')

/** Each against its neighbour of the same round, and of these the median: what else the machine did has met both. */
export const medianRatio = (values: readonly number[], baseline: readonly number[]): number =>
  rounded(median(values.map((value, round) => value / (baseline[round] ?? Number.NaN))))

/** In another order each time: nobody always comes behind the same neighbour. */
export function shuffled<Item>(items: readonly Item[]): Item[] {
  const left = [...items]
  return items.flatMap(() => left.splice(Math.floor(Math.random() * left.length), 1))
}
