/** Whether the signals were reached, as their alarms would have been on; and what that means for the phase. */
import { type Signal, signals } from '../../lib/observability/signals.ts'
import { Failure } from '../failures.ts'
import type { Point } from '../metrics.ts'

export interface Judged {
  name: string
  meaning: string
  unit: string
  limit: number
  /** In the unit, as all figures; null where nothing was measured. */
  most: number | null
  mostAt: string | null
  latest: number | null
  /** Of all periods alike. */
  average: number | null
  /** Periods, and how many of them were above the limit. */
  measured: number
  above: number
  /** So many in a row, as the alarm wants it. */
  reached: boolean
}

/** It alone is no reason to move: it says whether a cache would help. */
const WORTH: keyof typeof signals = 'expected-hit-ratio'

export function judge(name: string, points: readonly Point[]): Judged {
  const signal = signals[name]
  if (signal === undefined) throw new Failure(`There is no signal ${name}.`)
  const { meaning, above, unit, periods } = signal
  const inUnit = (value: number): number => Math.round((value / unit.one) * 1_000) / 1_000
  const most = points.reduce<Point | undefined>(
    (top, point) => (top && top.value >= point.value ? top : point),
    undefined,
  )
  const latest = points.at(-1)
  return {
    name,
    meaning,
    unit: unit.name,
    limit: inUnit(above),
    most: most ? inUnit(most.value) : null,
    mostAt: most ? new Date(most.at).toISOString() : null,
    latest: latest ? inUnit(latest.value) : null,
    average:
      points.length > 0 ? inUnit(points.reduce((sum, { value }) => sum + value, 0) / points.length) : null,
    measured: points.length,
    above: points.filter(({ value }) => value > above).length,
    reached: longestRun(points, signal) >= periods,
  }
}

/** Periods in a row that are above the limit. One in which nothing was measured ends a row, as silence does an alarm. */
function longestRun(points: readonly Point[], { above, periodSeconds }: Signal): number {
  let longest = 0
  let run = 0
  let before: Point | undefined
  for (const point of points) {
    const follows = before !== undefined && point.at - before.at <= periodSeconds * 1_000
    run = point.value > above ? (follows ? run + 1 : 1) : 0
    longest = Math.max(longest, run)
    before = point
  }
  return longest
}

/** watch: something was reached, and it is too little to move for. */
export type Verdict = 'unknown' | 'no' | 'watch' | 'yes'

export interface Weighed {
  verdict: Verdict
  /** Of those that press; the expected hit ratio is not among them. */
  reached: string[]
  unmeasured: string[]
  pressing: number
  /** Percent, of the days' average; null where nothing was measured. */
  hitRatio: number | null
}

/** One signal is a busy day; two are the time, unless a cache would hold too little to help. */
export function weigh(judged: readonly Judged[]): Weighed {
  const pressing = judged.filter(({ name }) => name !== WORTH)
  const worth = judged.find(({ name }) => name === WORTH)
  const reached = pressing.filter((signal) => signal.reached).map(({ name }) => name)
  const unmeasured = judged.filter(({ measured }) => measured === 0).map(({ name }) => name)
  const hitRatio = worth?.average ?? null
  const helps = worth === undefined || hitRatio === null || hitRatio > worth.limit
  const verdict = (): Verdict => {
    if (pressing.every(({ measured }) => measured === 0)) return 'unknown'
    if (reached.length === 0) return 'no'
    return reached.length > 1 && helps ? 'yes' : 'watch'
  }
  return { verdict: verdict(), reached, unmeasured, pressing: pressing.length, hitRatio }
}
