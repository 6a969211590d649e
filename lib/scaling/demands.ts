/** What turns ask of each limit, service by service. A limit that is set here stands before the one that AWS sets. */
import { assumptions as costs } from '../cost/assumptions.ts'
import type { Calls } from '../cost/consumption.ts'
import { amount } from '../cost/table.ts'
import { billedMs, callsOf } from '../cost/turns.ts'
import { resources } from '../resources.ts'
import { assumptions } from './assumptions.ts'
import { type LimitName, limits, movesOf } from './limits.ts'
import { type Context, type Demand, type Load, turnsAMonth, turnsASecond } from './load.ts'

/** What all demands are made of. */
interface Measured extends Context {
  load: Load
  /** At the peak. */
  turns: number
  calls: Calls[]
  /** How long all invocations of one turn take together. */
  secondsATurn: number
}

export function demands(context: Context, load: Load): Demand[] {
  const { consumption } = context
  const calls = callsOf(consumption, load.answerSeconds)
  const perTurn = { ...load, turns: 1 }
  const ms = Object.entries(consumption.functions)
    .filter(([, { invocations }]) => invocations > 0)
    .reduce((sum, [name]) => sum + billedMs(context, name, perTurn, calls), 0)
  const measured = { ...context, load, calls, turns: turnsASecond(load), secondsATurn: ms / 1_000 }
  return [
    ...functions(measured),
    ...queue(measured),
    ...database(measured),
    ...cache(measured),
    ...edge(measured),
    ...others(measured),
  ]
}

/** Of a limit of AWS that grows with the turns. */
const published = (
  { turns, settings }: Measured,
  what: string,
  name: LimitName,
  aTurnASecond: number,
): Demand => ({
  what,
  recheck: false,
  ...limits[name],
  moves: movesOf(name, settings.phase),
  aTurnASecond,
  asked: turns * aTurnASecond,
})

/** Of each call or answer, however many there are. */
const ofEach = ({ settings }: Measured, what: string, name: LimitName, asked: number): Demand => ({
  what,
  recheck: false,
  ...limits[name],
  moves: movesOf(name, settings.phase),
  aTurnASecond: undefined,
  asked,
})

const SETTINGS = 'lib/settings.ts'
const RESOURCES = 'lib/resources.ts'

/** Of a limit that this repository sets. */
const ours = (
  { turns }: Measured,
  demand: Pick<Demand, 'what' | 'value' | 'unit' | 'source' | 'moves'>,
  aTurnASecond: number,
): Demand => ({ ...demand, recheck: false, aTurnASecond, asked: turns * aTurnASecond })

/** A setting, as long as it is below what AWS allows; then whatever moves that. */
const raised = ({ settings }: Measured, setting: string, value: number, name: LimitName, or = ''): string =>
  value < limits[name].value
    ? `setting: ${setting}, to ${amount(limits[name].value)}${or}`
    : movesOf(name, settings.phase)

function functions(measured: Measured): Demand[] {
  const { consumption, load, secondsATurn } = measured
  // Of the rise to the peak from the mean, as if it came at once.
  const risen = secondsATurn * (1 - 1 / load.peak)
  return [
    published(measured, 'Lambda: invocations at once', 'lambdaConcurrency', secondsATurn),
    ...(risen > 0
      ? [published(measured, 'Lambda: a rise to the peak within ten seconds', 'lambdaScaling', risen)]
      : []),
    published(measured, 'Lambda: requests', 'functionUrlRequests', consumption.viewer.requests),
    ofEach(measured, 'Lambda: an answer', 'streamedResponse', consumption.viewer.receivedBytes),
  ]
}

function queue(measured: Measured): Demand[] {
  const { consumption } = measured
  const [mapping] = resources.eventSources.filter((source) => source.function === 'persist')
  if (mapping === undefined) throw new Error('Nothing empties the queue.')
  const { savedASecond, inFlightSeconds } = assumptions
  const messages = consumption.queueMessages
  return [
    ours(
      measured,
      {
        what: 'saving: runs of persist at once',
        value: mapping.maxConcurrency,
        unit: 'batches at once',
        source: RESOURCES,
        moves:
          'setting: maxConcurrency of the turns queue in lib/resources.ts (until then turns wait in the queue, and none is lost)',
      },
      messages / savedASecond,
    ),
    published(measured, 'saving: what Lambda polls at once', 'pollerConcurrency', messages / savedASecond),
    published(measured, 'SQS: messages in flight', 'queueInFlight', messages * inFlightSeconds),
  ]
}

function database(measured: Measured): Demand[] {
  const { consumption, settings, calls, load } = measured
  const { cpuMs, storedBytes } = consumption.database
  if (cpuMs === null)
    throw new Error('The measurement holds no processor time of Postgres: measure on Linux.')
  const capacity = cpuMs / 1_000 / costs.coresAnAcu / costs.databaseUtilisation
  const dataApi = calls.filter(({ service }) => service === 'rds-data')
  const largest = (key: 'requestBytes' | 'responseBytes') =>
    Math.max(...dataApi.map((call) => call[key] / call.calls))
  const statements = dataApi.reduce((sum, call) => sum + call.calls, 0)
  const { maxAcu } = settings.database
  const { acuBytes, connectionBytes, statementMs, tenantTurnsASecond } = assumptions
  const most = limits.databaseConnections.value
  const connections = Math.min(most, Math.floor((maxAcu * acuBytes) / connectionBytes))
  /** From which Aurora allows no more connections, however much memory it has; a setting comes in halves. */
  const enoughAcu = Math.ceil((2 * most * connectionBytes) / acuBytes) / 2
  const orPhaseTwo = settings.phase === 1 ? '; or phase 2' : ''
  const held = (statements * statementMs) / 1_000
  const stored = turnsAMonth({ ...load, turnsAnHour: 1 }) * storedBytes
  return [
    ours(
      measured,
      {
        what: 'Aurora: capacity that is allowed',
        value: maxAcu,
        unit: 'ACU of the writer',
        source: SETTINGS,
        moves: raised(measured, 'database.maxAcu', maxAcu, 'databaseCapacity', orPhaseTwo),
      },
      capacity,
    ),
    published(measured, 'Aurora: capacity that there is', 'databaseCapacity', capacity),
    {
      ...published(measured, 'Aurora: connections of the Data API', 'databaseConnections', held),
      value: connections,
      ...(connections < most && { moves: `setting: database.maxAcu, to ${enoughAcu}${orPhaseTwo}` }),
    },
    ofEach(measured, 'Data API: the largest request', 'dataApiRequestBytes', largest('requestBytes')),
    ofEach(measured, 'Data API: the largest response', 'dataApiResponseBytes', largest('responseBytes')),
    {
      what: 'Aurora: a month of messages, until they are archived',
      recheck: false,
      ...limits.databaseStorage,
      moves: movesOf('databaseStorage', settings.phase),
      aTurnASecond: (stored * 3_600) / load.peak,
      asked: load.turnsAnHour * stored,
    },
    ...(settings.phase === 1
      ? [
          ours(
            measured,
            {
              what: 'Postgres: limits of one tenant, if all turns are its own',
              value: tenantTurnsASecond,
              unit: 'turns a second',
              source: 'docs/limits.md',
              moves: 'phase 2',
            },
            1,
          ),
        ]
      : []),
  ]
}

/** One for each piece of the answer, while none is under way. */
const GROWS_IN_CACHE = 'append'
const KIB = 1_024

function cache(measured: Measured): Demand[] {
  const { consumption, settings, load } = measured
  const used = consumption.cache
  if (used === undefined || settings.cache === undefined) return []
  const longer = load.answerSeconds / (consumption.model.ms / 1_000)
  const units = used.commands.map(({ operation, ofTenant, ecpus }) => ({
    ofTenant,
    ecpus: ecpus * (operation === GROWS_IN_CACHE ? longer : 1),
  }))
  const sum = (some: typeof units) => some.reduce((all, { ecpus }) => all + ecpus, 0)
  const withoutTime = used.commands.reduce((all, { operation, calls, bytes }) => {
    const own = Math.max(calls, bytes / KIB)
    return all + own * (operation === GROWS_IN_CACHE ? longer : 1)
  }, 0)
  const { maxEcpuPerSecond, maxGigabytes } = settings.cache
  // What a turn leaves stays for hours, so it is the mean that fills it.
  const gigabytes = (used.gigabyteHours * 3_600) / load.peak
  const allowed = {
    value: maxEcpuPerSecond,
    unit: 'ECPU a second',
    source: SETTINGS,
    moves: raised(measured, 'cache.maxEcpuPerSecond', maxEcpuPerSecond, 'cacheCommands'),
  }
  return [
    ours(measured, { ...allowed, what: 'ElastiCache: commands that are allowed' }, sum(units)),
    // How a script's time is counted is not published.
    ours(
      measured,
      { ...allowed, what: 'ElastiCache: the same, if scripts count by their bytes alone' },
      withoutTime,
    ),
    published(measured, 'ElastiCache: commands that there are', 'cacheCommands', sum(units)),
    published(
      measured,
      'ElastiCache: the slot of one tenant, if all turns are its own',
      'cacheSlot',
      sum(units.filter(({ ofTenant }) => ofTenant)),
    ),
    ours(
      measured,
      {
        what: 'ElastiCache: memory that is allowed',
        value: maxGigabytes,
        unit: 'GB',
        source: SETTINGS,
        moves: raised(measured, 'cache.maxGigabytes', maxGigabytes, 'cacheStorage'),
      },
      gigabytes,
    ),
    published(measured, 'ElastiCache: memory that there is', 'cacheStorage', gigabytes),
  ]
}

const BITS = 8

function edge(measured: Measured): Demand[] {
  const { requests, receivedBytes } = measured.consumption.viewer
  return [
    published(measured, 'CloudFront: requests', 'cdnRequests', requests + costs.pageRequestsATurn),
    published(measured, 'CloudFront: bits to clients', 'cdnBits', receivedBytes * BITS),
  ]
}

function others(measured: Measured): Demand[] {
  const { consumption, secondsATurn, calls } = measured
  const logins = calls
    .filter(({ service }) => service === 'rds-data')
    .reduce((sum, one) => sum + one.calls, 0)
  const invocations = Object.values(consumption.functions).reduce((sum, one) => sum + one.invocations, 0)
  const { secrets, everySeconds } = costs.secretReads
  // Each environment when it starts and every so often, as long as it is there.
  const reads = secrets * (secondsATurn / everySeconds + invocations * costs.coldStarts.share)
  return [
    published(measured, 'CloudWatch: calls for logs, one an invocation', 'logCalls', invocations),
    published(measured, 'Secrets Manager: reads', 'secretReads', reads),
    // Whether they count is not documented.
    published(
      measured,
      'Secrets Manager: the same, if each call of the Data API reads its login',
      'secretReads',
      reads + logins,
    ),
    published(measured, 'S3: the spool, while the queue refuses', 'bucketWrites', assumptions.spooledATurn),
  ]
}
