/** What figures mean for whoever decides about the phase. */
import { rounded } from '../text.ts'
import type { Weighed } from './judge.ts'

/** Fewer may be busy ones. */
const ENOUGH_DAYS = 7

/** Sentences, a line each. */
export function adviceOf(
  weighed: Weighed,
  { on, days, hasCache }: { on: 1 | 2; days: number; hasCache: boolean },
): string[] {
  const { verdict, unmeasured } = weighed
  if (verdict === 'unknown')
    return ['Nobody can tell: nothing was measured. Was somebody there, and is METRICS_NAMESPACE right?']
  const gaps = unmeasured.length > 0 ? [`Nothing was measured of ${unmeasured.join(', ')}.`] : []
  const longer =
    days < ENOUGH_DAYS && verdict !== 'no'
      ? ['A day may be a busy one: --days 14 shows whether it lasts.']
      : []
  return [
    ...(on === 1 ? inPhaseOne(weighed) : inPhaseTwo(weighed)),
    ...gaps,
    ...longer,
    ...switching(on, hasCache),
  ]
}

function inPhaseOne(weighed: Weighed): string[] {
  const { verdict, reached } = weighed
  if (verdict === 'no') return [`Not yet: none of the ${weighed.pressing} signals that press was reached.`]
  if (verdict === 'yes') return [`By these figures it is time: ${counted(weighed)} ${hits(weighed)}`.trim()]
  if (reached.length === 1)
    return [`Not yet: ${counted(weighed)} One is a busy day; several of them for weeks are the time.`]
  return [`Not by these figures: ${counted(weighed)} But a cache would help little. ${hits(weighed)}`.trim()]
}

function inPhaseTwo(weighed: Weighed): string[] {
  if (weighed.verdict === 'no')
    return [
      'Phase 2 is on, and no signal that presses was reached. The database is spared by the cache: that alone is no reason to go back.',
    ]
  return [`Phase 2 is on, and there is reason for it: ${counted(weighed)} ${hits(weighed)}`.trim()]
}

const counted = ({ reached, pressing }: Weighed): string =>
  `${reached.length} of ${pressing} signals that press ${reached.length === 1 ? 'was' : 'were'} reached (${reached.join(', ')}).`

const hits = ({ hitRatio }: Weighed): string =>
  hitRatio === null ? '' : `A cache would hold ${rounded(hitRatio)} % of the sessions that are asked for.`

function switching(on: 1 | 2, hasCache: boolean): string[] {
  if (on === 2)
    return ['Going back: phase 1 with the cache kept for a day, deploy, then without it (docs/phase-two.md).']
  const first = hasCache
    ? 'the cache is there already'
    : 'first a cache beside phase 1 in lib/settings.ts, deploy'
  return [
    `Switching: ${first}; then phase 2, deploy. Nothing is lost on the way, and back is the same (docs/phase-two.md).`,
    'A cache has its price also where nobody comes: npm run cost.',
  ]
}
