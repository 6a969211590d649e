import dated from './limits.json' with { type: 'json' }

export type LimitName = keyof typeof dated.limits

/** What AWS says. */
export interface PublishedLimit {
  value: number
  unit: string
  source: string
  /** What a higher one takes. */
  moves: string
  /** From memory or at second hand, not yet compared with its source. */
  recheck?: boolean
}

export const limits = checked(dated.limits) as Record<LimitName, PublishedLimit>
export const limitsAsOf = dated.asOf

/** Refuses a limit that says nothing of where it comes from, or of what moves it: it could not be checked again. */
export function checked(all: Record<string, PublishedLimit>): Record<string, PublishedLimit> {
  const problems = Object.entries(all).flatMap(([name, { value, unit, source, moves }]) => [
    ...(/^https:\/\/docs\.aws\.amazon\.com\/\S+$/.test(source ?? '') ? [] : [`${name} has no source`]),
    ...(value > 0 ? [] : [`${name} has no value`]),
    ...(unit ? [] : [`${name} has no unit`]),
    ...(moves ? [] : [`${name} says nothing of what moves it`]),
  ])
  if (problems.length > 0) throw new Error(`lib/scaling/limits.json: ${problems.join('; ')}.`)
  return all
}
