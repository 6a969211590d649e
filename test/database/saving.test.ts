import fc from 'fast-check'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { saveItems } from '../../lambdas/messages/save.ts'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'
import type { Database } from '../../lambdas/services/database.ts'
import { onBothEngines, startTestDatabase, type TestDatabase } from '../harness/database.ts'
import { conversation, record } from '../harness/records.ts'

/** Without the second try one in some hundred is refused. */
const AT_ONE_INSTANT = { rounds: 150, savers: 8 }

function countingCalls(database: Database): { database: Database; calls(): number } {
  let calls = 0
  return {
    calls: () => calls,
    database: {
      ...database,
      call: (...parameters) => {
        calls += 1
        return database.call(...parameters)
      },
    },
  }
}

onBothEngines('saving', (engine) => {
  let database: TestDatabase
  beforeAll(async () => {
    database = await startTestDatabase(engine, 'saving')
  })
  afterAll(() => database.close())

  const save = (...batches: MessageRecord[][]) =>
    saveItems(
      database.app,
      batches.map((records, index) => ({ id: String(index), records })),
    )

  /** Rows of a tenant without the time of saving, in order. */
  const rowsOf = async (companyId: string): Promise<Record<string, unknown>[]> =>
    (
      await database.inTenant<{ row: Record<string, unknown> }>(
        companyId,
        `select to_jsonb(m) - 'saved_at' - 'updated_at' as row from chat_messages m order by session_id, sequence_number, id`,
      )
    ).map(({ row }) => row)

  // Embedded Postgres has one connection.
  test.runIf(engine === 'real')('a session that many make at one instant refuses none of them', async () => {
    for (let round = 0; round < AT_ONE_INSTANT.rounds; round += 1) {
      const records = conversation(AT_ONE_INSTANT.savers, { company_id: 'instant' })
      const refused = await Promise.all(records.map((one) => save([one])))
      expect(refused.flat()).toEqual([])
    }
  })

  test('a record becomes a row with every column', async () => {
    const [question, answer] = conversation(2, { company_id: 'columns' })
    if (!question || !answer) throw new Error('no conversation')
    Object.assign(answer, {
      model: 'm',
      token_count: 7,
      response_time_ms: 12,
      sources: [{ id: 's', title: '제목', score: 0.5 }],
      metadata: { finishReason: 'stop', 값: ['가'] },
    })
    expect(await save([question], [answer])).toEqual([])
    const [, row] = await rowsOf('columns')
    expect(row).toMatchObject({
      id: answer.id,
      session_id: answer.session_id,
      role: 'assistant',
      content: 'message 2',
      model: 'm',
      token_count: 7,
      response_time_ms: 12,
      status: 'complete',
      sources: answer.sources,
      metadata: answer.metadata,
      parent_message_id: question.id,
      sequence_number: 2,
      is_deleted: false,
      satisfaction_score: null,
    })
    expect(Date.parse(row?.created_at as string)).toBe(Date.parse(answer.created_at))
  })

  test('any order, any split and any repetition give the same rows', async () => {
    let run = 0
    const expected = new Map<string, unknown>()
    await fc.assert(
      fc.asyncProperty(fc.infiniteStream(fc.nat()), fc.integer({ min: 1, max: 6 }), async (stream, parts) => {
        run += 1
        const company = `shuffled ${run}`
        const session = '01890000-0000-7000-8000-000000000000'.replace(/.{4}$/, String(run).padStart(4, '0'))
        const records = conversation(8, { company_id: company, session_id: session })
        const twice = [...records, ...records]
          .map((one) => ({ one, key: stream.next().value ?? 0 }))
          .sort((a, b) => a.key - b.key)
          .map(({ one }) => one)
        const size = Math.ceil(twice.length / parts)
        for (let from = 0; from < twice.length; from += size)
          expect(await save(...twice.slice(from, from + size).map((one) => [one]))).toEqual([])
        const rows = await rowsOf(company)
        expect(rows.map(({ sequence_number }) => sequence_number)).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
        expect(rows.map(({ parent_message_id }) => parent_message_id)).toEqual([
          null,
          ...records.slice(0, -1).map(({ id }) => id),
        ])
        expected.set(company, rows)
      }),
      { numRuns: engine === 'real' ? 25 : 8 },
    )
    for (const [company, rows] of expected) expect(await rowsOf(company)).toEqual(rows)
  })

  test('does once what a record asks for, in any order and any repetition', async () => {
    const company_id = 'asking'
    const session_id = uuidv7()
    const id = uuidv7()
    const claim = { caller: 'u1', key: 'k', body_hash: 'h', message_id: id }
    const audit = { user_id: 'agent', role: 'agent', action: 'question.asked' } as const
    const question = record({
      company_id,
      session_id,
      on_save: { count: true, title: '제목', channel: 'web', claim, audit },
    })
    const answer = record({
      company_id,
      session_id,
      id,
      role: 'assistant',
      parent_message_id: question.id,
      sequence_number: 2,
      on_save: { count: true },
    })
    const better = { ...answer, content: `${answer.content} und mehr` }
    const later = record({
      company_id,
      session_id,
      sequence_number: 3,
      on_save: { count: true, title: '다음' },
    })
    for (const batch of [[later], [answer], [question, answer], [question], [better], [better, question]])
      expect(await save(batch)).toEqual([])
    const [row] = await database.inTenant(
      company_id,
      `select (select jsonb_agg(jsonb_build_object('count', message_count, 'title', title)) from chat_sessions) as sessions,
         (select jsonb_agg(to_jsonb(k) - 'created_at') from idempotency_keys k) as keys,
         (select jsonb_agg(jsonb_build_object('actor', actor_id, 'action', action, 'user', user_id, 'message', message_id))
           from audit_log) as audit`,
    )
    expect(row).toEqual({
      sessions: [{ count: 3, title: '제목' }],
      keys: [
        {
          company_id,
          platform: 'web',
          user_id: 'u1',
          key: 'k',
          body_hash: 'h',
          session_id,
          user_message_id: question.id,
          message_id: id,
        },
      ],
      audit: [{ actor: 'agent', action: 'question.asked', user: 'u1', message: question.id }],
    })
  })

  test('counts only what nobody has counted', async () => {
    const company_id = 'counting'
    const [question, answer, ...more] = conversation(4, { company_id })
    if (!question || !answer) throw new Error('no conversation')
    await save([question])
    await save([answer, ...more.map((one) => ({ ...one, on_save: { count: true } as const }))])
    expect(await database.inTenant(company_id, 'select message_count from chat_sessions')).toEqual([
      { message_count: 3 },
    ])
  })

  test('of several versions of a message the better one stays, whatever comes first', async () => {
    const versions = (['interrupted', 'stopped', 'complete'] as const).map((status) => ({
      status,
      content: status,
    }))
    const orders = [
      [0, 1, 2],
      [2, 1, 0],
      [1, 2, 0],
      [2, 0, 1],
    ]
    for (const order of orders) {
      const apart = record({ company_id: 'versions', role: 'assistant' })
      const together = record({ company_id: 'versions', role: 'assistant' })
      for (const index of order) await save([{ ...apart, ...versions[index] }])
      await save(order.map((index) => ({ ...together, ...versions[index] })))
      const rows = await rowsOf('versions')
      for (const { id } of [apart, together])
        expect(rows.find((row) => row.id === id)).toMatchObject({ status: 'complete', content: 'complete' })
    }
  })

  test('of two interrupted versions the longer one stays, whatever comes first', async () => {
    const versions = ['what a rescuer found', 'what a rescuer found, and what its writer had besides']
    for (const order of [versions, versions.toReversed()]) {
      const answer = record({ company_id: 'longer', role: 'assistant', status: 'interrupted' })
      for (const content of order) await save([{ ...answer, content }])
      expect((await rowsOf('longer')).find(({ id }) => id === answer.id)).toMatchObject({
        content: versions[1],
      })
    }
  })

  test('a bad record fails alone, wherever it stands in the batch', async () => {
    const taken = record({ company_id: 'somebody' })
    await save([taken])
    for (const place of [0, 3, 6]) {
      const items = Array.from({ length: 7 }, (_, index) => ({
        id: String(index),
        records: [
          index === place
            ? record({ company_id: 'bad', session_id: taken.session_id })
            : record({ company_id: `good ${place}` }),
        ],
      }))
      expect(await saveItems(database.app, items)).toEqual([{ id: String(place), reason: '23505' }])
      expect(await rowsOf(`good ${place}`)).toHaveLength(6)
    }
    expect(await rowsOf('bad')).toEqual([])
  })

  test('a batch of many tenants is one call, and each row lands in its own tenant', async () => {
    const counting = countingCalls(database.app)
    const items = Array.from({ length: 60 }, (_, index) => ({
      id: String(index),
      records: [record({ company_id: `tenant ${index % 20}` })],
    }))
    expect(await saveItems(counting.database, items)).toEqual([])
    expect(counting.calls()).toBe(1)
    for (let index = 0; index < 20; index += 1) expect(await rowsOf(`tenant ${index}`)).toHaveLength(3)
  })

  test('a batch above the request limit is split, and nothing of it is lost', async () => {
    const counting = countingCalls(database.app)
    const items = Array.from({ length: 300 }, (_, index) => ({
      id: String(index),
      records: [record({ company_id: 'large batch', content: '"'.repeat(12_000) })],
    }))
    expect(await saveItems(counting.database, items)).toEqual([])
    expect(counting.calls()).toBeGreaterThan(1)
    expect(counting.calls()).toBeLessThan(12)
    const rows = await database.inTenant('large batch', 'select count(*)::int as n from chat_messages')
    expect(rows).toEqual([{ n: 300 }])
  })

  test('a message that comes before its session’s row makes one, and activity never goes back', async () => {
    const session_id = uuidv7()
    const at = (time: string) =>
      record({ company_id: 'activity', session_id, user_id: 'owner', created_at: time })
    await save([at('2026-01-02T00:00:00Z')], [at('2026-01-03T00:00:00Z')])
    await save([at('2026-01-01T00:00:00Z')])
    const [session] = await database.app.callFor<Record<string, string>>(
      { companyId: 'activity', platform: 'web' },
      'get_session',
      [{ jsonb: { user_id: 'owner', role: 'user' } }, { uuid: session_id }],
    )
    expect(session).toMatchObject({ user_id: 'owner' })
    expect(session?.last_active_at).toContain('2026-01-03')
    expect(session?.expires_at).toContain('2026-01-04')
  })

  test('feedback and deletion that came first are not undone by a later, better version', async () => {
    const answer = record({
      company_id: 'changed',
      role: 'assistant',
      status: 'interrupted',
      content: 'half',
    })
    await save([answer])
    await database.inTenant(
      'changed',
      `update chat_messages set satisfaction_score = 5, feedback_comment = 'good', is_deleted = true`,
    )
    await save([{ ...answer, status: 'complete', content: 'whole' }])
    expect(await rowsOf('changed')).toMatchObject([
      {
        content: 'whole',
        status: 'complete',
        satisfaction_score: 5,
        feedback_comment: 'good',
        is_deleted: true,
      },
    ])
  })
})

describe('the statement', () => {
  test('is not blamed on a record when the environment is at fault', async () => {
    const refused = (sqlState: string) => Object.assign(new Error('refused'), { sqlState })
    for (const sqlState of ['42883', '42501', '28P01', '53300', '57014']) {
      const broken = { call: () => Promise.reject(refused(sqlState)) } as unknown as Database
      await expect(saveItems(broken, [{ id: '1', records: [record()] }])).rejects.toMatchObject({ sqlState })
    }
  })
})
