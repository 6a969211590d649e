/** What turns cost, beside what an idle environment costs anyway: by service, from what one turn was measured to use. */
import { assumptions } from './assumptions.ts'
import type { Calls, Consumption } from './consumption.ts'
import { capacityOf } from './fixed.ts'
import { type Line, line } from './prices.ts'
import { functionNamed, gbSeconds, memoryOf, monthsOfLogs, type Template } from './template.ts'

export interface Load {
  turns: number
  /** The model's own time for an answer. */
  answerSeconds: number
}

interface Context {
  templates: readonly Template[]
  consumption: Consumption
}

const GB = 1e9
const GIB = 2 ** 30
const DAYS_A_MONTH = 30

/** The reply log grows as long as the model writes; every other call is made once or twice. */
const GROWS_WITH_TIME = 'append_events'
/** The same in the cache: one for each piece of the answer, while none is under way. */
const GROWS_IN_CACHE = 'append'

/** One turn's calls, for an answer that takes the model so long. */
export function callsOf(consumption: Consumption, answerSeconds: number): Calls[] {
  const longer = answerSeconds / (consumption.model.ms / 1_000)
  return consumption.calls.map((call) =>
    call.operation === GROWS_WITH_TIME
      ? { ...call, calls: call.calls * longer, units: call.units * longer }
      : call,
  )
}

export function turnsCost(context: Context, load: Load): Line[] {
  const calls = callsOf(context.consumption, load.answerSeconds)
  return [
    ...lambda(context, load, calls),
    ...database(context, load, calls),
    ...queue(context, load, calls),
    ...cache(context, load),
    ...objects(load, calls),
    ...archive(context, load),
    ...secrets(load),
    ...frontDoor(context, load),
    ...logs(context, load),
  ].filter(({ quantity }) => quantity > 0)
}

/** Billed once something is written to them in a month, however often. */
export const metricsCost = ({ consumption }: Context): Line[] => [
  line('CloudWatch', 'custom metrics', consumption.metrics.length, 'customMetric'),
]

/** What one turn's invocations of a function are billed for, in milliseconds. */
export function billedMs(
  { consumption }: Context,
  name: string,
  { answerSeconds }: Load,
  calls: readonly Calls[],
): number {
  const { ms = 0, invocations = 0 } = consumption.functions[name] ?? {}
  const { networkMs, chatWaitsMs, coldStarts } = assumptions
  const starting = invocations * coldStarts.share * coldStarts.ms
  if (name === 'chat') return answerSeconds * 1_000 + (ms - consumption.model.ms) + chatWaitsMs + starting
  const waiting = calls
    .filter((call) => call.function === name)
    .reduce((sum, call) => sum + call.calls * networkMs[call.service], 0)
  return ms + waiting + starting
}

function lambda(context: Context, load: Load, calls: readonly Calls[]): Line[] {
  const { turns } = load
  const used = Object.entries(context.consumption.functions).filter(([, { invocations }]) => invocations > 0)
  const requests = used.reduce((sum, [, { invocations }]) => sum + invocations, 0)
  return [
    line('Lambda', 'requests', turns * requests, 'lambdaRequest'),
    ...used.map(([name]) => {
      const memory = memoryOf(functionNamed(context.templates, name))
      const each = gbSeconds(memory, billedMs(context, name, load, calls))
      return line('Lambda', `${name}, ${memory} MB`, turns * each, 'lambdaGbSecond')
    }),
  ]
}

const unitsOf = (calls: readonly Calls[], service: Calls['service'], where = (_: Calls) => true): number =>
  calls.filter((call) => call.service === service && where(call)).reduce((sum, { units }) => sum + units, 0)

const READS = /^(list|read|find|get|unfinished|lapsed)_/

function database({ templates, consumption }: Context, { turns }: Load, calls: readonly Calls[]): Line[] {
  const { ioBytes } = assumptions
  const { storedBytes, passingBytes, walBytes } = consumption.database
  const writes = unitsOf(calls, 'rds-data', ({ operation }) => !READS.test(operation))
  return [
    line('Aurora', 'Data API', turns * unitsOf(calls, 'rds-data'), 'dataApiRequest'),
    line('Aurora', 'capacity above the least', moreAcuHours(templates, consumption, turns), 'auroraAcuHour'),
    line('Aurora', 'I/O', turns * (writes + walBytes / ioBytes), 'auroraIo'),
    line(
      'Aurora',
      'a month of these turns, stored',
      (turns * (storedBytes + passingBytes / DAYS_A_MONTH)) / GIB,
      'auroraStorageGib',
    ),
  ]
}

/**
 * ACU-hours beyond those of an idle month. While turns come the database has what its processor time asks for, and at
 * least half an ACU; a reader has what the writer has.
 */
export function moreAcuHours(
  templates: readonly Template[],
  consumption: Consumption,
  turns: number,
): number {
  const { minAcu, instances } = capacityOf(templates)
  const { busyHoursAMonth, coresAnAcu, databaseUtilisation, leastAwakeAcu } = assumptions
  const cpuMs = consumption.database.cpuMs
  if (cpuMs === null)
    throw new Error('The measurement holds no processor time of Postgres: measure on Linux.')
  if (turns === 0) return 0
  const coreHours = (turns * cpuMs) / 3_600_000
  const needed = coreHours / busyHoursAMonth / coresAnAcu / databaseUtilisation
  const awake = Math.max(minAcu, leastAwakeAcu, Math.ceil(needed * 2) / 2)
  return (awake - minAcu) * busyHoursAMonth * instances
}

/** What is stored beyond what is billed anyway; appends go on as long as the model writes. */
function cache({ consumption }: Context, { turns, answerSeconds }: Load): Line[] {
  const { cache: used, model } = consumption
  if (used === undefined) return []
  const longer = answerSeconds / (model.ms / 1_000)
  const ecpus = used.commands.reduce(
    (sum, { operation, ecpus: own }) => sum + own * (operation === GROWS_IN_CACHE ? longer : 1),
    0,
  )
  const { leastCacheGb, hoursAMonth } = assumptions
  const beyond = Math.max(0, turns * used.gigabyteHours - leastCacheGb * hoursAMonth)
  return [
    line('ElastiCache', 'commands and scripts', turns * ecpus, 'valkeyEcpu'),
    line('ElastiCache', 'stored, above the least', beyond, 'valkeyGbHour'),
  ]
}

/** Lambda's poller takes and deletes each message by itself where they come one by one, which is the dearest way. */
function queue({ consumption }: Context, { turns }: Load, calls: readonly Calls[]): Line[] {
  return [
    line('SQS', 'sends', turns * unitsOf(calls, 'sqs'), 'sqsRequest'),
    line('SQS', 'receives and deletes', turns * consumption.queueMessages * 2, 'sqsRequest'),
  ]
}

function objects({ turns }: Load, calls: readonly Calls[]): Line[] {
  const reads = unitsOf(calls, 's3', ({ operation }) => operation === 'GET')
  return [
    line('S3', 'reads', turns * reads, 's3Read'),
    line('S3', 'writes and lists', turns * (unitsOf(calls, 's3') - reads), 's3Write'),
  ]
}

const MESSAGES_A_TURN = 2
const UNIT_BYTES = 32 * 1024

/** Its messages leave Postgres after a month: read once, written, read back; then they lie in the bucket. */
function archive({ templates, consumption }: Context, { turns }: Load): Line[] {
  const { messagesASecond, lineBytes, gzipShare } = assumptions.archive
  const messages = turns * MESSAGES_A_TURN
  const bytes = turns * consumption.database.storedBytes + messages * lineBytes
  const ms = (messages / messagesASecond) * 1_000
  const memory = memoryOf(functionNamed(templates, 'archive'))
  return [
    line('Aurora', 'Data API, for the archive', bytes / UNIT_BYTES, 'dataApiRequest'),
    line('Lambda', `archive, ${memory} MB`, gbSeconds(memory, ms), 'lambdaGbSecond'),
    line('S3', 'a month of these turns, archived', (bytes * gzipShare) / GB, 's3Gb'),
  ]
}

function secrets({ turns, answerSeconds }: Load): Line[] {
  const { secrets: count, everySeconds, busyShare } = assumptions.secretReads
  const turnsBetween = Math.max(1, (everySeconds * busyShare) / answerSeconds)
  return [line('Secrets Manager', 'reads', (turns * count) / turnsBetween, 'secretCall')]
}

function frontDoor({ consumption }: Context, { turns }: Load): Line[] {
  const { requests, sentBytes, receivedBytes } = consumption.viewer
  const beyond = Math.max(0, receivedBytes - 6 * 2 ** 20)
  return [
    line('CloudFront', 'requests', turns * (requests + assumptions.pageRequestsATurn), 'cloudfrontRequest'),
    line('CloudFront', 'naming the viewer, at the edge', turns * requests, 'cloudfrontFunction'),
    line('CloudFront', 'to clients', (turns * receivedBytes) / GB, 'cloudfrontGb'),
    line('CloudFront', 'to the functions', (turns * sentBytes) / GB, 'cloudfrontOriginGb'),
    line('Lambda', 'streamed beyond 6 MB', (turns * beyond) / GB, 'lambdaStreamedGb'),
    line('Transfer', 'to the model', (turns * consumption.model.sentBytes) / GB, 'internetGb'),
  ]
}

function logs({ templates, consumption }: Context, { turns }: Load): Line[] {
  const { platformLogBytes, logCompression } = assumptions
  const own = Object.entries(consumption.functions).filter(([, { invocations }]) => invocations > 0)
  const gigabytes = own.map(([name, { invocations, logBytes }]) => ({
    written: (turns * (logBytes + invocations * platformLogBytes)) / GB,
    months: monthsOfLogs(templates, name),
  }))
  const written = gigabytes.reduce((sum, one) => sum + one.written, 0)
  const kept = gigabytes.reduce((sum, one) => sum + one.written * one.months * logCompression, 0)
  return [
    line('CloudWatch', 'logs', written, 'logsGb'),
    line('CloudWatch', 'logs, kept', kept, 'logsStoredGb'),
  ]
}
