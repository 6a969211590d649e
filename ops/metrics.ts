/** Series of CloudWatch, as alarms and graphs are made of them. */
import { CloudWatchClient, type MetricDataQuery, paginateGetMetricData } from '@aws-sdk/client-cloudwatch'
import { type Calculated, type MeasuredNames, placeOf, type Series } from '../lib/observability/series.ts'
import type { Environment } from './environment.ts'
import { Failure } from './failures.ts'

/** A metric of AWS that no alarm and no graph has. */
export interface Other {
  place: ReturnType<typeof placeOf>
  statistic: string
}
export interface Wanted {
  watches: Series | Calculated | Other
  periodSeconds: number
}
export interface Point {
  /** When its period begins, in milliseconds since the epoch. */
  at: number
  value: number
}
export interface Window {
  from: Date
  to: Date
}

/** Of a service that answers at once; more is patience with throttling. */
const ATTEMPTS = 4

/**
 * The points of each, oldest first; none where nothing was measured. Undefined where there is no CloudWatch. Throws
 * what the client throws, and Failure where CloudWatch leaves a series out.
 */
export async function readSeries<Key extends string>(
  environment: Environment,
  wanted: Record<Key, Wanted>,
  { from, to }: Window,
  abortSignal: AbortSignal,
): Promise<Record<Key, Point[]> | undefined> {
  const reach = environment.reach('CLOUDWATCH')
  if (reach === undefined) return undefined
  const client = new CloudWatchClient({ ...reach, maxAttempts: ATTEMPTS })
  const keys = Object.keys(wanted) as Key[]
  const names = namesOf(environment)
  const MetricDataQueries = keys.flatMap((key, index) => queriesFor(idOf(index), wanted[key], names))
  const found = Object.fromEntries(keys.map((key) => [key, [] as Point[]])) as Record<Key, Point[]>
  const inputs = new Map<Key, Set<number>>()
  const pages = paginateGetMetricData(
    { client },
    { MetricDataQueries, StartTime: from, EndTime: to },
    { abortSignal },
  )
  for await (const { MetricDataResults = [] } of pages)
    for (const { Id = '', StatusCode, Timestamps = [], Values = [] } of MetricDataResults) {
      const [, index, input] = /^m(\d+)(_\w+)?$/.exec(Id) ?? []
      const key = keys[Number(index)]
      if (key === undefined) continue
      if (StatusCode === 'Forbidden' || StatusCode === 'InternalError')
        throw new Failure(`CloudWatch left ${key} out: ${StatusCode}`)
      const points = Timestamps.map((at, point) => ({ at: at.getTime(), value: Values[point] ?? 0 }))
      if (input === undefined) found[key].push(...points)
      else inputs.set(key, new Set([...(inputs.get(key) ?? []), ...points.map(({ at }) => at)]))
    }
  for (const key of keys) {
    // FILL makes figures of silence; what nobody measured is no figure.
    const measured = 'expression' in wanted[key].watches ? (inputs.get(key) ?? new Set()) : undefined
    found[key] = found[key].filter(({ at }) => measured?.has(at) ?? true).sort((a, b) => a.at - b.at)
  }
  return found
}

/** CloudWatch wants a small letter first. */
const idOf = (index: number): string => `m${index}`

/** The last is what is asked for; those before it are what it is made of, and say when something was measured. */
function queriesFor(id: string, { watches, periodSeconds }: Wanted, names: MeasuredNames): MetricDataQuery[] {
  if ('expression' in watches) {
    const own = (name: string): string => `${id}_${name}`
    const inputs = Object.entries(watches.of).flatMap(([name, series]) =>
      queriesFor(own(name), { watches: series, periodSeconds }, names),
    )
    const Expression = watches.expression.replace(/[a-z]\w*/gi, (word) =>
      word in watches.of ? own(word) : word,
    )
    return [...inputs, { Id: id, Expression, Period: periodSeconds }]
  }
  const { namespace, metricName, dimensions } = 'place' in watches ? watches.place : placeOf(watches, names)
  return [
    {
      Id: id,
      MetricStat: {
        Metric: {
          Namespace: namespace,
          MetricName: metricName,
          Dimensions: Object.entries(dimensions).map(([Name, Value]) => ({ Name, Value })),
        },
        Period: periodSeconds,
        Stat: watches.statistic,
      },
    },
  ]
}

/** Functions and the distribution are not asked about. */
function namesOf({ values }: Environment): MeasuredNames {
  const queues = {
    turns: values.TURNS_QUEUE_URL,
    turnsDead: values.TURNS_DEAD_QUEUE_URL,
    jobsDead: values.JOBS_DEAD_QUEUE_URL,
    schedulesDead: values.SCHEDULES_DEAD_QUEUE_URL,
  }
  const unknown = (): never => {
    throw new Error('this command knows no function and no distribution by its name')
  }
  return {
    namespace: values.METRICS_NAMESPACE ?? '',
    queue: (which) => queues[which]?.split('/').at(-1) ?? '',
    database: () => clusterOf({ values }),
    function: unknown,
    distribution: unknown,
  }
}

export const clusterOf = ({ values }: Pick<Environment, 'values'>): string =>
  values.DATABASE_CLUSTER_ARN?.split(':').at(-1) ?? ''
