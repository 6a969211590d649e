/** `npm run cost -- --env dev`: what an environment costs in a month, from its template and what a turn was measured to use. */
import { readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { costOf, LEAST_CACHE } from '../lib/cost/cost.ts'
import { withTables } from '../lib/cost/document.ts'
import { newestMeasurement, readMeasurement } from '../lib/cost/measured.ts'
import { origin, sections, toRecheck, verdicts } from '../lib/cost/report.ts'
import { synthesise } from '../lib/cost/synthesise.ts'
import { table } from '../lib/cost/table.ts'
import { type Settings, settingsFor } from '../lib/settings.ts'

const HELP = `npm run cost -- --env <dev|staging|prod>

  --turns <n>            a month (1000000)
  --answer-seconds <n>   what the model takes for an answer (8)
  --phase <1|2>          as if the environment were in this phase
  --measured <file>      of npm run bench:turn; the newest in bench/results, unless told otherwise
  --json                 the same as data
  --write-docs           brings the tables in docs/cost.md up to date instead

In USD, of the region and the day that lib/cost/prices.json names, without free tiers.`

const DOCUMENT = resolve(import.meta.dirname, '../docs/cost.md')

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
    const consumption = values.measured ? readMeasurement(values.measured) : newestMeasurement()
    writeFileSync(DOCUMENT, await withTables(readFileSync(DOCUMENT, 'utf8'), consumption))
    return
  }
  const load = {
    turns: positive('turns', values.turns),
    answerSeconds: positive('answer-seconds', values['answer-seconds']),
  }
  const name = values.env ?? ''
  const settings = inPhase(settingsFor(name), values.phase)
  const consumption = values.measured ? readMeasurement(values.measured) : newestMeasurement(settings.phase)
  const cost = costOf(name, await synthesise(name, settings), consumption, load)
  if (values.json) return console.log(JSON.stringify(cost, undefined, 2))
  for (const { title, rows } of sections(cost)) console.log(`${title}\n\n${table(rows)}\n`)
  for (const verdict of verdicts(cost)) console.log(verdict)
  console.log(origin(consumption))
  console.log(`To be checked again: ${toRecheck([...cost.fixed, ...cost.used, ...cost.turns]).join(', ')}.`)
  console.log('Not counted: the model’s tokens, users of Cognito, WAF, taxes, support. See docs/cost.md.')
}

/** With the least of a cache, where the environment has none. */
function inPhase(settings: Settings, phase: string | undefined): Settings {
  if (phase === undefined) return settings
  if (phase !== '1' && phase !== '2') throw new Error(`--phase must be 1 or 2, not ${phase}.`)
  const { cache, ...others } = settings
  return phase === '1' ? { ...others, phase: 1 } : { ...others, phase: 2, cache: cache ?? LEAST_CACHE }
}

/** Undefined where the call was wrong, or for help. */
function valuesOf() {
  try {
    const { values } = parseArgs({
      options: {
        env: { type: 'string' },
        turns: { type: 'string', default: '1000000' },
        'answer-seconds': { type: 'string', default: '8' },
        phase: { type: 'string' },
        measured: { type: 'string' },
        json: { type: 'boolean' },
        'write-docs': { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    })
    if (!values.help && (values.env || values['write-docs'])) return values
    if (!values.help) throw new Error('--env is missing.')
    console.log(HELP)
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${HELP}`)
    process.exitCode = 2
  }
  return undefined
}

function positive(name: string, text: string): number {
  const number = Number(text)
  if (!(number >= 0) || text.trim() === '') throw new Error(`--${name} must be a number, not ${text}.`)
  return number
}
