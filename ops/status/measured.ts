/** What CloudWatch knows, in one request; everything in it may be missing. */
import type { Environment } from '../environment.ts'
import { clusterOf, type Point, readSeries, type Wanted } from '../metrics.ts'

export interface Measured {
  /** Milliseconds, within the last hour. */
  saveLagMs: number | null
  turnsOldestSeconds: number | null
  deadOldestSeconds: number | null
  /** 0: it sleeps. */
  acu: number | null
  loadPercent: number | null
  storedBytes: number | null
}

const MINUTE = 60
const HOUR_MS = 3_600_000
/** Metrics come a few minutes late; an older one says how it was. */
const RECENT_MS = 15 * MINUTE * 1_000

/** Undefined where there is no CloudWatch. */
export async function measure(
  environment: Environment,
  abortSignal: AbortSignal,
): Promise<Measured | undefined> {
  const now = Date.now()
  const window = { from: new Date(now - HOUR_MS), to: new Date(now) }
  const found = await readSeries(environment, wantedOf(environment), window, abortSignal)
  if (found === undefined) return undefined
  const latest = (points: Point[]): number | null => {
    const newest = points.at(-1)
    return newest !== undefined && now - newest.at <= RECENT_MS ? newest.value : null
  }
  const lags = found.saveLag.map(({ value }) => value)
  return {
    saveLagMs: lags.length === 0 ? null : Math.max(...lags),
    turnsOldestSeconds: latest(found.turnsOldest),
    deadOldestSeconds: latest(found.deadOldest),
    acu: latest(found.acu),
    loadPercent: latest(found.load),
    storedBytes: found.stored.at(-1)?.value ?? null,
  }
}

function wantedOf(environment: Environment) {
  return {
    saveLag: {
      watches: { metric: 'SaveLag', by: 'persist', statistic: 'Maximum' },
      periodSeconds: 5 * MINUTE,
    },
    turnsOldest: { watches: { aws: 'queueAge', of: 'turns', statistic: 'Maximum' }, periodSeconds: MINUTE },
    deadOldest: {
      watches: { aws: 'queueAge', of: 'turnsDead', statistic: 'Maximum' },
      periodSeconds: MINUTE,
    },
    acu: { watches: { aws: 'databaseCapacity', of: 'writer', statistic: 'Average' }, periodSeconds: MINUTE },
    load: { watches: { aws: 'databaseLoad', of: 'writer', statistic: 'Average' }, periodSeconds: MINUTE },
    stored: {
      // Of the cluster's volume: the role does not matter, and the metric has no such dimension.
      // https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.AuroraMonitoring.Metrics.html
      watches: {
        place: {
          namespace: 'AWS/RDS',
          metricName: 'VolumeBytesUsed',
          dimensions: { DBClusterIdentifier: clusterOf(environment) },
        },
        statistic: 'Average',
      },
      periodSeconds: 5 * MINUTE,
    },
  } as const satisfies Record<string, Wanted>
}
