import { assumptions } from '../cost/assumptions.ts'
import type { Consumption } from '../cost/consumption.ts'
import type { Template } from '../cost/template.ts'
import type { Settings } from '../settings.ts'

export interface Load {
  /** The mean of a busy hour. */
  turnsAnHour: number
  /** The model's own time for an answer. */
  answerSeconds: number
  /** What the busiest seconds have over that mean. */
  peak: number
}

export interface Context {
  settings: Settings
  templates: readonly Template[]
  consumption: Consumption
}

/** One limit, and what is asked of it. */
export interface Demand {
  /** What is limited. */
  what: string
  value: number
  unit: string
  /** An address of AWS's documentation or, where the limit is ours, the file that sets it. */
  source: string
  moves: string
  recheck: boolean
  /** In the limit's unit, of a turn each second; undefined: it is asked of each call or answer, however many there are. */
  aTurnASecond: number | undefined
  /** Of this load. */
  asked: number
}

const SECONDS_AN_HOUR = 3_600

export const turnsASecond = ({ turnsAnHour, peak }: Load): number => (turnsAnHour / SECONDS_AN_HOUR) * peak

export const turnsAMonth = ({ turnsAnHour }: Load): number => turnsAnHour * assumptions.busyHoursAMonth
