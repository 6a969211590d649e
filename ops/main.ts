/**
 * Commands for those who run Turnkeep: `npm run ops -- <area> <command> …`. They end with 0 when all was done, 1 when
 * something was refused or failed, 2 when they were called wrongly, 130 when they were interrupted.
 */
import { deadLetters, HELP } from './dead-letters/dead-letters.ts'
import { Failure, UsageError } from './failures.ts'

// A command that holds letters gives them back before it ends; a second Ctrl-C (npm passes on the first) waits too.
const interrupted = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => interrupted.abort())

process.exitCode = await run(process.argv.slice(2))

async function run([area, ...rest]: string[]): Promise<number> {
  try {
    if (area === undefined || /^(-h|--help|help)$/.test(area)) {
      console.log(HELP)
      return area === undefined ? 2 : 0
    }
    if (area !== 'dead-letters') throw new UsageError(`There is no ${area}.`)
    const exitCode = await deadLetters(rest, process.env, interrupted.signal)
    if (!interrupted.signal.aborted) return exitCode
    console.error('Interrupted: this is not all.')
    return 130
  } catch (error) {
    if (!(error instanceof Error)) throw error
    if (error instanceof UsageError) {
      console.error(`${error.message}\n\n${HELP}`)
      return 2
    }
    console.error(error instanceof Failure ? error.message : `${error.name}: ${error.message}`)
    return 1
  }
}
