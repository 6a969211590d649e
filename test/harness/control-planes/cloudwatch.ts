/** GetMetricData over samples that tests put in: statistics by period, newest first, in pages. */
import type { Answered, Refusal } from './control-planes.ts'

export interface MetricName {
  namespace: string
  name: string
  dimensions: Record<string, string>
}
interface Sample {
  atMs: number
  value: number
}

export interface CloudWatch {
  put(metric: MetricName, samples: readonly Sample[]): void
  clear(): void
  /** Data points of a page; AWS gives up to 100,800. */
  pageSize: number
  answer(action: string, input: object): Answered
  refused(refusal: Refusal): Answered
}

interface Query {
  Id: string
  Expression?: string
  Period?: number
  ReturnData?: boolean
  MetricStat?: {
    Metric: { Namespace: string; MetricName: string; Dimensions?: { Name: string; Value: string }[] }
    Period: number
    Stat: string
  }
}
interface Input {
  MetricDataQueries: Query[]
  /** Seconds since the epoch. */
  StartTime: number
  EndTime: number
  NextToken?: string
}
/** Values by the second at which their period begins. */
type Series = Map<number, number>

const MOST_QUERIES = 500
const MOST_POINTS = 100_800
const MINUTE = 60
/** Single minutes are kept for so long. */
const MINUTES_KEPT_SECONDS = 15 * 86_400

export function createCloudWatch(): CloudWatch {
  const samples = new Map<string, Sample[]>()
  const cloudWatch: CloudWatch = {
    pageSize: MOST_POINTS,
    put(metric, more) {
      const key = keyOf(metric)
      samples.set(key, [...(samples.get(key) ?? []), ...more])
    },
    clear: () => samples.clear(),
    answer(action, input) {
      if (action !== 'GetMetricData') return cloudWatch.refused(invalid(`no action ${action}`))
      const problem = problemOf(input as Input)
      if (problem) return cloudWatch.refused(invalid(problem))
      return json(200, paged(input as Input, evaluate(input as Input, samples), cloudWatch.pageSize))
    },
    // It has spoken the query protocol before, and says errors in both.
    refused: ({ status, code, message }) => ({
      ...json(status, { __type: `com.amazonaws.cloudwatch#${code}`, message }),
      headers: { 'content-type': 'application/x-amz-json-1.0', 'x-amzn-query-error': `${code};Sender` },
    }),
  }
  return cloudWatch
}

const json = (status: number, body: object): Answered => ({
  status,
  headers: { 'content-type': 'application/x-amz-json-1.0' },
  body: JSON.stringify(body),
})
const invalid = (message: string): Refusal => ({ status: 400, code: 'ValidationError', message })

const keyOf = ({ namespace, name, dimensions }: MetricName): string =>
  JSON.stringify([namespace, name, Object.entries(dimensions).sort()])

function problemOf({ MetricDataQueries: queries, StartTime, EndTime }: Input): string | undefined {
  const ids = queries.map(({ Id }) => Id)
  if (queries.length === 0 || queries.length > MOST_QUERIES)
    return 'The collection MetricDataQueries must have 1 to 500.'
  if (ids.some((id) => !/^[a-z][a-zA-Z0-9_]*$/.test(id))) return 'An Id is not valid.'
  if (new Set(ids).size < ids.length) return 'Two queries have the same Id.'
  if (queries.every(({ ReturnData }) => ReturnData === false)) return 'No query returns data.'
  if (StartTime >= EndTime) return 'The parameter StartTime must be less than the parameter EndTime.'
  for (const { MetricStat, Expression, Period } of queries) {
    const period = MetricStat?.Period ?? Period ?? 0
    if ((MetricStat === undefined) === (Expression === undefined)) return 'Either MetricStat or Expression.'
    if (period < MINUTE || period % MINUTE !== 0) return 'The value of Period must be a multiple of 60.'
  }
  return undefined
}

function evaluate(input: Input, samples: Map<string, Sample[]>) {
  const { MetricDataQueries: queries, StartTime, EndTime } = input
  const series = new Map<string, Series>()
  for (const { Id, MetricStat } of queries) {
    if (MetricStat === undefined) continue
    const { Metric, Period, Stat } = MetricStat
    const dimensions = Object.fromEntries((Metric.Dimensions ?? []).map(({ Name, Value }) => [Name, Value]))
    const kept =
      samples.get(keyOf({ namespace: Metric.Namespace, name: Metric.MetricName, dimensions })) ?? []
    const tooOld = Period < 5 * MINUTE && StartTime < Date.now() / 1_000 - MINUTES_KEPT_SECONDS
    series.set(
      Id,
      tooOld ? new Map() : aggregate(kept, Period, Stat, Math.floor(StartTime / MINUTE) * MINUTE, EndTime),
    )
  }
  for (const { Id, Expression, Period = MINUTE } of queries)
    if (Expression !== undefined) series.set(Id, summed(Expression, series, periodsOf(input, Period)))
  return series
}

/** A period is kept under its begin, and left out where that is before the start. */
function aggregate(
  samples: readonly Sample[],
  period: number,
  stat: string,
  from: number,
  to: number,
): Series {
  const groups = new Map<number, number[]>()
  for (const { atMs, value } of samples) {
    const begin = Math.floor(atMs / 1_000 / period) * period
    if (begin < from || begin >= to) continue
    const group = groups.get(begin)
    if (group) group.push(value)
    else groups.set(begin, [value])
  }
  return new Map([...groups].map(([begin, values]) => [begin, statistic(values, stat)]))
}

function statistic(values: readonly number[], stat: string): number {
  const sorted = [...values].sort((a, b) => a - b)
  const sum = sorted.reduce((total, value) => total + value, 0)
  if (stat === 'Sum') return sum
  if (stat === 'SampleCount') return sorted.length
  if (stat === 'Average') return sum / sorted.length
  if (stat === 'Maximum') return sorted.at(-1) ?? 0
  const percentile = /^p(\d+)$/.exec(stat)?.[1]
  if (percentile === undefined) throw new Error(`no statistic ${stat}`)
  return sorted[Math.max(0, Math.ceil((Number(percentile) / 100) * sorted.length) - 1)] ?? 0
}

/** Of metric math only sums. FILL gives every period of the window a value, also where nothing was ever measured. */
function summed(expression: string, series: Map<string, Series>, periods: readonly number[]): Series {
  if (!/^(FILL\(\w+, 0\)|\w+)( \+ (FILL\(\w+, 0\)|\w+))*$/.test(expression))
    throw new Error(`no math for ${expression}`)
  const parts = [...expression.matchAll(/[a-z]\w*/g)].map(
    ([id]) => series.get(id) ?? new Map<number, number>(),
  )
  const begins = new Set([
    ...parts.flatMap((part) => [...part.keys()]),
    ...(/FILL/.test(expression) ? periods : []),
  ])
  return new Map([...begins].map((at) => [at, parts.reduce((total, part) => total + (part.get(at) ?? 0), 0)]))
}

function periodsOf({ StartTime, EndTime }: Input, period: number): number[] {
  const first = Math.ceil(StartTime / period)
  return Array.from({ length: Math.ceil(EndTime / period) - first }, (_, index) => (first + index) * period)
}

function paged(
  { MetricDataQueries: queries, NextToken }: Input,
  series: Map<string, Series>,
  size: number,
): object {
  const wanted = queries.filter(({ ReturnData }) => ReturnData !== false)
  const points = wanted.flatMap(({ Id }) =>
    [...(series.get(Id) ?? [])].sort(([a], [b]) => b - a).map(([at, value]) => ({ Id, at, value })),
  )
  const from = Number(NextToken ?? 0)
  const page = points.slice(from, from + size)
  const isMore = from + size < points.length
  return {
    MetricDataResults: wanted.map(({ Id }) => {
      const own = page.filter((point) => point.Id === Id)
      return {
        Id,
        Label: Id,
        StatusCode: isMore ? 'PartialData' : 'Complete',
        Timestamps: own.map(({ at }) => at),
        Values: own.map(({ value }) => value),
      }
    }),
    Messages: [],
    ...(isMore && { NextToken: String(from + size) }),
  }
}
