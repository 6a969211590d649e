/** What so many turns an hour ask of every limit, how near each of them is, and which is reached first. */
import { demands } from './demands.ts'
import type { Context, Demand, Load } from './load.ts'

export interface Reached extends Demand {
  /** 1: all of it. */
  utilisation: number
  /** Turns an hour at which it is; Infinity: it does not depend on them. */
  reachedAt: number
}

/** All limits, the nearest first. */
export function scale(context: Context, load: Load): Reached[] {
  return demands(context, load)
    .map((demand) => {
      const utilisation = demand.asked / demand.value
      const isOfEach = demand.aTurnASecond === undefined
      const reachedAt = isOfEach ? Number.POSITIVE_INFINITY : load.turnsAnHour / utilisation
      return { ...demand, utilisation, reachedAt }
    })
    .sort((one, other) => other.utilisation - one.utilisation)
}

/** Set by AWS, and not by this repository. */
export const isPublished = ({ source }: Demand): boolean => source.startsWith('https://')

/**
 * The limit that growth meets first, of those that count: the one that is reached at the fewest turns an hour. How near it is at
 * this load, `utilisation` says.
 */
export function firstReached(
  context: Context,
  load: Load,
  counts: (one: Demand) => boolean = () => true,
): Reached {
  const [first] = scale(context, load)
    .filter((one) => Number.isFinite(one.reachedAt) && counts(one))
    .sort((one, other) => one.reachedAt - other.reachedAt)
  if (first === undefined) throw new Error('Nothing is asked of any limit.')
  return first
}
