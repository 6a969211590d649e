/** The same tables for a terminal and for docs/scaling.md. */
import type { ProcessorTime } from '../cost/consumption.ts'
import { costOf } from '../cost/cost.ts'
import { total } from '../cost/prices.ts'
import { amount, type Rows, usd } from '../cost/table.ts'
import { limits, limitsAsOf } from './limits.ts'
import { type Context, type Load, turnsAMonth, turnsASecond } from './load.ts'
import { firstReached, isPublished, type Reached, scale } from './scaling.ts'

/** What the issue asks about. */
export const TURNS_AN_HOUR = [10, 1_000, 100_000, 10_000_000]

export const percent = (share: number): string => `${amount(100 * share)} %`

const reachedAt = ({ reachedAt: turns }: Reached): string => (Number.isFinite(turns) ? amount(turns) : '')

/** A month of such hours. Of an environment in which the limits were not there. */
export function monthlyUsd(environment: string, { templates, consumption }: Context, load: Load): number {
  const { answerSeconds } = load
  const { fixed, used, turns } = costOf(environment, templates, consumption, {
    turns: turnsAMonth(load),
    answerSeconds,
  })
  return total([...fixed, ...used, ...turns])
}

/** What growth meets first, how near it is at this load, and what it meets where the settings are raised. */
export const bottleneckRow = (environment: string, context: Context, load: Load): Record<string, string> => {
  const reached = scale(context, load)
  const first = firstReached(context, load)
  const beyond = firstReached(context, load, isPublished)
  return {
    'turns an hour': amount(load.turnsAnHour),
    phase: String(context.settings.phase),
    'a second, at the peak': amount(turnsASecond(load)),
    'breaks first': first.what,
    'used of it': percent(first.utilisation),
    'what moves it': first.moves,
    'of AWS’s own limits': beyond.what,
    'used of that': percent(beyond.utilisation),
    'over their limits': amount(reached.filter(({ utilisation }) => utilisation >= 1).length),
    'USD a month': usd(monthlyUsd(environment, context, load)),
  }
}

/** All limits in the order in which growth meets them. */
export const limitRows = (context: Context, load: Load): Rows =>
  scale(context, load)
    .sort((one, other) => one.reachedAt - other.reachedAt || other.utilisation - one.utilisation)
    .map((one) => ({
      limit: one.what,
      'there is': amount(one.value),
      unit: one.unit,
      'a turn a second asks': one.aTurnASecond === undefined ? '' : amount(one.aTurnASecond),
      asked: amount(one.asked),
      'of it': percent(one.utilisation),
      'reached at turns an hour': reachedAt(one),
      'what moves it': one.moves,
    }))

export const sourceRows = (): Rows =>
  Object.values(limits).map(({ value, unit, source, recheck }) => ({
    limit: amount(value),
    of: unit,
    source,
    '': recheck ? 'to re-check' : '',
  }))

/** Of one turn, as the processor time of both phases was measured. */
export function processorRow({ settings, consumption }: Context): Record<string, string> {
  const { overlapping, alone, database, functionsCpuMs } = consumption
  const ms = (value: number | null) => (value === null ? '' : amount(value))
  const rounds = (key: keyof ProcessorTime) => overlapping.rounds.map((round) => ms(round[key])).join(', ')
  return {
    phase: String(settings.phase),
    'turns at once': String(overlapping.conversations),
    'turns of a round': amount(overlapping.turns),
    'load before': amount(overlapping.loadBefore),
    'ms of Postgres': ms(database.cpuMs),
    'by round': rounds('postgresMs'),
    'of a turn alone': ms(alone.postgresMs),
    'ms of the functions': ms(functionsCpuMs),
    'by round, too': rounds('functionsMs'),
    'of one alone': ms(alone.functionsMs),
  }
}

export const toRecheck = (): string[] =>
  Object.entries(limits)
    .filter(([, { recheck }]) => recheck)
    .map(([name]) => name)

export const origin = ({ consumption }: Context, { answerSeconds, peak }: Load): string =>
  `From what ${consumption.measured.turns} turns were measured to use on ${consumption.measured.at.slice(0, 10)}, with answers of ${answerSeconds} s. The busiest seconds have ${peak} times the mean of the hour. Limits as of ${limitsAsOf}.`
