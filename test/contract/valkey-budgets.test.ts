/** What token budgets on Valkey do beyond the contract: what is kept, what Postgres is asked, and what if it is away. */
import { v7 as uuidv7 } from 'uuid'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import type { Tenant } from '../../lambdas/protocol/callers.ts'
import { CodedError } from '../../lambdas/protocol/errors.ts'
import type { Budgets, OwnSettings } from '../../lambdas/protocol/tenants.ts'
import type { SessionSource, TokensUsed } from '../../lambdas/services/postgres-session-source.ts'
import { openValkey, type Valkey } from '../../lambdas/services/valkey.ts'
import { openValkeyHotStore, type ValkeyHotStore } from '../../lambdas/services/valkey-hot-store.ts'
import {
  answerTo,
  askIn,
  leaseOf,
  newTenant,
  opened,
  refused,
  tell,
  valkeyOptions,
} from '../harness/hot-store.ts'
import { type BreakableRedis, describeWithRedis, startRedis } from '../harness/redis.ts'
import { spending } from '../harness/spending.ts'

const DAY_MS = 86_400_000
/** Question and answer, see spending.ts. */
const TURN_TOKENS = 100
const UNUSED: TokensUsed = {
  userTokensPerDay: 0,
  userTokensPerMonth: 0,
  tenantTokensPerDay: 0,
  tenantTokensPerMonth: 0,
}
const using = (tokens: number) => ({ token_count: 1, metadata: { promptTokens: tokens - 1 } })

describeWithRedis('token budgets on Valkey', () => {
  let redis: BreakableRedis
  let valkey: Valkey
  beforeAll(async () => {
    redis = await startRedis('single')
    valkey = openValkey({ ...valkeyOptions(redis), commandMs: 5_000, connectMs: 5_000 })
  })
  beforeEach(() => {
    counted = []
    asked = []
  })
  afterEach(() => {
    vi.useRealTimers()
  })
  afterAll(async () => {
    await valkey?.close()
    await redis?.close()
  })

  let counted: string[] = []
  /** Users of whom Postgres was asked. */
  let asked: string[] = []
  const away = () => Promise.reject(new CodedError('unavailable', 'Postgres is away.'))
  interface Given {
    used?: () => Promise<Partial<TokensUsed>>
    own?: OwnSettings
    budgeting?: { holdMs?: number; patienceMs?: number }
  }
  const open = ({ used = async () => ({}), own = {}, budgeting = {} }: Given = {}): ValkeyHotStore => {
    const source: SessionSource = {
      load: away,
      findClaim: away,
      findMessage: away,
      save: away,
      settings: async () => own,
      tokensUsed: async (_, userId) => {
        asked.push(userId)
        return { ...UNUSED, ...(await used()) }
      },
    }
    return openValkeyHotStore(valkey, source, {
      leaseSeconds: 60,
      historyMessages: 5,
      budgeting,
      count: (metric) => counted.push(metric),
    })
  }
  const ask = (tenant: Tenant, budgets: Partial<Budgets>, changes: Parameters<typeof askIn>[1] = {}) =>
    askIn(tenant, { sessionIsNew: true, spending: spending(budgets), ...changes })
  const usedOf = async (store: ValkeyHotStore, tenant: Tenant): Promise<number> => {
    const { code, details } = await refused(store.openTurn(ask(tenant, { userTokensPerDay: 0 })))
    expect(code).toBe('quota_exceeded')
    return (details as { used: number }).used
  }
  const admin = (...command: string[]) => redis.nodes[0].admin(...command)
  const keysOf = async (tenant: Tenant): Promise<string[]> =>
    ((await admin('KEYS', `tk:{${encodeURIComponent(tenant.companyId)}:web}:*`)) as string[])
      .filter((key) => !key.endsWith(':settings'))
      .sort()

  test('where there is no budget nothing is written, and nobody is asked', async () => {
    const [tenant, store] = [newTenant(), open()]
    const request = ask(tenant, {})
    await tell(store, tenant, await opened(store.openTurn(request)), request.messageId, '답')
    expect(await keysOf(tenant)).toEqual([])
    expect(asked).toEqual([])
  })

  test('keeps a counter for each period that has a budget, and none for ever', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.UTC(2026, 11, 31, 12) })
    const [tenant, store] = [newTenant(), open()]
    await opened(
      store.openTurn(ask(tenant, { userTokensPerDay: 500, tenantTokensPerMonth: 500 }, { owner: '하늘 😀' })),
    )
    const tag = `tk:{${encodeURIComponent(tenant.companyId)}:web}`
    const day = `${tag}:tokens:${encodeURIComponent('하늘 😀')}:2026-12-31`
    const month = `${tag}:tokens::2026-12`
    expect(await keysOf(tenant)).toEqual([`${tag}:reserved`, month, day].sort())
    const left = async (key: string) => Number(await admin('PTTL', key)) / DAY_MS
    // Past their ends, wherever in the period they began.
    for (const [key, least, most] of [
      [day, 1, 2],
      [month, 31, 33],
      [`${tag}:reserved`, 1, 15],
    ] as const) {
      expect(await left(key)).toBeGreaterThan(least)
      expect(await left(key)).toBeLessThanOrEqual(most)
    }
  })

  test('a new day and a new month begin with what Postgres says', async () => {
    const [tenant, store] = [newTenant(), open()]
    const budgets = { userTokensPerDay: TURN_TOKENS, userTokensPerMonth: 10 * TURN_TOKENS }
    const refusal = async () => (await refused(store.openTurn(ask(tenant, budgets)))).details
    vi.useFakeTimers({ toFake: ['Date'], now: Date.UTC(2028, 1, 28, 23, 59) })
    await opened(store.openTurn(ask(tenant, budgets)))
    const first = { budget: 'user', period: 'day', limit: TURN_TOKENS, used: TURN_TOKENS }
    expect(await refusal()).toEqual({ ...first, resetsAt: '2028-02-29T00:00:00.000Z' })
    vi.setSystemTime(Date.UTC(2028, 1, 29, 0, 1))
    await opened(store.openTurn(ask(tenant, budgets)))
    expect(await refusal()).toEqual({ ...first, resetsAt: '2028-03-01T00:00:00.000Z' })
    vi.setSystemTime(Date.UTC(2028, 2, 1, 0, 1))
    await opened(store.openTurn(ask(tenant, { userTokensPerMonth: TURN_TOKENS })))
    const { details } = await refused(store.openTurn(ask(tenant, { userTokensPerMonth: TURN_TOKENS })))
    expect(details).toMatchObject({
      period: 'month',
      used: TURN_TOKENS,
      resetsAt: '2028-04-01T00:00:00.000Z',
    })
  })

  test('asks Postgres once for a counter, and not for each turn', async () => {
    const [tenant, store] = [newTenant(), open({ used: async () => ({ tenantTokensPerDay: 40 }) })]
    const budgets = { tenantTokensPerDay: 40 + 20 * TURN_TOKENS }
    const answers = await Promise.allSettled(
      Array.from({ length: 30 }, (_, index) => store.openTurn(ask(tenant, budgets, { owner: `u${index}` }))),
    )
    expect(answers.filter(({ status }) => status === 'fulfilled')).toHaveLength(20)
    expect(asked).toEqual([''])
    await refused(open().openTurn(ask(tenant, budgets)))
    expect(asked).toEqual([''])
  })

  test('goes on without its budgets where Postgres does not say what was used, soon, and counts that', async () => {
    for (const used of [away, () => new Promise<never>(() => undefined)]) {
      counted = []
      const [tenant, store] = [newTenant(), open({ used, budgeting: { patienceMs: 50 } })]
      const request = ask(tenant, { userTokensPerDay: 0 })
      const turn = await opened(store.openTurn(request))
      expect(counted).toEqual(['BudgetsUnchecked'])
      await tell(store, tenant, turn, request.messageId, '답', using(70))
      // What it used is for Postgres to say, which counts it when it is saved.
      expect(await keysOf(tenant)).toEqual([])
    }
  })

  test('counts what an answer used once, however often it is closed, and by whom', async () => {
    const [tenant, store] = [newTenant(), open()]
    const request = ask(tenant, { userTokensPerDay: 1_000 })
    const turn = await opened(store.openTurn(request))
    const answer = answerTo(turn, request.messageId, '답', using(70))
    for (const one of [store, store, open()]) {
      await one.close(leaseOf(tenant, request.messageId), [], answer)
      expect(await usedOf(store, tenant)).toBe(70)
    }
  })

  test('holds nothing for a turn that is refused for itself, or that is there already', async () => {
    const [tenant, store] = [newTenant(), open()]
    const budgets = { userTokensPerDay: 1_000 }
    const idempotency = { caller: 'u1', key: uuidv7(), bodyHash: 'h' }
    const request = ask(tenant, budgets, { idempotency })
    await opened(store.openTurn(request))
    const busy = ask(tenant, budgets, { sessionId: request.sessionId, sessionIsNew: false, ownedBy: 'u1' })
    expect(await refused(store.openTurn(busy))).toMatchObject({ code: 'reply_in_progress' })
    expect(await store.openTurn({ ...request, messageId: uuidv7() })).toMatchObject({ outcome: 'claimed' })
    expect(await usedOf(store, tenant)).toBe(TURN_TOKENS)
  })

  test('holds tokens for a while where nobody ends the turn, and counts what it used if it is ended after all', async () => {
    const [tenant, store] = [newTenant(), open({ budgeting: { holdMs: 1 } })]
    const request = ask(tenant, { userTokensPerDay: TURN_TOKENS })
    const turn = await opened(store.openTurn(request))
    await expect.poll(() => usedOf(store, tenant), { timeout: 5_000 }).toBe(0)
    await opened(store.openTurn(ask(tenant, { userTokensPerDay: TURN_TOKENS })))
    await tell(store, tenant, turn, request.messageId, '답', using(70))
    await expect.poll(() => usedOf(store, tenant), { timeout: 5_000 }).toBe(70)
  })

  test('a cache that was emptied begins with what Postgres says', async () => {
    const [tenant, store] = [newTenant(), open({ used: async () => ({ userTokensPerDay: 30 }) })]
    const request = ask(tenant, { userTokensPerDay: 1_000 })
    await opened(store.openTurn(request))
    expect(await usedOf(store, tenant)).toBe(30 + TURN_TOKENS)
    await redis.empty()
    expect(await usedOf(store, tenant)).toBe(30)
  })
})
