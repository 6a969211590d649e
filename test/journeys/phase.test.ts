import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { signals } from '../../lib/observability/signals.ts'
import type { Judged } from '../../ops/phase/judge.ts'
import { type ControlPlanes, startControlPlanes } from '../harness/control-planes/control-planes.ts'
import { synthesise } from '../harness/observability.ts'
import { type Run, runOps, SECRETS, WITH_CREDENTIALS } from '../harness/ops.ts'

const MINUTE_MS = 60_000
const DAY_MS = 24 * 60 * MINUTE_MS
const BEGUN_AT = Date.now()

let planes: ControlPlanes
beforeAll(async () => {
  planes = await startControlPlanes()
})
afterAll(() => planes.close())
beforeEach(() => {
  planes.cloudWatch.clear()
  planes.cloudWatch.pageSize = 100_800
  planes.asked.length = 0
  planes.refuse = () => undefined
})

const variables = () => ({
  ...planes.environment,
  ...WITH_CREDENTIALS,
  METRICS_NAMESPACE: 'Turnkeep/prod',
  DATABASE_CLUSTER_ARN: 'arn:aws:rds:ap-northeast-2:111122223333:cluster:cluster',
  HOT_STORE: 'postgres',
})
const phase = (args: string[] = [], changes: Record<string, string | undefined> = {}): Promise<Run> =>
  runOps(['phase', ...args], { ...variables(), ...changes })

interface Told {
  phase: number
  days: number
  verdict: string
  advice: string[]
  signals: Judged[]
}
async function told(args: string[] = [], changes: Record<string, string> = {}): Promise<Told> {
  const run = await phase(['--json', ...args], changes)
  expect(run, run.err).toMatchObject({ code: 0, err: '' })
  return JSON.parse(run.out)
}
const named = ({ signals: found }: Told, name: string) => found.find((signal) => signal.name === name)

/** Where the functions and AWS put it: said once more, so that a wrong table is found out. */
const METRICS = {
  lookup: { namespace: 'Turnkeep/prod', name: 'SessionLookupTime', dimensions: { service: 'turnkeep-chat' } },
  load: {
    namespace: 'AWS/RDS',
    name: 'ACUUtilization',
    dimensions: { DBClusterIdentifier: 'cluster', Role: 'WRITER' },
  },
  users: { namespace: 'Turnkeep/prod', name: 'ActiveUsers', dimensions: { service: 'turnkeep-persist' } },
  operations: { namespace: 'Turnkeep/prod', name: 'HotStoreTime', dimensions: { service: 'turnkeep-chat' } },
  monthly: { namespace: 'Turnkeep/prod', name: 'MonthlyUsers', dimensions: { service: 'turnkeep-persist' } },
  known: { namespace: 'Turnkeep/prod', name: 'KnownSession', dimensions: { service: 'turnkeep-chat' } },
}

/** The begin of the five minutes in which so long ago was: as it was when the tests began, or two could lie further apart. */
const ago = (minutes: number): number => {
  const five = 5 * MINUTE_MS
  return Math.floor((BEGUN_AT - minutes * MINUTE_MS) / five) * five
}
const put = (metric: keyof typeof METRICS, atMs: number, ...values: number[]) =>
  planes.cloudWatch.put(
    METRICS[metric],
    values.map((value) => ({ atMs, value })),
  )
/** Three periods of five minutes in a row, as the alarm wants them. */
const forQuarterOfAnHour = (metric: keyof typeof METRICS, minutes: number, value: number) => {
  for (const earlier of [0, 5, 10]) put(metric, ago(minutes - earlier), value)
}

describe('whether it is time for phase 2', () => {
  test('is not known where nothing was measured, and no figure is made up', async () => {
    const { verdict, signals: found } = await told()
    expect(verdict).toBe('unknown')
    expect(found.map(({ name, most, reached }) => [name, most, reached])).toEqual(
      Object.keys(signals).map((name) => [name, null, false]),
    )
    const { out } = await phase()
    expect(out).toContain('Nobody can tell: nothing was measured.')
    expect(out.match(/nothing measured/g)).toHaveLength(Object.keys(signals).length)
  })

  test('is said with figures: two signals and a cache that would help', async () => {
    forQuarterOfAnHour('lookup', 120, 61.25)
    forQuarterOfAnHour('load', 60, 91)
    put('known', ago(5), 1, 1, 1, 0)
    const found = await told()
    expect(found).toMatchObject({ verdict: 'yes', phase: 1, days: 1 })
    expect(named(found, 'slow-session-lookup')).toMatchObject({
      limit: 50,
      most: 61.25,
      unit: 'ms',
      measured: 3,
      above: 3,
      reached: true,
    })
    expect(named(found, 'expected-hit-ratio')).toMatchObject({
      limit: 70,
      most: 75,
      unit: '%',
      reached: true,
    })
    const { out } = await phase()
    expect(out).toMatch(/^Turnkeep\/prod in ap-northeast-2, phase 1, the last 24 hours\n/)
    expect(out).toMatch(/^database-load +80 % +91 % .* 3 of 3 +yes$/m)
    expect(out).toContain('2 of 5 signals that press were reached (slow-session-lookup, database-load).')
    expect(out).toContain('A cache would hold 75 % of the sessions')
    expect(out).toContain('Nothing was measured of concurrent-users, session-operations, monthly-users.')
    expect(out).toContain('Switching: first a cache beside phase 1')
    expect((await phase([], { VALKEY_CACHE_NAME: 'c' })).out).toContain('the cache is there already')
  })

  test('a single signal is a busy day', async () => {
    put('users', ago(30), 201)
    const found = await told()
    expect(found.verdict).toBe('watch')
    expect(named(found, 'concurrent-users')).toMatchObject({ reached: true, most: 201, above: 1 })
    expect(found.advice.join('\n')).toMatch(/One is a busy day.*\n.*\n?.*--days 14/)
  })

  test('two signals are not enough where a cache would hold too little', async () => {
    put('users', ago(30), 500)
    put('monthly', ago(30), 2_000)
    put('known', ago(30), 1, 0, 0, 0)
    const { verdict, advice } = await told()
    expect(verdict).toBe('watch')
    expect(advice[0]).toContain('a cache would help little. A cache would hold 25 %')
  })

  test('a limit that is touched, or passed for too short, is not reached', async () => {
    forQuarterOfAnHour('lookup', 240, 50) // at the limit
    put('load', ago(60), 99)
    put('load', ago(55), 99)
    put('load', ago(45), 99) // one missing in between ends the row
    const found = await told()
    expect(found.verdict).toBe('no')
    expect(named(found, 'database-load')).toMatchObject({ above: 3, measured: 3, reached: false })
    expect(named(found, 'slow-session-lookup')).toMatchObject({ above: 0, reached: false })
    expect(found.advice[0]).toBe('Not yet: none of the 5 signals that press was reached.')
  })

  test('what was before the window is left out, and --days reaches it', async () => {
    forQuarterOfAnHour('lookup', 5 * 24 * 60, 80)
    expect((await told()).verdict).toBe('unknown')
    const longer = await told(['--days', '14'])
    expect(named(longer, 'slow-session-lookup')).toMatchObject({ reached: true, most: 80 })
    // CloudWatch keeps single minutes no longer.
    const { StartTime = 0, EndTime = Infinity } = (planes.asked.at(-1)?.input ?? {}) as Record<string, number>
    expect((EndTime - StartTime) * 1_000).toBeLessThanOrEqual(15 * DAY_MS)
  })

  test('session operations count by the second', async () => {
    const now = Math.floor(Date.now() / MINUTE_MS)
    const calls = (minutes: number, count: number) =>
      put('operations', (now - minutes) * MINUTE_MS, ...new Array(count).fill(3))
    for (const minutes of [60, 59, 58, 57]) calls(minutes, 6_020) // one minute too few
    for (const minutes of [40, 39, 38, 37, 36]) calls(minutes, 5_980)
    expect(named(await told(), 'session-operations')).toMatchObject({ reached: false, above: 4, measured: 9 })
    calls(56, 7_200)
    expect(named(await told(), 'session-operations')).toMatchObject({
      limit: 100,
      most: 120,
      unit: 'a second',
      above: 5,
      measured: 10,
      reached: true,
    })
  })

  test('in phase 2 is about staying there', async () => {
    put('users', ago(30), 500)
    put('monthly', ago(30), 2_000)
    const { advice, phase: on } = await told([], { HOT_STORE: 'valkey', VALKEY_CACHE_NAME: 'c' })
    expect(on).toBe(2)
    expect(advice[0]).toContain('Phase 2 is on, and there is reason for it')
    expect(advice.at(-1)).toContain('Going back')
  })

  test('is read from many pages as from one', async () => {
    for (let minutes = 30; minutes < 330; minutes += 5) put('lookup', ago(minutes), 10 + minutes / 100)
    forQuarterOfAnHour('load', 60, 91)
    const whole = await told()
    planes.cloudWatch.pageSize = 20
    planes.asked.length = 0
    expect((await told()).signals).toEqual(whole.signals)
    expect(planes.asked.length).toBeGreaterThan(2)
  })
})

test('exactly what the alarms watch is asked for: metric, dimensions, statistic, period', async () => {
  await told()
  const [{ input }] = planes.asked as [(typeof planes.asked)[number]]
  const { MetricDataQueries: queries } = input as { MetricDataQueries: { MetricStat?: Stat }[] }
  const { alarms } = synthesise('prod')
  const ofSignals = alarms.filter(({ AlarmDescription }) =>
    Object.keys(signals).some((name) => String(AlarmDescription).includes(`#${name} `)),
  ) as unknown as Watching[]
  expect(ofSignals).toHaveLength(Object.keys(signals).length)
  const watched = ofSignals.flatMap(({ Metrics, ...one }) =>
    Metrics ? Metrics.flatMap(({ MetricStat }) => MetricStat ?? []) : statOf(one),
  )
  const asked = queries.flatMap(({ MetricStat }) => MetricStat ?? [])
  expect(asked).toEqual(expect.arrayContaining(watched))
  expect(asked).toHaveLength(watched.length)
  expect(planes.asked.map(({ service, action, region }) => [service, action, region])).toEqual([
    ['monitoring', 'GetMetricData', 'ap-northeast-2'],
  ])
})
interface Stat {
  Metric: object
  Period: number
  Stat: string
}
/** An alarm on one metric has it spread out; one on an expression lists what that is made of. */
interface Watching {
  Metrics?: { MetricStat?: Stat }[]
  Namespace: string
  MetricName: string
  Dimensions: object[]
  Period: number
  Statistic?: string
  ExtendedStatistic?: string
}
const statOf = ({
  Namespace,
  MetricName,
  Dimensions,
  Period,
  ...alarm
}: Omit<Watching, 'Metrics'>): Stat => ({
  Metric: { Namespace, MetricName, Dimensions },
  Period,
  Stat: alarm.Statistic ?? alarm.ExtendedStatistic ?? '',
})

describe('CloudWatch', () => {
  const refusing = (code: string, message: string, status = 400, times = Infinity) => {
    let left = times
    planes.refuse = () => (left-- > 0 ? { status, code, message } : undefined)
  }

  test('that throttles for a moment is asked again', async () => {
    put('users', ago(30), 3)
    refusing('Throttling', 'Rate exceeded', 400, 2)
    expect((await told()).verdict).toBe('no')
    expect(planes.asked).toHaveLength(3)
  })

  test.each([
    ['Throttling', 'Rate exceeded', /^CloudWatch cannot be asked: Throttling\w*: Rate exceeded\n$/],
    [
      'AccessDeniedException',
      'User: arn:aws:iam::111122223333:user/op is not authorized to perform: cloudwatch:GetMetricData',
      /^CloudWatch cannot be asked: AccessDenied\w*: User: .* is not authorized to perform: cloudwatch:GetMetricData\n$/,
    ],
    [
      'SignatureDoesNotMatch',
      `The request signature we calculated does not match.\n\nThe Canonical String should have been\nx-amz-security-token:${SECRETS.AWS_SESSION_TOKEN}`,
      /^CloudWatch cannot be asked: SignatureDoesNotMatch: The request signature we calculated does not match.\n$/,
    ],
  ])('that says %s is quoted in one line, and it ends with 1', async (code, message, line) => {
    refusing(code, message)
    const run = await phase()
    expect(run).toMatchObject({ code: 1, out: '' })
    expect(run.err).toMatch(line)
  })

  test('that nobody answers for is said to be away', async () => {
    const run = await phase([], { AWS_ENDPOINT_URL_CLOUDWATCH: 'http://127.0.0.1:9' })
    expect(run).toMatchObject({
      code: 1,
      err: 'CloudWatch cannot be asked: nothing answers (ECONNREFUSED)\n',
    })
  })
})

describe('a wrong call', () => {
  test.each([
    [['--days', '0'], '--days must be a whole number, 1 to 14.'],
    [['--days', '15'], '--days must be'],
    [['--days', '1.5'], '--days must be'],
    [['--days', '하루'], '--days must be'],
    [['--tomorrow'], "Unknown option '--tomorrow'"],
    [['now'], 'Unexpected argument'],
  ])('%j ends with 2 and says how it is called', async (args, problem) => {
    const { code, err } = await phase(args)
    expect([code, err.includes(problem), err.includes('npm run ops -- phase')]).toEqual([2, true, true])
  })

  test.each<[string, Record<string, string | undefined>, RegExp]>([
    [
      'half an environment',
      { HOT_STORE: undefined, METRICS_NAMESPACE: '' },
      /^METRICS_NAMESPACE, HOT_STORE: not set\. .*runbook/,
    ],
    [
      'another region',
      { AWS_REGION: 'eu-west-1' },
      /^Which region\? DATABASE_CLUSTER_ARN is in ap-northeast-2, AWS_REGION is in eu-west-1\.$/,
    ],
    [
      'no cluster',
      { DATABASE_CLUSTER_ARN: 'cluster' },
      /^DATABASE_CLUSTER_ARN is not the ARN of a cluster\.$/,
    ],
    [
      'no region that there is',
      { DATABASE_CLUSTER_ARN: 'arn:aws:rds:mars:111122223333:cluster:c' },
      /^mars is not a region\.$/,
    ],
    [
      'no credentials',
      { AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined },
      /^No credentials for AWS: CredentialsProviderError: /,
    ],
  ])('for %s ends with 2 and one line', async (_, changes, line) => {
    const { code, out, err } = await phase([], changes)
    expect([code, out, err.split('\n').length]).toEqual([2, '', 2])
    expect(err.trimEnd()).toMatch(line)
    expect(planes.asked).toEqual([])
  })

  test('without any environment ends with 2 and tells where to read how one is named', async () => {
    const { code, err } = await runOps(['phase'], {})
    expect([code, err.split('\n').length]).toEqual([2, 2])
    expect(err).toContain('Which environment? None is named, and no Turnkeep runs on this machine')
  })
})

test('help is given', async () => {
  expect(await phase(['--help'])).toMatchObject({ code: 0, out: expect.stringContaining('--days <n>') })
})
