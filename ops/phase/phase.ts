import { parseArgs } from 'node:util'
import { signals } from '../../lib/observability/signals.ts'
import { type Environment, findEnvironment, type Name } from '../environment.ts'
import { Failure, lacksCredentials, reasonOf, UsageError, WrongEnvironment } from '../failures.ts'
import type { Variables } from '../local.ts'
import { type Point, readSeries } from '../metrics.ts'
import { count, printable, rounded, table, time } from '../text.ts'
import { type Judged, judge, weigh } from './judge.ts'
import { adviceOf } from './words.ts'

export const HELP = `npm run ops -- phase [--days <n>] [--json]

Whether it is time for phase 2, where Valkey serves sessions, history and reply logs: the signals of docs/runbook.md, by
CloudWatch's figures.

  --days <n>  of how many days, 1 to 14 (1)
  --json      for machines
  --local     this machine's, which keeps no figures

Which: the variables of docs/runbook.md. Ends with 0 whatever the figures say, with 1 when they could not be asked, with 2
when called wrongly or where there are none.`

const OPTIONS = { days: { type: 'string' }, json: { type: 'boolean' }, local: { type: 'boolean' } } as const
const NEEDS: readonly Name[] = ['METRICS_NAMESPACE', 'DATABASE_CLUSTER_ARN', 'HOT_STORE']

const DAY_MS = 24 * 3_600_000
/** CloudWatch keeps single minutes for 15 days, and a window begins at the start of a day. */
const MOST_DAYS = 14

/** Returns the exit code. */
export async function phase(args: string[], variables: Variables, signal: AbortSignal): Promise<number> {
  if (args.some((argument) => argument === '--help' || argument === '-h')) {
    console.log(HELP)
    return 0
  }
  const { days, json, local } = parse(args)
  const environment = findEnvironment({ local, needs: NEEDS }, variables)
  const on = environment.values.HOT_STORE === 'valkey' ? 2 : 1
  const points = await ask(environment, on, days, signal)
  const judged = Object.keys(signals).map((name) => judge(name, points[name] ?? []))
  const weighed = weigh(judged)
  const hasCache = environment.values.VALKEY_CACHE_NAME !== undefined
  const advice = adviceOf(weighed, { on, days, hasCache })
  if (json) {
    const { verdict } = weighed
    console.log(
      JSON.stringify(
        { environment: environment.title, phase: on, days, verdict, advice, signals: judged },
        null,
        2,
      ),
    )
    return 0
  }
  const head = `${environment.title}, phase ${on}, the last ${days === 1 ? '24 hours' : count(days, 'day')}`
  console.log(`${printable(head)}\n\n${table(judged.map(toRow))}\n\n${advice.join('\n')}`)
  return 0
}

function parse(args: string[]) {
  const { days = '1', json = false, local = false } = valuesOf(args)
  if (!/^\d+$/.test(days) || Number(days) < 1 || Number(days) > MOST_DAYS)
    throw new UsageError(`--days must be a whole number, 1 to ${MOST_DAYS}.`)
  return { days: Number(days), json, local }
}

function valuesOf(args: string[]) {
  try {
    return parseArgs({ args, options: OPTIONS }).values
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

async function ask(
  environment: Environment,
  on: 1 | 2,
  days: number,
  signal: AbortSignal,
): Promise<Record<string, Point[]>> {
  const now = Date.now()
  const since = now - days * DAY_MS
  try {
    // A period is kept under the time when it begins, that of a day under midnight: from there, or it would be left out.
    const window = { from: new Date(Math.floor(since / DAY_MS) * DAY_MS), to: new Date(now) }
    const found = await readSeries(environment, signals, window, signal)
    if (found === undefined)
      throw new WrongEnvironment(
        `The Turnkeep on this machine keeps no figures: there is no CloudWatch here. Phase ${on} is on.`,
      )
    const isWithin = (name: string) => (point: Point) =>
      point.at + (signals[name]?.periodSeconds ?? 0) * 1_000 > since
    return Object.fromEntries(
      Object.entries(found).map(([name, points]) => [name, points.filter(isWithin(name))]),
    )
  } catch (error) {
    if (signal.aborted || lacksCredentials(error) || error instanceof WrongEnvironment) throw error
    throw new Failure(`CloudWatch cannot be asked: ${reasonOf(error)}`, { cause: error })
  }
}

function toRow({ name, limit, most, mostAt, latest, unit, above, measured, reached }: Judged) {
  const figure = (value: number | null): string => (value === null ? '' : `${rounded(value)} ${unit}`)
  return {
    signal: name,
    limit: figure(limit),
    most: figure(most),
    at: mostAt === null ? '' : time(Date.parse(mostAt)),
    latest: figure(latest),
    'periods above': measured === 0 ? '' : `${above} of ${measured}`,
    reached: measured === 0 ? 'nothing measured' : reached ? 'yes' : 'no',
  }
}
