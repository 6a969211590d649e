import { parseArgs } from 'node:util'
import { findEnvironment, type Name } from '../environment.ts'
import { lacksCredentials, reasonOf, UsageError } from '../failures.ts'
import type { Variables } from '../local.ts'
import { printable, table } from '../text.ts'
import { type Part, partsOf, type Reading } from './parts.ts'

export const HELP = `npm run ops -- status [--json] [--wake] [--local]

The environment at a glance: queues, save lag, dead letters, spool, database, cache.

  --wake    asks a database that may be asleep, too; that wakes it
  --json    for machines
  --local   this machine's, whatever the environment says

Which: the variables of docs/runbook.md, or else the Turnkeep that runs on this machine.
Ends with 0, with 1 when a part could not be asked, with 2 when called wrongly.`

const OPTIONS = { json: { type: 'boolean' }, wake: { type: 'boolean' }, local: { type: 'boolean' } } as const

const NEEDS: readonly Name[] = [
  'TURNS_QUEUE_URL',
  'TURNS_DEAD_QUEUE_URL',
  'JOBS_DEAD_QUEUE_URL',
  'CONTENT_BUCKET',
  'DATABASE_CLUSTER_ARN',
  'DATABASE_SECRET_ARN',
  'DATABASE_NAME',
  'DATABASE_PAUSES',
  'HOT_STORE',
  'METRICS_NAMESPACE',
]

type Outcome = Reading | { failed: string }

/** Returns the exit code. */
export async function status(args: string[], variables: Variables, signal: AbortSignal): Promise<number> {
  if (args.some((argument) => argument === '--help' || argument === '-h')) {
    console.log(HELP)
    return 0
  }
  const { json = false, wake = false, local = false } = parse(args)
  const environment = findEnvironment({ local, needs: NEEDS }, variables)
  const phase = environment.values.HOT_STORE === 'valkey' ? 2 : 1
  const at = new Date().toISOString()
  const parts = Object.entries(partsOf(environment, { wake }, signal))
  const outcomes = await Promise.all(
    parts.map(async ([name, part]) => [name, await outcomeOf(part)] as const),
  )
  if (json) {
    const shown = Object.fromEntries(outcomes.map(([name, outcome]) => [name, toJson(outcome)]))
    console.log(JSON.stringify({ environment: environment.title, at, phase, parts: shown }, null, 2))
  } else {
    const rows = outcomes.map(([name, outcome]) => ({ part: titleOf(name), state: wordsOf(outcome) }))
    console.log(`${printable(environment.title)}, phase ${phase}\n\n${table(rows)}`)
  }
  return outcomes.some(([, outcome]) => 'failed' in outcome) ? 1 : 0
}

function parse(args: string[]) {
  try {
    return parseArgs({ args, options: OPTIONS }).values
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

/** Without credentials nothing can be asked: that is said once, and not of each part. */
async function outcomeOf(part: Part): Promise<Outcome> {
  try {
    return await part()
  } catch (error) {
    if (lacksCredentials(error)) throw error
    return { failed: reasonOf(error) }
  }
}

function toJson(outcome: Outcome): object {
  if ('failed' in outcome) return { failed: outcome.failed }
  return 'absent' in outcome ? { absent: outcome.absent } : outcome.facts
}

function wordsOf(outcome: Outcome): string {
  if ('failed' in outcome) return `CANNOT BE ASKED: ${outcome.failed}`
  return 'absent' in outcome ? outcome.absent : outcome.words
}

/** turnsQueue is the turns queue. */
const titleOf = (name: string): string => name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)
