/** The rate limits of phase 1 in the database; what every limiter does, see test/contract/limiter.test.ts. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { LimitCheck, LimitState } from '../../lambdas/protocol/limits.ts'
import { openPostgresLimiter } from '../../lambdas/services/postgres-limiter.ts'
import { onBothEngines, startTestDatabase, type TestDatabase } from '../harness/database.ts'

const TENANT = { companyId: 'acme', platform: 'web' }
/** Longer than any test takes: nothing is forgotten in between. */
const LONG_SECONDS = 3_600

const user = (key: string, limit: number, windowSeconds = LONG_SECONDS): LimitCheck => ({
  kind: 'user',
  tenant: TENANT,
  key,
  limit,
  windowSeconds,
})
const times = <Result>(count: number, work: (index: number) => Promise<Result>): Promise<Result[]> =>
  Promise.all(Array.from({ length: count }, (_, index) => work(index)))

onBothEngines('a rate limit', (engine) => {
  let database: TestDatabase
  beforeAll(async () => {
    database = await startTestDatabase(engine, 'limits')
  })
  afterAll(() => database.close())

  const admit = (...checks: LimitCheck[]): Promise<LimitState[]> =>
    openPostgresLimiter(database.app).admit(checks)
  const admitted = async (count: number, check: LimitCheck): Promise<number> =>
    (await times(count, () => admit(check))).flat().filter(({ allowed }) => allowed).length

  test('of addresses stands where no tenant looks, also one that was not set', async () => {
    await admit({ kind: 'address', key: 'hidden', limit: 20, windowSeconds: LONG_SECONDS })
    for (const companyId of ['acme', '']) {
      const rows = await database.inTenant(companyId, `select 1 from rate_limits where kind = 'address'`)
      expect(rows).toEqual([])
    }
    expect(await database.app.execute('select count(*)::int as n from rate_limits')).toEqual([{ n: 0 }])
  })

  test('forgives a clock that was set back', async () => {
    expect(await admitted(3, user('future', 3, 1))).toBe(3)
    await database.inTenant(
      'acme',
      `update rate_limits set last_at = array[clock_timestamp() + interval '1 day'] where key = 'future'`,
    )
    expect(await admit(user('future', 5, 1))).toMatchObject([{ allowed: true, remaining: 1 }])
    await sleep(1_100)
    expect(await admit(user('future', 5, 1))).toMatchObject([{ allowed: true, remaining: 4 }])
  })

  test('keeps a few groups for a key, however many come, and removes keys that count no more', async () => {
    for (let round = 0; round < 30; round += 1) {
      await admitted(5, user('steady', 10_000, 1))
      await sleep(40)
    }
    const [row] = await database.inTenant<{ groups: number }>(
      'acme',
      `select cardinality(last_at) as groups from rate_limits where key = 'steady'`,
    )
    expect(row?.groups).toBeLessThanOrEqual(22)

    await times(30, (index) => admit(user(`passing ${index}`, 5, 0.05)))
    await sleep(200)
    await times(6, (index) => admit(user(`newcomer ${index}`, 5)))
    const left = await database.inTenant('acme', `select key from rate_limits where key like 'passing%'`)
    expect(left.length).toBe(0)
  })

  test('of a new key removes ten that count no more, the oldest, and touches no other', async () => {
    await database.inTenant(
      'acme',
      `insert into rate_limits (company_id, platform, kind, key, kept_until)
       select 'acme', 'web', 'user', 'old ' || (100 + i), now() - make_interval(secs => 3600 - i) from generate_series(1, 30) i`,
    )
    await admit(user('somebody new', 5))
    const left = await database.inTenant<{ key: string }>(
      'acme',
      `select key from rate_limits where key like 'old %' order by key`,
    )
    expect(left.map(({ key }) => key)).toEqual(Array.from({ length: 20 }, (_, index) => `old ${111 + index}`))
  })

  test('is no deadlock for anybody, in whatever order the checks stand', async () => {
    const all: LimitCheck = { ...user('', 1_000), kind: 'tenant' }
    const checks = [user('x', 1_000), user('y', 1_000), all]
    const orders = [checks, [...checks].reverse(), [checks[1], checks[2], checks[0]] as LimitCheck[]]
    const states = await times(60, (index) => admit(...(orders[index % 3] ?? [])))
    expect(states.flat().every(({ allowed }) => allowed)).toBe(true)
    expect(await admit(...checks)).toMatchObject([{ remaining: 939 }, { remaining: 939 }, { remaining: 939 }])
  })
})
