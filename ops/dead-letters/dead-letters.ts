import { type ParseArgsConfig, parseArgs } from 'node:util'
import { Failure, UsageError } from '../failures.ts'
import { list } from './list.ts'
import { openDeadLetterQueue } from './queue.ts'
import { redrive } from './redrive.ts'
import { show } from './show.ts'
import { where } from './where.ts'

export const HELP = `npm run ops -- dead-letters <command>

Records that could not be saved for what they are.

  list [--json]               what there is, without what people wrote
  show <id> [--content]       one record, and why it was refused
  redrive [id…] [--dry-run]   sends all, or those named, back to be saved; what still cannot be read stays

Where (the Turnkeep that runs on this machine, unless told otherwise):

  --queue <url>    the queue of dead letters (or TURNS_DEAD_QUEUE_URL)
  --source <url>   the turns queue, for redrive (or TURNS_QUEUE_URL)
  --local          this machine's, whatever the environment says

Ends with 0, with 1 when something was refused or failed, with 2 when called wrongly.`

const PLACES = { queue: { type: 'string' }, source: { type: 'string' }, local: { type: 'boolean' } } as const
const OPTIONS: Record<string, NonNullable<ParseArgsConfig['options']>> = {
  list: { json: { type: 'boolean' } },
  show: { content: { type: 'boolean' } },
  redrive: { 'dry-run': { type: 'boolean' } },
}

/** Returns the exit code. */
export async function deadLetters(
  [command, ...rest]: string[],
  environment: Record<string, string | undefined>,
  signal: AbortSignal,
): Promise<number> {
  if ([command, ...rest].some((argument) => argument === '--help' || argument === '-h')) {
    console.log(HELP)
    return 0
  }
  const { values, positionals } = parse(command, rest)
  if (command === 'list' && positionals.length > 0) throw new UsageError('list takes no id.')
  const [id] = positionals
  if (command === 'show' && (id === undefined || positionals.length > 1))
    throw new UsageError('show takes one id.')

  const place = where(values, environment)
  const queue = openDeadLetterQueue(place)
  // So that nobody mistakes one environment for another.
  const detour = place.endpoint === new URL(place.deadUrl).origin ? '' : `, by way of ${place.endpoint}`
  console.error(`${place.deadUrl}${detour}\n`)
  try {
    if (command === 'list') return await list(queue, { json: values.json === true }, signal)
    if (command === 'show') return await show(queue, id ?? '', { content: values.content === true }, signal)
    return await redrive(queue, positionals, { dryRun: values['dry-run'] === true }, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED')
      throw new Failure(`Nothing answers at ${place.endpoint}.`, { cause: error })
    throw error
  }
}

function parse(command: string | undefined, args: string[]) {
  const options = OPTIONS[command ?? '']
  if (!options) throw new UsageError(command ? `There is no command ${command}.` : 'Which command?')
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: { ...PLACES, ...options } as typeof PLACES & {
        [Name in 'json' | 'content' | 'dry-run']: { type: 'boolean' }
      },
    })
    return { values, positionals }
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}
