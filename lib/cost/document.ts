/** The tables of docs/cost.md. */
import { checkSettings, type EnvironmentName, environments, settingsFor } from '../settings.ts'
import { assumptions } from './assumptions.ts'
import type { Consumption } from './consumption.ts'
import { byService, type Cost, costOf, LEAST_CACHE, natCost } from './cost.ts'
import { fixedCost } from './fixed.ts'
import { newestMeasurement } from './measured.ts'
import { type Line, prices, total } from './prices.ts'
import { from, linesAsRows, origin } from './report.ts'
import { synthesise } from './synthesise.ts'
import { amount, markdownTable, type Rows, usd, withTablesMade } from './table.ts'
import { functionNamed, memoryOf, type Template } from './template.ts'
import { turnsCost } from './turns.ts'

const ORDINARY = { turns: 1_000_000, answerSeconds: 8 }
const TURNS = [0, 10_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000]
const ANSWER_SECONDS = [2, 4, 8, 16, 32]
const PHASE_TURNS = [100_000, 1_000_000, 10_000_000]
const PHASE_STEPS = Array.from({ length: 1_000 }, (_, index) => (index + 1) * 10_000)

interface Known {
  consumption: Consumption
  templates: Record<EnvironmentName, Template[]>
  /** prod in phase 2, and what a turn uses there. */
  cached: { consumption: Consumption; templates: Template[] }
}

const names = Object.keys(environments) as EnvironmentName[]

const TABLES: Record<string, (known: Known) => string> = {
  origin: ({ consumption }) => origin(consumption),
  idle: (known) => markdownTable(idleRows(names.map((name) => of(known, name)))),
  'idle dev': (known) => markdownTable(linesAsRows(of(known, 'dev').fixed)),
  'once used': (known) => markdownTable(linesAsRows(of(known, 'prod').used)),
  turns: (known) => markdownTable(linesAsRows(of(known, 'prod').turns)),
  phases: (known) => `${markdownTable(phaseRows(known))}\n\n${phaseVerdict(known)}`,
  cache: ({ cached }) => markdownTable([cacheRow(cached.consumption)]),
  levers: (known) => markdownTable(leverRows(known)),
  'answer seconds': (known) => markdownTable(ANSWER_SECONDS.map((seconds) => secondsRow(known, seconds))),
  container: (known) => markdownTable(linesAsRows(of(known, 'prod').containers.rds.container)),
  'compared idle': (known) =>
    markdownTable(
      names.map((name) => ({ environment: name, ...sumsOf(of(known, name, { ...ORDINARY, turns: 0 })) })),
    ),
  compared: (known) => markdownTable(TURNS.map((turns) => comparedRow(known, turns))),
  'cheaper from': (known) => markdownTable(names.map((name) => cheaperRow(of(known, name)))),
  nat: () => markdownTable(linesAsRows(natCost())),
  prices: () => markdownTable(priceRows()),
}

/** The document with its tables made anew. Refuses a marker that names none. */
export async function withTables(document: string, consumption: Consumption): Promise<string> {
  const templates = {} as Known['templates']
  for (const name of names) templates[name] = await synthesise(name, settingsFor(name))
  const ofPhaseTwo = checkSettings('prod', { ...environments.prod, phase: 2, cache: LEAST_CACHE })
  const cached = { consumption: newestMeasurement(2), templates: await synthesise('prod', ofPhaseTwo) }
  const known = { consumption, templates, cached }
  return withTablesMade('docs/cost.md', document, (name) => TABLES[name]?.(known))
}

const of = ({ consumption, templates }: Known, name: EnvironmentName, load = ORDINARY): Cost =>
  costOf(name, templates[name], consumption, load)

function idleRows(costs: readonly Cost[]): Rows {
  const services = [...new Set(costs.flatMap(({ fixed }) => byService(fixed).map(({ service }) => service)))]
  const sum = (lines: readonly Line[], service: string) =>
    usd(total(lines.filter((one) => one.service === service)))
  const row = (service: string, cell: (cost: Cost) => string) => ({
    service,
    ...Object.fromEntries(costs.map((cost) => [cost.environment, cell(cost)])),
  })
  return [
    ...services.map((service) => row(service, ({ fixed }) => sum(fixed, service))),
    row('together', ({ fixed }) => usd(total(fixed))),
  ]
}

/** What a million turns would cost less. */
function leverRows(known: Known): Rows {
  const { turns } = of(known, 'prod')
  const memory = memoryOf(functionNamed(known.templates.prod, 'chat'))
  const chat = total(turns.filter(({ item }) => item.startsWith('chat, ')))
  return [{ what: `chat with ${memory / 2} MB instead of ${memory}`, USD: usd(-chat / 2) }]
}

/** Both phases, where they differ: of an idle month, of the turns, and together. */
function phaseRows({ consumption, templates, cached }: Known): Rows {
  const ofPhase = (phase: 1 | 2, turns: number): Cost => {
    const load = { ...ORDINARY, turns }
    return phase === 1
      ? costOf('prod', templates.prod, consumption, load)
      : costOf('prod', cached.templates, cached.consumption, load)
  }
  const serviceOf = (lines: readonly Line[], service: string, item = /./) =>
    usd(total(lines.filter((one) => one.service === service && item.test(one.item))))
  const row = (phase: 1 | 2, turns: number) => {
    const cost = ofPhase(phase, turns)
    const all = [...cost.fixed, ...cost.turns]
    return {
      'turns a month': amount(turns),
      phase: String(phase),
      'Data API': serviceOf(all, 'Aurora', /^Data API/),
      'the rest of Aurora': serviceOf(all, 'Aurora', /^(?!Data API)/),
      ECPUs: serviceOf(all, 'ElastiCache', /^commands/),
      'GB-hours': serviceOf(all, 'ElastiCache', /least/),
      Lambda: serviceOf(all, 'Lambda'),
      together: usd(total(all)),
    }
  }
  return PHASE_TURNS.flatMap((turns) => [row(1, turns), row(2, turns)])
}

const KIB = 1_024
const HOURS_A_DAY = 24

/** What a turn asks of the cache and leaves in it. */
function cacheRow({ cache }: Consumption): Record<string, string> {
  if (cache === undefined) throw new Error('This measurement is not of phase 2.')
  const { commands, gigabyteHours, simpleMicroseconds } = cache
  const sum = (value: (one: (typeof commands)[number]) => number) =>
    amount(commands.reduce((all, one) => all + value(one), 0))
  const append = commands.find(({ operation }) => operation === 'append')
  const { leastCacheGb, hoursAMonth } = assumptions
  return {
    'commands and scripts': sum(({ calls }) => calls),
    'of these appends': amount(append?.calls ?? 0),
    'µs of an append': amount(append?.microseconds ?? 0),
    'of a simple command': amount(simpleMicroseconds),
    'ECPUs by time': sum(({ ecpus }) => ecpus),
    'by number and KB alone': sum(({ calls, bytes }) => Math.max(calls, bytes / KIB)),
    'KB left, for a day': amount((gigabyteHours * 1e6) / HOURS_A_DAY),
    'turns a month that the least holds': amount((leastCacheGb * hoursAMonth) / gigabyteHours),
  }
}

/** Turns a month from which phase 2 is the cheaper one. */
function phaseVerdict({ consumption, templates, cached }: Known): string {
  const one = { templates: templates.prod, consumption }
  const fixed = total(fixedCost(one)) - total(fixedCost(cached))
  const cheaper = (turns: number): number => {
    const load = { ...ORDINARY, turns }
    return fixed + total(turnsCost(one, load)) - total(turnsCost(cached, load))
  }
  const first = PHASE_STEPS.find((turns) => cheaper(turns) > 0)
  return first === undefined
    ? `Phase 2 is the dearer one up to ${amount(PHASE_STEPS.at(-1) ?? 0)} turns a month.`
    : `Phase 2 is the cheaper one from about ${amount(first)} turns a month.`
}

function secondsRow(known: Known, answerSeconds: number) {
  const cost = of(known, 'prod', { ...ORDINARY, answerSeconds })
  return {
    'seconds an answer': amount(answerSeconds),
    'USD a million turns': usd(total(cost.turns)),
    'the container is cheaper, with the same Aurora': from(cost.containers.aurora.cheaperFrom),
  }
}

const comparedRow = (known: Known, turns: number) => ({
  'turns a month': amount(turns),
  ...sumsOf(of(known, 'prod', { ...ORDINARY, turns })),
})

const sumsOf = ({ containers: { aurora, rds } }: Cost) => ({
  serverless: usd(rds.serverlessUsd),
  'container, the same Aurora': usd(aurora.containerUsd),
  'container, RDS': usd(rds.containerUsd),
})

const cheaperRow = ({ environment, containers }: Cost) => ({
  environment,
  'with the same Aurora': from(containers.aurora.cheaperFrom),
  'with RDS': from(containers.rds.cheaperFrom),
})

const priceRows = (): Rows =>
  Object.values(prices).map(({ usd: price, unit, source, recheck }) => ({
    USD: price.toLocaleString('en-US', { maximumFractionDigits: 12 }),
    for: unit,
    source,
    '': recheck ? 'to re-check' : '',
  }))
