/** What the hot store on Valkey does beyond the contract: what it keeps, for how long, and what it asks Postgres. */
import { randomBytes } from 'node:crypto'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { Tenant } from '../../lambdas/protocol/callers.ts'
import { CodedError } from '../../lambdas/protocol/errors.ts'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'
import type { TurnRequest } from '../../lambdas/services/hot-store.ts'
import type { SessionSource } from '../../lambdas/services/postgres-session-source.ts'
import { openValkey, type Valkey } from '../../lambdas/services/valkey.ts'
import { openValkeyHotStore, type ValkeyHotStore } from '../../lambdas/services/valkey-hot-store.ts'
import {
  answerTo,
  askIn,
  leaseOf,
  newTenant,
  opened,
  readAll,
  refused,
  tell,
  token,
  valkeyOptions,
} from '../harness/hot-store.ts'
import { type BreakableRedis, describeWithRedis, startRedis } from '../harness/redis.ts'

const DAY_MS = 86_400_000
/** A text of 8,000 syllables. */
const LARGE_BYTES = 24_000
const OPTIONS = { leaseSeconds: 60, historyMessages: 2 }

describeWithRedis('the hot store on Valkey', () => {
  let redis: BreakableRedis
  let valkey: Valkey
  beforeAll(async () => {
    redis = await startRedis('single')
    valkey = openValkey({ ...valkeyOptions(redis), commandMs: 5_000, connectMs: 5_000 })
  })
  afterAll(async () => {
    await valkey?.close()
    await redis?.close()
  })

  const away = () => Promise.reject(new CodedError('unavailable', 'Postgres is away.'))
  const saved: MessageRecord[] = []
  /** Postgres cannot be reached; what is saved is kept here. */
  const source = (changes: Partial<SessionSource> = {}): SessionSource => ({
    load: away,
    findClaim: away,
    findMessage: away,
    settings: away,
    tokensUsed: away,
    save: async (records) => {
      saved.push(...records)
    },
    ...changes,
  })
  const counted: string[] = []
  const open = (changes: Partial<SessionSource> = {}): ValkeyHotStore =>
    openValkeyHotStore(valkey, source(changes), { ...OPTIONS, count: (metric) => counted.push(metric) })
  const fresh = (tenant: Tenant, changes: Parameters<typeof askIn>[1] = {}): TurnRequest =>
    askIn(tenant, { sessionIsNew: true, ...changes })

  const keys = async (): Promise<string[]> => (await redis.nodes[0].admin('KEYS', '*')) as string[]

  test('opens, writes and continues a new session without Postgres', async () => {
    const [tenant, store] = [newTenant(), open()]
    const request = fresh(tenant)
    const turn = await opened(store.openTurn(request))
    expect(turn).toMatchObject({ created: true, known: false })
    await tell(store, tenant, turn, request.messageId, '답')
    const next = await opened(open().openTurn(askIn(tenant, { sessionId: request.sessionId })))
    expect(next).toMatchObject({ created: false, known: true, answerSequenceNumber: 4 })
    expect(next.history).toHaveLength(2)
  })

  test('a session of which Postgres cannot be asked is unavailable, and nothing is left of the attempt', async () => {
    const tenant = newTenant()
    const idempotency = { caller: 'u1', key: 'k', bodyHash: 'h' }
    expect(await refused(open().openTurn(askIn(tenant, { idempotency })))).toMatchObject({
      code: 'unavailable',
    })
    // The key that was not used up can be.
    expect((await opened(open().openTurn(fresh(tenant, { idempotency })))).created).toBe(true)
    expect(counted).toContain('IdempotencyUnchecked')
  })

  test('a key that says when it was made is not looked up beyond that', async () => {
    counted.length = 0
    const idempotency = { caller: 'u1', key: uuidv7(), bodyHash: 'h' }
    await opened(open().openTurn(fresh(newTenant(), { idempotency })))
    expect(counted).toEqual([])
  })

  test('keeps nothing for ever, names the tenant in every key, and compresses what is large', async () => {
    await redis.empty()
    const [tenant, store] = [newTenant(), open()]
    const request = fresh(tenant, {
      question: { content: '가'.repeat(8_000) },
      idempotency: { caller: 'u1', key: 'k', bodyHash: 'h' },
    })
    const turn = await opened(store.openTurn(request))
    await tell(store, tenant, turn, request.messageId, '나'.repeat(8_000))
    for (const key of await keys()) {
      expect(key).toContain(`{${encodeURIComponent(tenant.companyId)}:web`)
      const left = Number(await redis.nodes[0].admin('PTTL', key))
      expect(left, key).toBeGreaterThan(0)
      expect(left, key).toBeLessThanOrEqual(15 * DAY_MS)
      if (/:(session|history|order|log|turn)\b/.test(key)) expect(left, key).toBeLessThanOrEqual(DAY_MS)
      expect(Number(await redis.nodes[0].admin('MEMORY', 'USAGE', key)), key).toBeLessThan(LARGE_BYTES / 4)
    }
  })

  test('a thread of many turns keeps the newest, and those are enough', async () => {
    await redis.empty()
    const [tenant, store] = [newTenant(), open()]
    const sessionId = uuidv7()
    for (let index = 0; index < 30; index += 1) {
      const request = askIn(tenant, { sessionId, sessionIsNew: index === 0 })
      const turn = await opened(store.openTurn(request))
      expect(turn.history).toHaveLength(Math.min(2 * index, 2))
      await tell(store, tenant, turn, request.messageId, `답 ${index}`)
    }
    const [order = ''] = (await keys()).filter((key) => key.includes(':order:'))
    expect(await redis.nodes[0].admin('LLEN', order)).toBe(20)
  })

  test('a log of 5 MB is read page by page, as it was written', async () => {
    const [tenant, store] = [newTenant(), open()]
    const request = fresh(tenant)
    const turn = await opened(store.openTurn(request))
    // Bytes of chance, which do not become smaller.
    const events = Array.from({ length: 1_400 }, () => token(randomBytes(2_800).toString('base64')))
    for (let first = 0; first < events.length; first += 100)
      await store.append(leaseOf(tenant, request.messageId), [
        { first, events: events.slice(first, first + 100) },
      ])
    expect(Buffer.byteLength(JSON.stringify(events))).toBeGreaterThan(5_000_000)
    const read = await readAll(open(), tenant, request.messageId)
    expect(read.events.map(({ event }) => event)).toEqual(events)
    expect(read.pages).toBeGreaterThan(10)
    await tell(store, tenant, turn, request.messageId, '')
  })

  test('a turn that was forgotten is unavailable to its writer, and taken over for others', async () => {
    const [tenant, store] = [newTenant(), open()]
    const request = fresh(tenant)
    const turn = await opened(store.openTurn(request))
    await redis.empty()
    const lease = leaseOf(tenant, request.messageId)
    const batches = [{ first: 0, events: [token('가')] }]
    const answer = answerTo(turn, request.messageId, '가')
    expect(await refused(store.append(lease, batches))).toMatchObject({ code: 'unavailable' })
    expect(await refused(store.close(lease, batches, answer))).toMatchObject({ code: 'unavailable' })
    expect(await open().append(lease, batches)).toEqual({ held: false, stopRequested: false })
  })

  test('brings to Postgres what stands here alone, once', async () => {
    const [tenant, store] = [newTenant(), open()]
    const request = fresh(tenant)
    const told = await tell(store, tenant, await opened(store.openTurn(request)), request.messageId, '답')
    saved.length = 0
    await open().settle(tenant, { messageId: request.messageId })
    expect(saved.map(({ id }) => id).sort()).toEqual([told.question.id, told.messageId].sort())
    expect(saved.every(({ on_save }) => on_save?.count)).toBe(true)
    await open().settle(tenant, { sessionId: request.sessionId })
    expect(saved).toHaveLength(2)
  })

  test('loads a thread again when an answer was saved that it has never heard of', async () => {
    const [tenant, store] = [newTenant(), open()]
    const request = fresh(tenant)
    const told = await tell(store, tenant, await opened(store.openTurn(request)), request.messageId, '답')
    const next = () => open().openTurn(askIn(tenant, { sessionId: request.sessionId }))
    await store.saved([told.question, told.answer])
    const elsewhere = { ...told.answer, id: uuidv7(), created_at: new Date(Date.now() + 1_000).toISOString() }
    await store.saved([elsewhere])
    expect(await refused(next())).toMatchObject({ code: 'unavailable' })
  })

  test('a tenant’s change is known to every instance as soon as what it remembers is some seconds old', async () => {
    const [tenant, changing, other] = [newTenant(), open(), open()]
    const promptNow = async () => (await opened(other.openTurn(fresh(tenant)))).settings.systemPrompt
    for (const systemPrompt of ['첫째', '둘째']) {
      await changing.tenantChanged(tenant, { systemPrompt })
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 11_000 })
      expect(await promptNow()).toBe(systemPrompt)
    }
    vi.useRealTimers()
  })

  test('answers by the tenant’s settings, and by the last it knows while Postgres is away', async () => {
    const tenant = newTenant()
    const own = { historyMessages: 0, systemPrompt: '짧게' }
    const first = await opened(open({ settings: async () => own }).openTurn(fresh(tenant)))
    expect(first.settings).toEqual(own)
    expect((await opened(open().openTurn(fresh(tenant)))).settings).toEqual(own)
    expect((await opened(open().openTurn(fresh(newTenant())))).settings).toEqual({})
  })

  test('forgets an erased session, every key of it, and nothing of another', async () => {
    const [tenant, store] = [newTenant(), open()]
    const other = fresh(tenant)
    await tell(store, tenant, await opened(store.openTurn(other)), other.messageId, '남는 답')
    const before = await keys()
    const request = fresh(tenant, { threadId: 'a thread' })
    const { sessionId, messageId, threadId } = request
    const turn = await opened(store.openTurn(request))
    await tell(store, tenant, turn, messageId, '지워질 답')
    const running = askIn(tenant, { sessionId, threadId })
    const second = await opened(store.openTurn(running))

    // It waits for the answer that runs, which is told to stop; messages that stand here alone need no naming.
    expect(await open().sessionErased(tenant, sessionId, { messages: [], force: false })).toEqual({
      running: 1,
      removed: 0,
    })
    expect(await store.append(leaseOf(tenant, running.messageId, second.epoch), [])).toMatchObject({
      stopRequested: true,
    })
    const named = { messages: [{ messageId, threadId }], force: true }
    expect((await open().sessionErased(tenant, sessionId, named)).removed).toBeGreaterThan(5)
    expect((await keys()).sort()).toEqual(before.sort())
    expect(await open().readLog(tenant, null, messageId, -1)).toBeUndefined()
    // Its writer goes on without the log, and leaves nothing either.
    await expect(store.append(leaseOf(tenant, running.messageId, second.epoch), [])).rejects.toMatchObject({
      code: 'unavailable',
    })
    expect(await open().sessionErased(tenant, sessionId, named)).toEqual({ running: 0, removed: 1 })
    expect((await keys()).sort()).toEqual(before.sort())
  })
})
