/** Turns that Valkey opened without being heard, and turns of which nobody wrote down where they lie. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { HotStore } from '../../lambdas/services/hot-store.ts'
import { openPhaseOneHotStore } from '../../lambdas/services/phase-one-hot-store.ts'
import { openPhaseTwoHotStore } from '../../lambdas/services/phase-two-hot-store.ts'
import { openPostgresHotStore } from '../../lambdas/services/postgres-hot-store.ts'
import { openSessionSource } from '../../lambdas/services/postgres-session-source.ts'
import { openValkey, type Valkey } from '../../lambdas/services/valkey.ts'
import { openValkeyHotStore } from '../../lambdas/services/valkey-hot-store.ts'
import { startTestDatabase, type TestDatabase } from '../harness/database.ts'
import { askIn, leaseOf, newTenant, opened, tell, token, valkeyOptions } from '../harness/hot-store.ts'
import { type BreakableRedis, describeWithRedis, startRedis } from '../harness/redis.ts'
import { type SlowProxy, startSlowProxy } from '../harness/slow-proxy.ts'

const OPTIONS = { leaseSeconds: 3, historyMessages: 5 }
const LAPSED_MS = 3_200
const PATIENCE_MS = 5_000
/** Of the writer whose answers are kept back: long enough for a busy machine, where they are not. */
const HELD_MS = 1_500

describeWithRedis('a turn of phase 2', () => {
  let redis: BreakableRedis
  let database: TestDatabase
  let road: SlowProxy
  const connections: Valkey[] = []
  beforeAll(async () => {
    redis = await startRedis('single')
    database = await startTestDatabase('real', 'twins')
    road = await startSlowProxy(redis.nodes[0].port)
  })
  afterAll(async () => {
    await Promise.all(connections.map((connection) => connection.close()))
    await road?.close()
    await redis?.close()
    await database?.close()
  })

  /** Another instance each time. */
  function open(
    openTogether: typeof openPhaseTwoHotStore,
    port = redis.nodes[0].port,
    commandMs = PATIENCE_MS,
  ) {
    const endpoints: [{ host: string; port: number }] = [{ host: '127.0.0.1', port }]
    const connection = openValkey({ ...valkeyOptions(redis), endpoints, commandMs, connectMs: PATIENCE_MS })
    connections.push(connection)
    const source = openSessionSource(database.app, {
      save: async (records) => {
        await database.app.call('save_records', [{ jsonb: [...records] }])
      },
    })
    return openTogether({
      valkey: openValkeyHotStore(connection, source, OPTIONS),
      postgres: openPostgresHotStore(database.app, OPTIONS),
      limiter: { admit: async () => [] },
      count: () => undefined,
    })
  }

  /** A turn that stands in both, and a token of its answer in Postgres. */
  async function twins(tenant = newTenant()) {
    const writer = open(openPhaseTwoHotStore, road.port, HELD_MS)
    const first = askIn(tenant)
    await tell(writer, tenant, await opened(writer.openTurn(first)), first.messageId, '첫 답')
    const request = askIn(tenant, { sessionId: first.sessionId })
    road.hold()
    const turn = await opened(writer.openTurn(request))
    const keys = await redis.keys(`tk:*:turn:${request.messageId}`)
    expect(keys).toHaveLength(1)
    const lease = leaseOf(tenant, request.messageId, turn.epoch)
    await writer.append(lease, [{ first: 0, events: [token('가')] }])
    return { tenant, writer, turn, lease, request, messageId: request.messageId }
  }
  const logOf = async (store: HotStore, { tenant, messageId }: Awaited<ReturnType<typeof twins>>) =>
    (await store.readLog(tenant, null, messageId, -1))?.events

  test('that Valkey opened unheard is read where its answer is', async () => {
    const made = await twins()
    const other = open(openPhaseTwoHotStore)
    expect(await logOf(other, made)).toEqual([{ id: 0, event: token('가') }])
    expect(await redis.keys(`tk:*:turn:${made.messageId}`)).toEqual([])
  })

  test('… stopped there', async () => {
    const { tenant, writer, lease, messageId } = await twins()
    const other = open(openPhaseTwoHotStore)
    expect(await other.requestStop(tenant, null, messageId)).toMatchObject({ finished: false })
    expect(await writer.append(lease, [])).toEqual({ held: true, stopRequested: true })
  })

  test('… and watched and rescued there, with what its client has seen', async () => {
    const made = await twins()
    const { tenant, messageId } = made
    const other = open(openPhaseTwoHotStore)
    await sleep(LAPSED_MS)
    const [watched] = await other.unfinished([{ ...tenant, messageId }])
    expect(watched).toMatchObject({ messageId })
    expect(await other.takeOver(tenant, messageId)).toMatchObject({ turn: { lease: { epoch: 2 } } })
    expect(await logOf(other, made)).toEqual([{ id: 0, event: token('가') }])
  })

  test('… and not ended by the twin once it is finished, whichever phase comes to it', async () => {
    for (const openTogether of [openPhaseTwoHotStore, openPhaseOneHotStore]) {
      const { tenant, writer, turn, messageId } = await twins()
      await sleep(LAPSED_MS)
      await tell(writer, tenant, turn, messageId, '')
      expect(await open(openTogether).takeOver(tenant, messageId)).toBeUndefined()
    }
  })

  test('… and the thread takes the next question at once', async () => {
    const { tenant, writer, turn, request, messageId } = await twins()
    await tell(writer, tenant, turn, messageId, '')
    const next = askIn(tenant, { sessionId: request.sessionId })
    const other = open(openPhaseTwoHotStore)
    await opened(other.openTurn(next))
  })

  test('is found by its key where its opener died before it wrote down where it lies', async () => {
    const tenant = newTenant()
    const idempotency = { caller: 'u1', key: 'a key', bodyHash: 'a body' }
    const request = askIn(tenant, { idempotency, sessionIsNew: true })
    const turn = await opened(open(openPhaseTwoHotStore).openTurn(request))
    for (const key of await redis.keys(`tk:{${tenant.companyId.replace(' ', '%20')}:*:place`))
      await redis.nodes[0].admin('DEL', key)
    const other = open(openPhaseTwoHotStore)
    expect(await other.readLog(tenant, null, request.messageId, -1)).toBeUndefined()
    expect(await other.openTurn(askIn(tenant, { idempotency }))).toMatchObject({
      outcome: 'claimed',
      messageId: request.messageId,
      sessionId: turn.sessionId,
    })
    expect(await other.readLog(tenant, null, request.messageId, -1)).toMatchObject({ finished: false })
  })
})
