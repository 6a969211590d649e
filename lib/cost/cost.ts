import { assumptions } from './assumptions.ts'
import type { Consumption } from './consumption.ts'
import { breakEven, containerCost, type Database, differing } from './container.ts'
import { fixedCost } from './fixed.ts'
import { type Line, line, total } from './prices.ts'
import type { Template } from './template.ts'
import { type Load, metricsCost, turnsCost } from './turns.ts'

export interface Cost {
  environment: string
  load: Load
  /** A month in which nobody comes. */
  fixed: Line[]
  /** Added once somebody does, however often. */
  used: Line[]
  /** Added by the turns. */
  turns: Line[]
  /** With either database. */
  containers: Record<Database, Compared>
}

/** Of both only what differs. */
export interface Compared {
  container: Line[]
  serverlessUsd: number
  containerUsd: number
  /** Turns a month from which the container is cheaper: 0, always; Infinity, never. */
  cheaperFrom: number
}

/** A month of this environment in USD. Throws UnknownCost where the template holds what has no price. */
export function costOf(
  environment: string,
  templates: readonly Template[],
  consumption: Consumption,
  load: Load,
): Cost {
  const context = { templates, consumption }
  const fixed = fixedCost(context)
  const serverless = (turns: number) => [...fixed, ...turnsCost(context, { ...load, turns })]
  const compare = (database: Database): Compared => {
    const sums = (turns: number) => {
      const own = serverless(turns)
      const options = { environment, consumption, load: { ...load, turns }, database, serverless: own }
      return { serverless: own, container: containerCost(options) }
    }
    const { serverless: own, container } = sums(load.turns)
    return {
      container,
      serverlessUsd: total(differing(own)),
      containerUsd: total(container),
      cheaperFrom: breakEven(sums),
    }
  }
  return {
    environment,
    load,
    fixed,
    used: metricsCost(context),
    turns: turnsCost(context, load),
    containers: { aurora: compare('aurora'), rds: compare('rds') },
  }
}

/** Of an environment that has none yet: its limits cost nothing. */
export const LEAST_CACHE = { maxGigabytes: 1, maxEcpuPerSecond: 1_000, snapshotDays: 0 }

/** What a NAT in each of two zones would add to an idle month. */
export const natCost = (): Line[] => {
  const { hoursAMonth } = assumptions
  return [
    line('VPC', 'NAT gateways in two zones', 2 * hoursAMonth, 'natHour'),
    line('VPC', 'their public addresses', 2 * hoursAMonth, 'publicAddressHour'),
  ]
}

/** By service, dearest first. */
export function byService(lines: readonly Line[]): { service: string; usd: number }[] {
  const groups = Map.groupBy(lines, ({ service }) => service)
  return [...groups]
    .map(([service, own]) => ({ service, usd: total(own) }))
    .sort((one, other) => other.usd - one.usd)
}
