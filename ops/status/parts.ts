/** What an environment consists of, each part as it is read and as it is said. */
import { openCacheControl, type Snapshot } from '../cache/elasticache.ts'
import type { Environment } from '../environment.ts'
import { count, rounded, size, span, time } from '../text.ts'
import { askDatabase } from './database.ts'
import { type Measured, measure } from './measured.ts'
import { type Depth, depthOf } from './queues.ts'
import { lookAtSpool } from './spool.ts'

export type Facts = Record<string, string | number | boolean | null>
/** `absent`: this environment has none, which is no fault. */
export type Reading = { facts: Facts; words: string } | { absent: string }

/** Rejects where it cannot be asked. */
export type Part = () => Promise<Reading>

const NO_METRICS = { absent: 'not measured: there is no CloudWatch on this machine' }

/** In the order in which they are shown, each by its name in JSON. Nothing is asked before a part is called. */
export function partsOf(
  environment: Environment,
  { wake }: { wake: boolean },
  signal: AbortSignal,
): Record<string, Part> {
  const { values } = environment
  const value = (name: keyof typeof values): string => values[name] ?? ''
  const measured = once(() => measure(environment, signal))
  const turns = once(() => depthOf(environment, value('TURNS_QUEUE_URL'), signal))
  // What is asked for beside it: a part that fails by itself says so in its own line.
  const alsoMeasured = (): Promise<Measured | undefined> => measured().catch(() => undefined)

  return {
    turnsQueue: async () => depthReading(await turns(), (await alsoMeasured())?.turnsOldestSeconds),
    turnsRunning: async () => runningReading(await turns()),
    saveLag: async () => saveLagReading(await measured()),
    deadLetters: async () => {
      const depth = await depthOf(environment, value('TURNS_DEAD_QUEUE_URL'), signal)
      return depthReading(depth, (await alsoMeasured())?.deadOldestSeconds)
    },
    jobDeadLetters: async () =>
      depthReading(await depthOf(environment, value('JOBS_DEAD_QUEUE_URL'), signal), undefined),
    scheduleDeadLetters: async () => {
      const url = values.SCHEDULES_DEAD_QUEUE_URL
      if (url === undefined) return { absent: 'none: the clock on this machine tries at its next time' }
      return depthReading(await depthOf(environment, url, signal), undefined)
    },
    spool: async () => {
      const { objects, complete, oldestAt } = await lookAtSpool(environment, value('CONTENT_BUCKET'), signal)
      const oldest = oldestAt === null ? '' : `; the oldest of ${time(oldestAt)}`
      return {
        facts: { objects, complete, oldestAt: oldestAt === null ? null : new Date(oldestAt).toISOString() },
        words: `${complete ? '' : 'at least '}${count(objects, 'object')}${oldest}`,
      }
    },
    database: async () => {
      if (value('DATABASE_PAUSES') !== 'false' && !wake) return leftAlone(await alsoMeasured())
      const place = {
        clusterArn: value('DATABASE_CLUSTER_ARN'),
        secretArn: value('DATABASE_SECRET_ARN'),
        name: value('DATABASE_NAME'),
      }
      const { answeredInMs, bytes } = await askDatabase(environment, place, signal)
      return {
        facts: { state: 'answers', answeredInMs, bytes },
        words: `answers, in ${answeredInMs} ms; ${size(bytes)}`,
      }
    },
    databaseCapacity: async () => capacityReading(await measured()),
    cache: () => cacheReading(environment, signal),
  }
}

/** Several parts are read from one answer. */
function once<Value>(ask: () => Promise<Value>): () => Promise<Value> {
  let asked: Promise<Value> | undefined
  return () => {
    asked ??= ask()
    return asked
  }
}

function depthReading(depth: Depth, oldestSeconds: number | null | undefined): Reading {
  const { waiting, inHand, delayed } = depth
  const oldest = oldestSeconds && waiting + inHand > 0 ? `; the oldest for ${span(oldestSeconds)}` : ''
  return {
    facts: { ...depth, oldestSeconds: oldestSeconds ?? null },
    words: `${waiting} waiting, ${inHand} in hand, ${delayed} delayed${oldest}`,
  }
}

/** A running turn has one delayed message, its watch; that of a turn that has ended is there for some seconds more. */
const runningReading = ({ delayed }: Depth): Reading => ({
  facts: { atMost: delayed },
  words: delayed === 0 ? 'none' : `${delayed} at most, those included that ended within seconds`,
})

function saveLagReading(measured: Measured | undefined): Reading {
  if (measured === undefined) return NO_METRICS
  const { saveLagMs } = measured
  return {
    facts: { mostInLastHourMs: saveLagMs },
    words:
      saveLagMs === null
        ? 'nothing was saved within the last hour'
        : `${span(saveLagMs / 1_000)} at most within the last hour`,
  }
}

function leftAlone(measured: Measured | undefined): Reading {
  const acu = measured?.acu ?? null
  if (acu === 0) return { facts: { state: 'asleep' }, words: 'asleep (--wake asks it)' }
  if (acu !== null)
    return {
      facts: { state: 'awake' },
      words: 'awake; not asked, so that it may fall asleep (--wake asks it)',
    }
  return {
    facts: { state: 'not asked' },
    words: 'not asked: it may be asleep, and nothing was measured (--wake asks it)',
  }
}

function capacityReading(measured: Measured | undefined): Reading {
  if (measured === undefined) return NO_METRICS
  const { acu, loadPercent, storedBytes } = measured
  const words = [
    acu === null ? 'not measured within a quarter of an hour' : `${rounded(acu)} ACU`,
    ...(loadPercent === null ? [] : [`${rounded(loadPercent)} % of what it may grow to`]),
    ...(storedBytes === null ? [] : [`${size(storedBytes)} stored`]),
  ]
  return { facts: { acu, loadPercent, storedBytes }, words: words.join('; ') }
}

async function cacheReading(environment: Environment, signal: AbortSignal): Promise<Reading> {
  const { VALKEY_CACHE_NAME: cacheName } = environment.values
  if (cacheName === undefined)
    return { absent: environment.isLocal ? 'none that AWS keeps' : 'none: the settings have no cache' }
  const control = openCacheControl(environment, cacheName, signal)
  if (control === undefined) return { absent: 'none that AWS keeps' }
  const [state, snapshots] = await Promise.all([control.describe(), control.snapshots()])
  const { maxGigabytes, maxEcpuPerSecond, endpoint } = state
  const words = [
    state.state,
    ...(endpoint === null ? [] : [endpoint]),
    ...(maxGigabytes === null ? [] : [`at most ${rounded(maxGigabytes)} GB`]),
    ...(maxEcpuPerSecond === null ? [] : [`at most ${rounded(maxEcpuPerSecond)} ECPU/s`]),
    snapshotWords(snapshots),
  ]
  const [newest] = snapshots
  return {
    facts: {
      ...state,
      snapshots: snapshots.length,
      newestSnapshot: newest?.name ?? null,
      newestSnapshotState: newest?.state ?? null,
      newestSnapshotAt: newest?.takenAt ?? null,
    },
    words: words.join('; '),
  }
}

function snapshotWords([newest, ...older]: Snapshot[]): string {
  if (newest === undefined) return 'no snapshot'
  const at =
    newest.takenAt === null ? newest.state : `${newest.state}, of ${time(Date.parse(newest.takenAt))}`
  return `${count(older.length + 1, 'snapshot')}, the newest ${at}`
}
