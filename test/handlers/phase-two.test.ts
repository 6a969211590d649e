/** Phase 2 when one of its two stores is away: chats go on, and no turn is lost. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { Reply } from '../harness/client.ts'
import { linesOf, metricsOf } from '../harness/emitted-metrics.ts'
import { createDatabase, type PostgresServer, startPostgresServer } from '../harness/postgres-server.ts'
import { type BreakableRedis, describeWithRedis, startRedis } from '../harness/redis.ts'
import { startTcpProxy, type TcpProxy } from '../harness/tcp-proxy.ts'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

/** Running answers under each fault. */
const ANSWERS = 5
/** Records are saved whether or not Valkey is there; watches wait for it, so the queue need not be empty. */
const SAVED_WITHIN_MS = 20_000
/** After a failure Valkey is left alone for 2 s. */
const BACK_OFF_MS = 2_200

describeWithRedis('phase 2', () => {
  let server: PostgresServer
  let postgres: TcpProxy
  let redis: BreakableRedis
  let turnkeep: Turnkeep
  beforeAll(async () => {
    server = await startPostgresServer()
    postgres = await startTcpProxy(await createDatabase(server.url, 'phase_two'))
    redis = await startRedis('single')
    turnkeep = await startTurnkeep({
      databaseUrl: postgres.url,
      valkey: redis,
      scriptedModel: { tokenDelayMs: 8 },
    })
  })
  afterAll(async () => {
    await turnkeep.close()
    await redis.close()
    await postgres.close()
    await server.close()
  })
  afterEach(() => sleep(BACK_OFF_MS))

  const storedOf = (sessionId: string | undefined) =>
    turnkeep.rows<{ role: string; status: string; content: string }>(
      `select role, status, content from chat_messages where session_id = '${sessionId}' order by sequence_number, id`,
    )

  /** The whole of what the client has seen stands in Postgres. */
  async function expectSaved(question: string, reply: Reply): Promise<void> {
    expect(reply.terminal).toMatchObject({ type: 'done' })
    await expect
      .poll(() => storedOf(reply.session?.sessionId), { timeout: SAVED_WITHIN_MS })
      .toEqual([
        { role: 'user', status: 'complete', content: question },
        { role: 'assistant', status: 'complete', content: reply.text },
      ])
  }

  const LONG = '길게 써 주세요'
  /** Answers that run while something happens. */
  async function during(name: string, fault: () => Promise<unknown> | unknown): Promise<Reply[]> {
    const spoken: Promise<void>[] = []
    const replies = Array.from({ length: ANSWERS }, (_, index) => {
      const { promise, resolve } = Promise.withResolvers<void>()
      spoken.push(promise)
      return turnkeep.as({ userId: `${name} ${index}` }).ask(LONG, {
        onEvent: ({ event }) => {
          if (event.type === 'token') resolve()
          return false
        },
      })
    })
    await Promise.all(spoken)
    await fault()
    return Promise.all(replies)
  }

  test('without Postgres chats go on, in sessions new and known, and are saved when it is back', async () => {
    const user = turnkeep.as({ userId: 'patient' })
    const before = await user.ask('물음 1')
    const sessionId = before.session?.sessionId
    await turnkeep.drained()
    await postgres.down()
    const headers = { 'idempotency-key': 'during the outage' }
    const known = await user.ask({ message: '물음 2', sessionId }, { headers })
    expect(known.terminal).toMatchObject({ type: 'done', metadata: { contextLength: 2 } })
    const again = await user.ask({ message: '물음 2', sessionId }, { headers })
    expect(again.events).toEqual(known.events)
    const third = await user.ask({ message: '물음 3', sessionId })
    expect(third.terminal).toMatchObject({ type: 'done', metadata: { contextLength: 4 } })
    const fresh = await user.ask('물음')
    expect(fresh.terminal).toMatchObject({ type: 'done' })
    const next = await user.ask({ message: '다음', sessionId: fresh.session?.sessionId })
    expect(next.terminal).toMatchObject({ type: 'done', metadata: { contextLength: 2 } })
    // What nobody here knows cannot be looked up now.
    const unknown = await user.ask({ message: '?', sessionId: crypto.randomUUID() })
    expect(unknown).toMatchObject({ status: 503, error: { code: 'unavailable' } })
    await postgres.up()
    await turnkeep.drained()
    expect((await storedOf(sessionId)).map(({ content }) => content)).toEqual([
      '물음 1',
      before.text,
      '물음 2',
      known.text,
      '물음 3',
      third.text,
    ])
    const { body } = await user.call('GET', `/api/sessions/${fresh.session?.sessionId}`)
    expect(body).toMatchObject({ messageCount: 4, title: '물음' })
  })

  /** How often something was counted so far. */
  const counted = (metric: string) =>
    metricsOf(linesOf(turnkeep.output())).filter(({ name }) => name === metric).length

  test('without Postgres limits hold as ever, and budgets of which only Postgres knows let everybody through', async () => {
    const tenant = { companyId: 'budgeted', platform: 'web' }
    const admin = turnkeep.as({ ...tenant, userId: 'admin', role: 'admin' })
    const own = { userTokensPerDay: 1_000_000, userRequestsPerMinute: 5 }
    expect((await admin.call('PATCH', '/api/tenant', own)).status).toBe(200)
    // It acts when the functions have looked again.
    let users = 0
    const hasActed = async () => {
      users += 1
      await turnkeep.as({ ...tenant, userId: `early ${users}` }).ask('벌써?')
      return ((await redis.nodes[0].admin('KEYS', 'tk:{budgeted:web}:tokens:*')) as string[]).length
    }
    await expect.poll(hasActed, { timeout: 20_000, interval: 500 }).toBeGreaterThan(0)
    await turnkeep.drained()
    await postgres.down()
    const before = counted('BudgetsUnchecked')
    const late = turnkeep.as({ ...tenant, userId: 'late' })
    const replies = await Promise.all(Array.from({ length: 8 }, () => late.ask('지금은?')))
    expect(replies.filter(({ terminal }) => terminal?.type === 'done')).toHaveLength(5)
    expect(replies.filter(({ error }) => error?.code === 'rate_limited')).toHaveLength(3)
    await expect.poll(() => counted('BudgetsUnchecked') - before, { timeout: 10_000 }).toBe(5)
    await postgres.up()
    await turnkeep.drained()
  })

  test('Valkey killed under running answers: they are finished and saved, and new ones begin in Postgres', async () => {
    const replies = await during('killed', () => redis.nodes[0].kill())
    const user = turnkeep.as({ userId: 'meanwhile' })
    const meanwhile = await user.ask('지금은?')
    const sessionId = meanwhile.session?.sessionId
    // Nobody is limited then, and Postgres is not asked instead.
    await expect.poll(() => counted('LimitsUnchecked'), { timeout: 10_000 }).toBeGreaterThan(0)
    // Its log is in Postgres, and there it is read.
    const read = await user.stream('GET', `/api/chat/stream/${meanwhile.session?.messageId}`)
    expect(read.events).toEqual(meanwhile.events)
    for (const reply of replies) await expectSaved(LONG, reply)
    await expectSaved('지금은?', meanwhile)
    await redis.nodes[0].restart()
    await sleep(BACK_OFF_MS)
    const after = await user.ask({ message: '그리고?', sessionId })
    expect(after.terminal).toMatchObject({ type: 'done', metadata: { contextLength: 2 } })
  })
})
