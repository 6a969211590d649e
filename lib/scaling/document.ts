/** The tables of docs/scaling.md. */
import { assumptions } from '../cost/assumptions.ts'
import type { Consumption } from '../cost/consumption.ts'
import { LEAST_CACHE } from '../cost/cost.ts'
import { synthesise } from '../cost/synthesise.ts'
import { markdownTable, withTablesMade } from '../cost/table.ts'
import { checkSettings, settingsFor } from '../settings.ts'
import type { Context, Load } from './load.ts'
import { bottleneckRow, limitRows, origin, processorRow, sourceRows, TURNS_AN_HOUR } from './report.ts'

/** The busiest minute's share of a busy hour is the one that the cost of a container has. */
export const ORDINARY = { answerSeconds: 8, peak: assumptions.peakOverMean }
const EXAMPLE: Load = { ...ORDINARY, turnsAnHour: 100_000 }

/** An environment in this phase, with the least of a cache where it has none. */
export async function contextOf(name: string, phase: 1 | 2, consumption: Consumption): Promise<Context> {
  const { cache, ...others } = settingsFor(name)
  const settings = checkSettings(
    name,
    phase === 1 ? { ...others, phase } : { ...others, phase, cache: cache ?? LEAST_CACHE },
  )
  return { settings, templates: await synthesise(name, settings), consumption }
}

/** The document with its tables made anew, of prod. Refuses a marker that names none. */
export async function withTables(
  document: string,
  consumptions: Record<1 | 2, Consumption>,
): Promise<string> {
  const one = await contextOf('prod', 1, consumptions[1])
  const two = await contextOf('prod', 2, consumptions[2])
  const tables: Record<string, () => string> = {
    origin: () => origin(one, EXAMPLE),
    bottlenecks: () =>
      markdownTable(
        TURNS_AN_HOUR.flatMap((turnsAnHour) =>
          [one, two].map((context) => bottleneckRow('prod', context, { ...ORDINARY, turnsAnHour })),
        ),
      ),
    'limits in phase 1': () => markdownTable(limitRows(one, EXAMPLE)),
    'limits in phase 2': () => markdownTable(limitRows(two, EXAMPLE)),
    processor: () => markdownTable([processorRow(one), processorRow(two)]),
    sources: () => markdownTable(sourceRows()),
  }
  return withTablesMade('docs/scaling.md', document, (name) => tables[name]?.())
}
