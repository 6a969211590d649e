import { parseArgs } from 'node:util'
import { findEnvironment } from '../environment.ts'
import { Failure, lacksCredentials, reasonOf, UsageError, WrongEnvironment } from '../failures.ts'
import type { Variables } from '../local.ts'
import { printable, size, table, time } from '../text.ts'
import { type CacheControl, openCacheControl, type Snapshot } from './elasticache.ts'

export const HELP = `npm run ops -- cache <command>

Snapshots of the cache of phase 2. Nothing depends on them: what the cache holds is in Postgres, too, or will be in seconds.

  snapshot [--name <name>] [--json]   takes one; it stays, and is paid for, until it is deleted
  snapshots [--json]                  those that there are, the daily ones too, newest first

Which: VALKEY_CACHE_NAME, in AWS_REGION; see docs/runbook.md. --local looks at this machine, which has none.
Ends with 0, with 1 when it was refused or failed, with 2 when called wrongly or where there is no cache.`

const OPTIONS = { name: { type: 'string' }, json: { type: 'boolean' }, local: { type: 'boolean' } } as const

/** ElastiCache takes 1 to 255 characters and makes small letters of them. */
const NAME = /^[a-z][a-z0-9-]{0,254}$/i

/** Returns the exit code. */
export async function cache(
  [command, ...rest]: string[],
  variables: Variables,
  signal: AbortSignal,
): Promise<number> {
  if ([command, ...rest].some((argument) => argument === '--help' || argument === '-h')) {
    console.log(HELP)
    return 0
  }
  const { name, json, local } = parse(command, rest)
  const { control, cacheName } = open({ local }, variables, signal)
  try {
    if (command === 'snapshot') {
      const taken = await control.take(name ?? `${cacheName}-${stamp(new Date())}`)
      console.log(json ? JSON.stringify(taken, null, 2) : `${printable(taken.name)}  ${taken.state}`)
    } else {
      const found = await control.snapshots()
      if (json) console.log(JSON.stringify(found, null, 2))
      else
        console.log(found.length === 0 ? `There are no snapshots of ${cacheName}.` : table(found.map(toRow)))
    }
    return 0
  } catch (error) {
    if (signal.aborted || lacksCredentials(error)) throw error
    throw new Failure(refusals[(error as Error).name]?.(cacheName) ?? reasonOf(error), { cause: error })
  }
}

function parse(command: string | undefined, args: string[]) {
  if (command !== 'snapshot' && command !== 'snapshots')
    throw new UsageError(command ? `There is no command ${command}.` : 'Which command?')
  const { name, json = false, local = false } = valuesOf(args)
  if (name !== undefined && command === 'snapshots') throw new UsageError('snapshots takes no --name.')
  if (name !== undefined && !NAME.test(name))
    throw new UsageError('--name must be letters, digits and hyphens, a letter first, at most 255.')
  return { name, json, local }
}

function valuesOf(args: string[]) {
  try {
    return parseArgs({ args, options: OPTIONS }).values
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function open(
  { local }: { local: boolean },
  variables: Variables,
  signal: AbortSignal,
): { control: CacheControl; cacheName: string } {
  const environment = findEnvironment({ local, needs: [] }, variables)
  const cacheName = environment.values.VALKEY_CACHE_NAME
  const control = cacheName ? openCacheControl(environment, cacheName, signal) : undefined
  if (cacheName && control) return { control, cacheName }
  throw new WrongEnvironment(
    environment.isLocal
      ? 'The Turnkeep on this machine has no cache of ElastiCache.'
      : 'This environment has no cache: VALKEY_CACHE_NAME is not set, and the stack has the output ValkeyCacheName only with one.',
  )
}

/** What ElastiCache says is about any cache; this is about ours. */
const refusals: Record<string, (cacheName: string) => string> = {
  ServerlessCacheNotFoundFault: (cacheName) => `There is no cache ${cacheName}.`,
  InvalidServerlessCacheStateFault: (cacheName) =>
    `${cacheName} is not available yet, or is being changed: \`npm run ops -- status\` says its state.`,
  ServerlessCacheSnapshotAlreadyExistsFault: () => 'There is a snapshot of that name already.',
}

function toRow({ name, state, type, takenAt, expiresAt, bytes }: Snapshot): Record<string, string> {
  const when = (at: string | null): string => (at === null ? '' : time(Date.parse(at)))
  return {
    name,
    state,
    type: type ?? '',
    taken: when(takenAt),
    expires: when(expiresAt),
    size: bytes === null ? '' : size(bytes),
  }
}

/** 20261120-163000 */
const stamp = (now: Date): string => now.toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-')
