/**
 * The archive: how fast messages leave Postgres, what the archiver's process holds in memory while they do, and how fast
 * `ops restore` puts them back. The embedded bucket, and the function in a process of its own.
 */

import { amount, table } from '../../lib/cost/table.ts'
import { resources } from '../../lib/resources.ts'
import { runOps } from '../../test/harness/ops.ts'
import { createDatabase } from '../../test/harness/postgres-server.ts'
import { forkFunctions, type Host, startTurnkeep, type Turnkeep } from '../../test/harness/turnkeep.ts'
import { rounded, verdict } from '../figures.ts'
import { type Bare, measureBare } from './bare.ts'
import { peakMib, residentMib, watchMemory } from './memory.ts'
import { ANSWER_CHARACTERS, MESSAGES_PER_SESSION, QUESTION_CHARACTERS, seed } from './seed.ts'

const CURVE_POINTS = 20
const LONGEST_RUN_MS = 60_000
const ARCHIVED_A_SECOND = 20_000
const MOST_MIB = 256

export interface ArchiveSize {
  messages: number
  seconds: number
  messagesPerSecond: number
  peakMib: number
  /** Before the run, and from then on at equal distances. */
  curveMib: number[]
  bytes: number
  /** The whole command, with the start of its process. */
  restore?: { seconds: number; messagesPerSecond: number }
  /** The same rows without an archive, and speed as a share of that. */
  bare?: Bare & { archived: number; restored?: number }
}

export interface ArchiveFigures {
  messageCharacters: number
  messagesPerSession: number
  sizes: ArchiveSize[]
}

interface Options {
  /** Where the databases are made. */
  serverUrl: string
  /** Messages that leave, in each run. */
  sizes: readonly number[]
  /** Whether they come back afterwards. */
  restore?: boolean
  /** Whether the same rows are moved without an archive before. They are held in memory meanwhile. */
  bare?: boolean
}

/** The archiver alone: what it holds in memory is its own. It must be the first one. */
export const apart: Host = (cloud, environment) => {
  const others = Object.keys(cloud.runtimeApi.addresses).filter((name) => name !== 'archive')
  return [['archive'], others].map((names) => {
    const all = JSON.parse(environment.TURNKEEP_FUNCTIONS ?? '{}')
    const own = Object.fromEntries(names.map((name) => [name, all[name]]))
    return forkFunctions(names, {
      ...environment,
      TURNKEEP_FUNCTIONS: JSON.stringify(own),
      POWERTOOLS_LOG_LEVEL: 'INFO',
      ...(names.includes('archive') && { NODE_OPTIONS: resources.functions.archive?.nodeOptions ?? '' }),
    })
  })
}

export async function measureArchive(options: Options): Promise<ArchiveFigures> {
  const { serverUrl, sizes, restore = false } = options
  const measured: ArchiveSize[] = []
  for (const messages of sizes) {
    const bare = options.bare ? await measureBare(serverUrl, messages) : undefined
    const size = await measureSize(serverUrl, messages, restore)
    measured.push(bare ? { ...size, bare: beside(bare, size) } : size)
  }
  return {
    messageCharacters: (QUESTION_CHARACTERS + ANSWER_CHARACTERS) / 2,
    messagesPerSession: MESSAGES_PER_SESSION,
    sizes: measured,
  }
}

const beside = (bare: Bare, { messagesPerSecond, restore }: ArchiveSize) => ({
  ...bare,
  archived: rounded(messagesPerSecond / bare.deletedPerSecond),
  ...(restore && { restored: rounded(restore.messagesPerSecond / bare.insertedPerSecond, 3) }),
})

/** A database, a bucket and a process of its own for each size: nothing is left of the one before. */
async function measureSize(serverUrl: string, messages: number, restore: boolean): Promise<ArchiveSize> {
  const url = await createDatabase(serverUrl, 'bench_archive')
  const turnkeep = await startTurnkeep({ databaseUrl: url, host: apart })
  try {
    await seed(url, 'bench', messages)
    const pid = turnkeep.functions().pid ?? 0
    const before = residentMib(pid)
    const curve = watchMemory(pid, CURVE_POINTS)
    const startedAt = performance.now()
    const archived = await archive(turnkeep)
    const seconds = (performance.now() - startedAt) / 1_000
    const curveMib = [before, ...curve()]
    if (archived.messages !== messages) throw new Error(`${archived.messages} of ${messages} have left`)
    return {
      messages,
      seconds: Math.round(seconds * 100) / 100,
      messagesPerSecond: Math.round(messages / seconds),
      peakMib: peakMib(pid),
      curveMib,
      bytes: archived.bytes,
      ...(restore && { restore: await measureRestore(turnkeep, messages) }),
    }
  } finally {
    await turnkeep.close()
  }
}

export async function archive({ cloud }: Turnkeep): Promise<{ messages: number; bytes: number }> {
  return JSON.parse(String(await cloud.runtimeApi.invoke('archive', '{}', { waitMs: LONGEST_RUN_MS })))
}

async function measureRestore({ cloud }: Turnkeep, messages: number) {
  const startedAt = performance.now()
  const { code, out, err } = await runOps(
    ['restore', '--from', 'archive/', '--all', '--json'],
    cloud.functionEnvironment,
  )
  const seconds = (performance.now() - startedAt) / 1_000
  if (code !== 0) throw new Error(`ops restore ended with ${code}: ${err}`)
  const { restored } = JSON.parse(out)
  if (restored !== messages) throw new Error(`${restored} of ${messages} came back`)
  return { seconds: Math.round(seconds * 100) / 100, messagesPerSecond: Math.round(messages / seconds) }
}

export function printArchive({ messageCharacters, messagesPerSession, sizes }: ArchiveFigures): void {
  console.log(
    `Messages of ${messageCharacters} characters in the mean, ${messagesPerSession} a conversation.`,
  )
  console.log(
    table(
      sizes.map((size) => ({
        messages: amount(size.messages),
        'archived/s': amount(size.messagesPerSecond),
        ...(size.bare && {
          'bare delete/s': amount(size.bare.deletedPerSecond),
          'of it': percent(size.bare.archived),
        }),
        'at most MiB': amount(size.peakMib),
        'bytes each': amount(size.bytes / size.messages),
        ...(size.restore && { 'restored/s': amount(size.restore.messagesPerSecond) }),
        ...(size.bare?.restored && {
          'bare insert/s': amount(size.bare.insertedPerSecond),
          'of it ': percent(size.bare.restored),
        }),
        [`aim: ${amount(ARCHIVED_A_SECOND)}/s, below ${MOST_MIB} MiB`]: verdict(
          size.messagesPerSecond >= ARCHIVED_A_SECOND && size.peakMib < MOST_MIB,
        ),
      })),
    ),
  )
}

const percent = (share: number): string => `${amount(share * 100)} %`
