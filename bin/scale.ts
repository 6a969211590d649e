/** `npm run scale`: what breaks first as turns grow, how near it is, what a month costs, and what moves it. */
import { readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { newestMeasurement, readMeasurement } from '../lib/cost/measured.ts'
import { table } from '../lib/cost/table.ts'
import { contextOf, ORDINARY, withTables } from '../lib/scaling/document.ts'
import type { Load } from '../lib/scaling/load.ts'
import { bottleneckRow, limitRows, origin, TURNS_AN_HOUR, toRecheck } from '../lib/scaling/report.ts'
import { scale } from '../lib/scaling/scaling.ts'

const HELP = `npm run scale

  --env <dev|staging|prod>   whose settings (prod)
  --phase <1|2>              as if the environment were in this phase; both, unless told otherwise
  --turns <n>                an hour, with all limits; 10, 1,000, 100,000 and 10,000,000, unless told otherwise
  --peak <n>                 what the busiest seconds have over the mean of the hour (${ORDINARY.peak})
  --answer-seconds <n>       what the model takes for an answer (${ORDINARY.answerSeconds})
  --measured <file>          of npm run bench:turn; the newest in bench/results, unless told otherwise
  --json                     the same as data
  --write-docs               brings the tables in docs/scaling.md up to date instead

The limits and their sources are in lib/scaling/limits.json.`

const DOCUMENT = resolve(import.meta.dirname, '../docs/scaling.md')

try {
  await run()
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
}

async function run(): Promise<void> {
  const values = valuesOf()
  if (values === undefined) return
  if (values['write-docs']) {
    const consumptions = { 1: newestMeasurement(1), 2: newestMeasurement(2) }
    writeFileSync(DOCUMENT, await withTables(readFileSync(DOCUMENT, 'utf8'), consumptions))
    return
  }
  const load = {
    answerSeconds: positive('answer-seconds', values['answer-seconds']),
    peak: positive('peak', values.peak),
  }
  if (load.peak < 1)
    throw new Error('--peak must be at least 1: the busiest second is no calmer than the mean.')
  const turns = values.turns === undefined ? TURNS_AN_HOUR : [positive('turns', values.turns)]
  const phases = phasesOf(values.phase)
  const consumptionOf = (phase: 1 | 2) =>
    values.measured ? readMeasurement(values.measured) : newestMeasurement(phase)
  const contexts = await Promise.all(
    phases.map((phase) => contextOf(values.env, phase, consumptionOf(phase))),
  )
  const loads = turns.map((turnsAnHour): Load => ({ ...load, turnsAnHour }))
  if (values.json) {
    const all = loads.flatMap((one) =>
      contexts.map((context) => ({ phase: context.settings.phase, load: one, limits: scale(context, one) })),
    )
    return console.log(JSON.stringify(all, undefined, 2))
  }
  for (const context of contexts) {
    const [first = { ...load, turnsAnHour: 0 }] = loads
    console.log(`\nPhase ${context.settings.phase}. ${origin(context, first)}\n`)
    console.log(table(loads.map((one) => bottleneckRow(values.env, context, one))))
    if (values.turns !== undefined) console.log(`\n${table(limitRows(context, first))}`)
  }
  console.log(
    `\nTo be checked again: ${toRecheck().join(', ')}. Not counted: the model's own limits. See docs/scaling.md.`,
  )
}

function phasesOf(phase: string | undefined): (1 | 2)[] {
  if (phase === undefined) return [1, 2]
  if (phase !== '1' && phase !== '2') throw new Error(`--phase must be 1 or 2, not ${phase}.`)
  return phase === '1' ? [1] : [2]
}

/** Undefined where the call was wrong, or for help. */
function valuesOf() {
  try {
    const { values } = parseArgs({
      options: {
        env: { type: 'string', default: 'prod' },
        phase: { type: 'string' },
        turns: { type: 'string' },
        peak: { type: 'string', default: String(ORDINARY.peak) },
        'answer-seconds': { type: 'string', default: String(ORDINARY.answerSeconds) },
        measured: { type: 'string' },
        json: { type: 'boolean' },
        'write-docs': { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    })
    if (!values.help) return values
    console.log(HELP)
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${HELP}`)
    process.exitCode = 2
  }
  return undefined
}

function positive(name: string, text: string): number {
  const number = Number(text)
  if (!(number > 0)) throw new Error(`--${name} must be a number above 0, not ${text}.`)
  return number
}
