import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type ControlPlanes, startControlPlanes } from '../harness/control-planes/control-planes.ts'
import { type Run, runOps, WITH_CREDENTIALS } from '../harness/ops.ts'

const CACHE = 'turnkeep-prod-data-cache'

let planes: ControlPlanes
beforeAll(async () => {
  planes = await startControlPlanes()
})
afterAll(() => planes.close())
beforeEach(() => {
  const { caches, snapshots } = planes.elastiCache
  caches.clear()
  snapshots.clear()
  caches.set(CACHE, { status: 'available', maxGigabytes: 1, maxEcpuPerSecond: 1_000, snapshotDays: 1 })
  planes.asked.length = 0
  planes.refuse = () => undefined
})

const variables = () => ({
  ...planes.environment,
  ...WITH_CREDENTIALS,
  AWS_REGION: 'eu-west-1',
  VALKEY_CACHE_NAME: CACHE,
})
const cache = (args: string[], changes: Record<string, string | undefined> = {}): Promise<Run> =>
  runOps(['cache', ...args], { ...variables(), ...changes })

describe('a snapshot', () => {
  test('is taken under a name of its own, which is printed with its state', async () => {
    const run = await cache(['snapshot'])
    expect(run).toMatchObject({ code: 0, err: '' })
    expect(run.out).toMatch(new RegExp(`^${CACHE}-\\d{8}-\\d{6} {2}creating\\n$`))
    expect([...planes.elastiCache.snapshots]).toMatchObject([
      [run.out.split(' ')[0], { cache: CACHE, type: 'manual' }],
    ])
    expect(planes.asked).toMatchObject([{ service: 'elasticache', region: 'eu-west-1' }])
  })

  test('is taken under the name that is given, once', async () => {
    const taken = await cache(['snapshot', '--name', 'Before-The-Move', '--json'])
    expect(JSON.parse(taken.out)).toMatchObject({
      name: 'before-the-move',
      state: 'creating',
      type: 'manual',
    })
    expect(await cache(['snapshot', '--name', 'before-the-move'])).toMatchObject({
      code: 1,
      out: '',
      err: 'There is a snapshot of that name already.\n',
    })
  })

  test('of a cache that is being made is refused, and of one that is not there', async () => {
    planes.elastiCache.caches.set(CACHE, {
      status: 'creating',
      maxGigabytes: 1,
      maxEcpuPerSecond: 1_000,
      snapshotDays: 1,
    })
    const early = await cache(['snapshot'])
    expect(early).toMatchObject({ code: 1, out: '' })
    expect(early.err).toContain(`${CACHE} is not available yet`)
    expect(await cache(['snapshot'], { VALKEY_CACHE_NAME: 'other' })).toMatchObject({
      code: 1,
      err: 'There is no cache other.\n',
    })
    expect(planes.elastiCache.snapshots.size).toBe(0)
  })

  test('that ElastiCache refuses otherwise says why, in one line', async () => {
    planes.refuse = () => ({
      status: 400,
      code: 'ServerlessCacheSnapshotQuotaExceededFault',
      message: 'The number of snapshots exceeds the quota.',
    })
    expect(await cache(['snapshot'])).toMatchObject({
      code: 1,
      err: 'ServerlessCacheSnapshotQuotaExceededFault: The number of snapshots exceeds the quota.\n',
    })
    planes.refuse = () => ({
      status: 403,
      code: 'AccessDenied',
      message: 'not authorized to perform: elasticache:CreateServerlessCacheSnapshot',
    })
    expect((await cache(['snapshot'])).err).toMatch(
      /^AccessDenied: not authorized to perform: elasticache:Create/,
    )
  })
})

describe('snapshots', () => {
  test('are listed newest first, more than a page of them, and only of this cache', async () => {
    for (let day = 1; day <= 60; day += 1)
      planes.elastiCache.snapshots.set(`day-${day}`, {
        cache: day === 7 ? 'other' : CACHE,
        status: 'available',
        type: 'automated',
        at: new Date(Date.UTC(2026, 8, day, 3)),
        expiresAt: new Date(Date.UTC(2026, 8, day + 1, 3)),
        bytes: 123_456_789,
      })
    const { code, out } = await cache(['snapshots'])
    expect(code).toBe(0)
    const [head, first, ...more] = out.trimEnd().split('\n')
    expect(head).toMatch(/^name +state +type +taken +expires +size$/)
    expect(first).toMatch(
      /^day-60 +available +automated +2026-10-30 03:00:00Z +2026-10-31 03:00:00Z +123 MB$/,
    )
    expect(more).toHaveLength(58)
    const listed: { name: string }[] = JSON.parse((await cache(['snapshots', '--json'])).out)
    expect(listed.map(({ name }) => name)).not.toContain('day-7')
  })

  test('of which there are none are said to be none', async () => {
    expect(await cache(['snapshots'])).toMatchObject({
      code: 0,
      out: `There are no snapshots of ${CACHE}.\n`,
    })
    expect((await cache(['snapshots', '--json'])).out).toBe('[]\n')
  })
})

describe('a wrong call', () => {
  test.each([
    [[], 'Which command?'],
    [['empty'], 'There is no command empty.'],
    [['snapshot', '--name', '백업'], '--name must be letters, digits and hyphens'],
    [['snapshot', '--name', ''], '--name must be'],
    [['snapshot', '--name', 'x'.repeat(256)], '--name must be'],
    [['snapshots', '--name', 'x'], 'snapshots takes no --name.'],
    [['snapshot', 'now'], 'Unexpected argument'],
  ])('%j ends with 2 and says how it is called', async (args, problem) => {
    const { code, err } = await cache(args)
    expect([code, err.split('\n')[0]?.includes(problem), err.includes('npm run ops -- cache')]).toEqual([
      2,
      true,
      true,
    ])
    expect(planes.asked).toEqual([])
  })

  test.each<[string, Record<string, string | undefined>, RegExp]>([
    [
      'an environment without a cache',
      { VALKEY_CACHE_NAME: undefined, METRICS_NAMESPACE: 'Turnkeep/dev' },
      /^This environment has no cache: /,
    ],
    ['no region', { AWS_REGION: undefined }, /^AWS_REGION: not set\. /],
    ['a region that there is not', { AWS_REGION: 'the moon' }, /^the moon is not a region\.$/],
    ['no environment', { VALKEY_CACHE_NAME: undefined }, /^Which environment\? /],
    [
      'no credentials',
      { AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined },
      /^No credentials for AWS: CredentialsProviderError: /,
    ],
  ])('for %s ends with 2 and one line', async (_, changes, line) => {
    const { code, out, err } = await cache(['snapshot'], changes)
    expect([code, out, err.split('\n').length]).toEqual([2, '', 2])
    expect(err.trimEnd()).toMatch(line)
    expect(planes.elastiCache.snapshots.size).toBe(0)
  })
})

test('help is given', async () => {
  expect(await cache(['--help'])).toMatchObject({ code: 0, out: expect.stringContaining('snapshot [--name') })
})
