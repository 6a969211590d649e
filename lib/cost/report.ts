/** The same tables for a terminal and for docs/cost.md. */
import type { Consumption } from './consumption.ts'
import { byService, type Cost } from './cost.ts'
import { type Line, pricedAt, prices, total } from './prices.ts'
import { amount, type Rows, usd } from './table.ts'

export interface Section {
  title: string
  rows: Rows
}

/** Lines that round to nothing are one. */
const LEAST_USD = 0.005

export function linesAsRows(lines: readonly Line[]): Rows {
  const sorted = [...lines].sort((one, other) => other.usd - one.usd)
  const small = sorted.filter((one) => one.usd < LEAST_USD)
  const row = (service: string, item: string, usdText: string, quantity = '', unit = '') => ({
    service,
    item,
    quantity,
    unit,
    USD: usdText,
  })
  return [
    ...sorted
      .filter((one) => one.usd >= LEAST_USD)
      .map((one) => row(one.service, one.item, usd(one.usd), amount(one.quantity), one.unit)),
    ...(small.length > 0 ? [row('others', `${small.length} of less than a cent`, usd(total(small)))] : []),
    row('together', '', usd(total(lines))),
  ]
}

export const servicesAsRows = (lines: readonly Line[]): Rows => [
  ...byService(lines).map(({ service, usd: cost }) => ({ service, USD: usd(cost) })),
  { service: 'together', USD: usd(total(lines)) },
]

export function sections(cost: Cost): Section[] {
  const turns = amount(cost.load.turns)
  return [
    { title: `${cost.environment}: a month in which nobody comes`, rows: linesAsRows(cost.fixed) },
    { title: 'Added as soon as somebody does', rows: linesAsRows(cost.used) },
    { title: `Added by ${turns} turns of ${cost.load.answerSeconds} s`, rows: linesAsRows(cost.turns) },
    { title: 'All of it, by service', rows: servicesAsRows([...cost.fixed, ...cost.used, ...cost.turns]) },
    {
      title: `${turns} turns in an always-on container, with RDS`,
      rows: linesAsRows(cost.containers.rds.container),
    },
  ]
}

export const from = (turns: number): string =>
  turns === 0
    ? 'always'
    : turns === Number.POSITIVE_INFINITY
      ? 'never'
      : `from ${amount(turns)} turns a month`

export const verdicts = ({ containers }: Cost): string[] =>
  Object.entries(containers).map(([database, { serverlessUsd, containerUsd, cheaperFrom }]) => {
    const sums = `serverless ${usd(serverlessUsd)}, container ${usd(containerUsd)} USD`
    return `Where they differ, with ${DATABASES[database]}: ${sums}; the container is cheaper ${from(cheaperFrom)}.`
  })
const DATABASES: Record<string, string> = { aurora: 'the same Aurora', rds: 'RDS' }

export function origin({ measured, turn, model }: Consumption): string {
  const seconds = (model.ms / 1_000).toFixed(1)
  return `Measured on ${measured.at.slice(0, 10)} (${measured.turns} turns: ${turn.questionCharacters} characters asked, ${turn.answerCharacters} answered in ${seconds} s). Prices of ${pricedAt.region}, ${pricedAt.asOf}, without free tiers.`
}

/** Prices that somebody must still look up, and that these lines use. */
export const toRecheck = (lines: readonly Line[]): string[] =>
  [...new Set(lines.map(({ price }) => price))].filter((name) => prices[name].recheck === true).sort()
