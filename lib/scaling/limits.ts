import dated from './limits.json' with { type: 'json' }

export type LimitName = keyof typeof dated.limits

/** What AWS says. */
export interface PublishedLimit {
  value: number
  unit: string
  source: string
  /** What a higher one takes; by phase, where that is not the same in both. */
  moves: string | Record<1 | 2, string>
  /** From memory or at second hand, not yet compared with its source. */
  recheck?: boolean
}

export const limits = checked(dated.limits) as Record<LimitName, PublishedLimit>
export const limitsAsOf = dated.asOf

export const movesOf = (name: LimitName, phase: 1 | 2): string => {
  const { moves } = limits[name]
  return typeof moves === 'string' ? moves : moves[phase]
}

/** Refuses a limit that says nothing of where it comes from, or of what moves it: it could not be checked again. */
export function checked(all: Record<string, PublishedLimit>): Record<string, PublishedLimit> {
  const problems = Object.entries(all).flatMap(([name, { value, unit, source, moves }]) => [
    ...(/^https:\/\/docs\.aws\.amazon\.com\/\S+$/.test(source ?? '') ? [] : [`${name} has no source`]),
    ...(value > 0 ? [] : [`${name} has no value`]),
    ...(unit ? [] : [`${name} has no unit`]),
    ...(moves && (typeof moves === 'string' || (moves[1] && moves[2]))
      ? []
      : [`${name} says nothing of what moves it`]),
  ])
  if (problems.length > 0) throw new Error(`lib/scaling/limits.json: ${problems.join('; ')}.`)
  return all
}
