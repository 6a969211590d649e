/**
 * Commands for those who run Turnkeep: `npm run ops -- <area> <command> …`. They end with 0 when all was done, 1 when
 * something was refused or failed, 2 when they were called wrongly or for no environment, 130 when they were interrupted.
 */
import { HELP as CACHE_HELP, cache } from './cache/cache.ts'
import { HELP as DEAD_LETTERS_HELP, deadLetters } from './dead-letters/dead-letters.ts'
import { lacksCredentials, reasonOf, UsageError, WrongEnvironment } from './failures.ts'
import { HELP as PHASE_HELP, phase } from './phase/phase.ts'
import { HELP as RESTORE_HELP, restore } from './restore/restore.ts'
import { HELP as RETENTION_HELP, retention } from './retention/retention.ts'
import { HELP as SMOKE_HELP, smoke } from './smoke/smoke.ts'
import { HELP as STATUS_HELP, status } from './status/status.ts'

const AREAS = {
  status: { run: status, help: STATUS_HELP },
  phase: { run: phase, help: PHASE_HELP },
  cache: { run: cache, help: CACHE_HELP },
  'dead-letters': { run: deadLetters, help: DEAD_LETTERS_HELP },
  restore: { run: restore, help: RESTORE_HELP },
  retention: { run: retention, help: RETENTION_HELP },
  smoke: { run: smoke, help: SMOKE_HELP },
}
const HELP = Object.values(AREAS)
  .map(({ help }) => help)
  .join('\n\n')

// A command that holds letters gives them back before it ends, one that made conversations removes them; a second
// Ctrl-C (npm passes on the first) waits too.
const interrupted = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => interrupted.abort())

process.exitCode = await run(process.argv.slice(2))

async function run([name, ...rest]: string[]): Promise<number> {
  const area = Object.entries(AREAS).find(([known]) => known === name)?.[1]
  try {
    if (name === undefined || /^(-h|--help|help)$/.test(name)) {
      console.log(HELP)
      return name === undefined ? 2 : 0
    }
    if (area === undefined) throw new UsageError(`There is no ${name}.`)
    const exitCode = await area.run(rest, process.env, interrupted.signal)
    if (!interrupted.signal.aborted) return exitCode
    console.error('Interrupted: this is not all.')
    return 130
  } catch (error) {
    if (!(error instanceof Error)) throw error
    if (error instanceof UsageError) {
      console.error(`${error.message}\n\n${area?.help ?? HELP}`)
      return 2
    }
    if (error instanceof WrongEnvironment || lacksCredentials(error)) {
      console.error(
        error instanceof WrongEnvironment ? error.message : `No credentials for AWS: ${reasonOf(error)}`,
      )
      return 2
    }
    console.error(reasonOf(error))
    return 1
  }
}
