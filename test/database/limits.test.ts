/** The rate limits of phase 1, by the server's clock; windows are short, so that nobody waits long. */
import { setTimeout as sleep } from 'node:timers/promises'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Admission, CodedError, type LimitCheck, type LimitState } from '../../lambdas/protocol.ts'
import type { TurnRequest } from '../../lambdas/services/hot-store.ts'
import { openPostgresHotStore } from '../../lambdas/services/postgres-hot-store.ts'
import { openPostgresLimiter } from '../../lambdas/services/postgres-limiter.ts'
import { onBothEngines, startTestDatabase, type TestDatabase } from '../harness/database.ts'
import { record } from '../harness/records.ts'

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
const tenant = (companyId: string, limit: number, windowSeconds = LONG_SECONDS): LimitCheck => ({
  kind: 'tenant',
  tenant: { companyId, platform: 'web' },
  key: '',
  limit,
  windowSeconds,
})
const address = (key: string, limit: number, count?: number): LimitCheck => ({
  kind: 'address',
  key,
  limit,
  windowSeconds: LONG_SECONDS,
  ...(count === undefined ? {} : { count }),
})
const times = <Result>(count: number, work: (index: number) => Promise<Result>): Promise<Result[]> =>
  Promise.all(Array.from({ length: count }, (_, index) => work(index)))

onBothEngines('a rate limit', (engine) => {
  let database: TestDatabase
  beforeAll(async () => {
    database = await startTestDatabase(engine, 'limits')
  })
  afterAll(() => database.close())

  /** Another instance of a function: it shares nothing but the database. */
  const instance = () => openPostgresLimiter(database.app)
  const admit = async (...checks: LimitCheck[]): Promise<LimitState[]> => instance().admit(checks)
  const isAdmitted = async (...checks: LimitCheck[]): Promise<boolean> =>
    (await admit(...checks)).every(({ allowed }) => allowed)
  const admitted = async (count: number, ...checks: LimitCheck[]): Promise<number> =>
    (await times(count, () => isAdmitted(...checks))).filter(Boolean).length

  test('admits exactly 100 of 150 that come at once, through two instances', async () => {
    const instances = [instance(), instance()]
    const checks = [user('crowd', 100), tenant('crowded', 6_000)]
    const states = await times(150, (index) => instances[index % 2]?.admit(checks) ?? Promise.resolve([]))
    expect(states.filter((one) => one.every(({ allowed }) => allowed))).toHaveLength(100)
    const refused = states.find(([first]) => !first?.allowed)
    expect(refused).toMatchObject([
      { kind: 'user', limit: 100, remaining: 0 },
      { kind: 'tenant', allowed: true, remaining: 5_900 },
    ])
  })

  test('of a tenant admits exactly as many, whoever of its users asks', async () => {
    const results = await times(60, (index) =>
      isAdmitted(user(`member ${index % 7}`, 100), tenant('small', 40)),
    )
    expect(results.filter(Boolean)).toHaveLength(40)
  })

  test('is used up by none of the requests that another limit refuses', async () => {
    const exhausted = tenant('exhausted', 3)
    expect(await admitted(3, exhausted)).toBe(3)
    expect(await admitted(20, user('innocent', 5), exhausted)).toBe(0)
    expect(await admit(user('innocent', 5))).toMatchObject([{ allowed: true, remaining: 4 }])
    expect(await admitted(10, user('innocent', 5), tenant('fresh', 100))).toBe(4)
    expect(await admit(tenant('fresh', 100))).toMatchObject([{ remaining: 95 }])
  })

  test('comes back as the oldest requests leave the window, and never lets more through than it says', async () => {
    const check = user('patient', 5, 2)
    expect(await admitted(3, check)).toBe(3)
    await sleep(1_000)
    expect(await admitted(10, check)).toBe(2)
    const [refused] = await admit(check)
    expect(refused).toMatchObject({ allowed: false, remaining: 0 })
    expect([1, 2]).toContain(refused?.retryAfterSeconds)
    await sleep((refused?.retryAfterSeconds ?? 0) * 1_000 + 100)
    // The first three are forgotten; the two that came a second later may be, too.
    const again = await admitted(10, check)
    expect(again).toBeGreaterThanOrEqual(3)
    expect(again).toBeLessThanOrEqual(5)
  })

  test('says how many are left, and when the oldest is forgotten', async () => {
    const check = user('counting', 3, 20)
    expect(await admit(check)).toEqual([
      { ...stateOf(check), allowed: true, remaining: 2, resetSeconds: 20, retryAfterSeconds: 0 },
    ])
    await sleep(1_100)
    await admit(check)
    const [last] = await admit(check)
    expect(last).toMatchObject({ remaining: 0, retryAfterSeconds: 0 })
    expect(last?.resetSeconds).toBeLessThan(20)
    const [refused] = await admit(check)
    expect(refused).toMatchObject({ allowed: false, resetSeconds: refused?.retryAfterSeconds })
  })

  test('that is lowered or raised acts with the next request', async () => {
    expect(await admitted(10, user('changed', 100))).toBe(10)
    expect(await admit(user('changed', 10))).toMatchObject([{ allowed: false, remaining: 0 }])
    expect(await admit(user('changed', 4))).toMatchObject([{ allowed: false, remaining: 0 }])
    expect(await admitted(10, user('changed', 12))).toBe(2)
    expect(await admit(user('changed', 100))).toMatchObject([{ remaining: 87 }])
    // So does another window: what is older than it counts no more.
    await sleep(1_100)
    expect(await admit(user('changed', 12, 1))).toMatchObject([{ allowed: true, remaining: 11 }])
  })

  test('of 0 admits nothing, and says to come back in a window', async () => {
    expect(await admit(user('nobody', 0, 60))).toMatchObject([
      { allowed: false, remaining: 0, resetSeconds: 60, retryAfterSeconds: 60 },
    ])
    expect(await admit(user('nobody', 1, 60))).toMatchObject([{ allowed: true }])
  })

  test('takes several requests at once, all or none', async () => {
    expect(await admit(address('a', 20, 11))).toMatchObject([{ allowed: true, remaining: 9 }])
    expect(await admit(address('a', 20, 11))).toMatchObject([{ allowed: false, remaining: 9 }])
    expect(await admit(address('a', 20, 9))).toMatchObject([{ allowed: true, remaining: 0 }])
    expect(await admit(address('b', 20))).toMatchObject([{ allowed: true, remaining: 19 }])
  })

  test('of addresses stands where no tenant looks, also one that was not set', async () => {
    await admit(address('hidden', 20))
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

  test('is no deadlock for anybody, in whatever order the checks stand', async () => {
    const checks = [user('x', 1_000), user('y', 1_000), tenant('order', 1_000)]
    const orders = [checks, [...checks].reverse(), [checks[1], checks[2], checks[0]] as LimitCheck[]]
    const states = await times(60, (index) => admit(...(orders[index % 3] ?? [])))
    expect(states.flat().every(({ allowed }) => allowed)).toBe(true)
    expect(await admit(...checks)).toMatchObject([{ remaining: 939 }, { remaining: 939 }, { remaining: 939 }])
  })

  const store = () => openPostgresHotStore(database.app, { leaseSeconds: 60, historyMessages: 5 })
  const question = (checks: LimitCheck[], changes: Partial<TurnRequest> = {}) => {
    const { session_id, user_id, parent_message_id, sequence_number, created_at, ...unplaced } = record()
    const told: LimitState[][] = []
    const admission: Admission = {
      checks,
      settle(states) {
        told.push([...states])
        if (!states.every(({ allowed }) => allowed)) throw new CodedError('rate_limited', 'refused')
      },
    }
    const request: TurnRequest = {
      tenant: TENANT,
      admission,
      sessionId: uuidv7(),
      threadId: 'main',
      owner: 'u1',
      ownedBy: null,
      channel: null,
      title: 'a title',
      messageId: uuidv7(),
      question: unplaced,
      parentMessageId: undefined,
      idempotency: undefined,
      ...changes,
    }
    return { request, told }
  }
  const codeOf = (error: unknown): string | undefined => (error as CodedError).code
  const stored = async (sessionId: string) =>
    database.inTenant(
      'acme',
      `select id from chat_sessions where id = '${sessionId}' union all
       select message_id from chat_turns where session_id = '${sessionId}' union all
       select message_id from idempotency_keys where session_id = '${sessionId}'`,
    )

  test('lets exactly 20 of 30 turns open, and a refused one leaves nothing behind', async () => {
    const outcomes = await times(30, async (index) => {
      const idempotency = { caller: 'u1', key: `asked ${index}`, bodyHash: 'h' }
      const { request } = question([user('asker', 20), tenant('acme', 6_000)], { idempotency })
      const outcome = await store()
        .openTurn(request)
        .then((turn) => turn.outcome, codeOf)
      return { outcome, left: await stored(request.sessionId) }
    })
    expect(outcomes.filter(({ outcome }) => outcome === 'opened')).toHaveLength(20)
    for (const { outcome, left } of outcomes) {
      expect(['opened', 'rate_limited']).toContain(outcome)
      expect(left).toHaveLength(outcome === 'opened' ? 3 : 0)
    }
  })

  test('counts a question that is refused for itself, an answer that is attached to, and one made again', async () => {
    const limit = user('counted', 5)
    const idempotency = { caller: 'counted', key: 'once', bodyHash: 'h' }
    const first = question([limit], { idempotency })
    expect(await store().openTurn(first.request)).toMatchObject({ outcome: 'opened' })
    expect(first.told).toMatchObject([[{ remaining: 4 }]])

    const { sessionId, messageId } = first.request
    const busy = question([limit], { sessionId })
    expect(await store().openTurn(busy.request).catch(codeOf)).toBe('reply_in_progress')
    expect(busy.told).toMatchObject([[{ remaining: 3 }]])

    const again = question([limit], { idempotency })
    expect(await store().openTurn(again.request)).toMatchObject({ outcome: 'claimed', messageId })
    expect(again.told).toMatchObject([[{ remaining: 2 }]])

    const missing = question([limit])
    const reopening = { ...missing.request, target: uuidv7(), messageId: uuidv7() }
    expect(await store().reopenTurn(reopening).catch(codeOf)).toBe('not_found')
    expect(missing.told).toMatchObject([[{ remaining: 1 }]])

    await admit(limit)
    const late = question([limit], { idempotency })
    expect(await store().openTurn(late.request).catch(codeOf)).toBe('rate_limited')
    expect(late.told).toMatchObject([[{ allowed: false, remaining: 0 }]])
  })

  test('does not count a question twice that has to wait for a rescue', async () => {
    const limit = user('rescuer', 5)
    const abandoned = question([limit])
    const lost = openPostgresHotStore(database.app, { leaseSeconds: 0, historyMessages: 5 })
    await lost.openTurn(abandoned.request)
    const next = question([limit], { sessionId: abandoned.request.sessionId })
    expect(await store().openTurn(next.request)).toMatchObject({ outcome: 'lapsed' })
    expect(await admit(limit)).toMatchObject([{ remaining: 3 }])
  })
})

function stateOf({ kind, limit, windowSeconds }: LimitCheck) {
  return { kind, limit, windowSeconds }
}
