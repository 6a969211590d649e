/** What has left for the archive comes back where a turn or a change needs it, and goes on from there. */
import { randomUUID } from 'node:crypto'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { type ThawServices, thawing, thawLeft } from '../../lambdas/ageing/thaw.ts'
import { stowText } from '../../lambdas/messages/large-text.ts'
import {
  deleteMessage,
  leaveFeedback,
  listMessages,
  type MessageServices,
} from '../../lambdas/messages/messages.ts'
import type { Caller } from '../../lambdas/protocol/callers.ts'
import { CodedError } from '../../lambdas/protocol/errors.ts'
import type { Admission } from '../../lambdas/protocol/limits.ts'
import type { Metric } from '../../lambdas/protocol/metrics.ts'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'
import type { Archived, HotStore, OpenedTurn, TurnRequest } from '../../lambdas/services/hot-store.ts'
import { openPostgresHotStore } from '../../lambdas/services/postgres-hot-store.ts'
import { openSessionSource } from '../../lambdas/services/postgres-session-source.ts'
import { oldConversation, siblingOf, startTestArchive, type TestArchive } from '../harness/archive.ts'
import { onBothEngines } from '../harness/database.ts'
import { answerTo, askIn, done, leaseOf, opened, refused } from '../harness/hot-store.ts'

const HISTORY = 5

onBothEngines('what has left for the archive', (engine) => {
  let archive: TestArchive
  let services: MessageServices
  let store: HotStore
  let company = ''
  let counted: Metric[] = []
  beforeAll(async () => {
    archive = await startTestArchive(engine, 'thawing')
    const { app } = archive.database
    store = openPostgresHotStore(app, { leaseSeconds: 60, historyMessages: HISTORY })
    services = { database: app, bucket: archive.bucket, count: (metric) => void counted.push(metric) }
  })
  afterAll(() => archive.close())
  beforeEach(() => {
    company = `company ${randomUUID()}`
    counted = []
  })

  const tenant = () => ({ companyId: company, platform: 'web' })
  const caller = (): Caller => ({ ...tenant(), userId: 'u1', role: 'user' })
  const sql = <Row = Record<string, unknown>>(text: string) => archive.database.inTenant<Row>(company, text)
  const old = (length: number, days: number, changes: Partial<MessageRecord> = {}) =>
    oldConversation(length, days, { company_id: company, ...changes })
  const rows = async () =>
    (
      await sql<{ line: string }>(
        `select to_jsonb(m)::text as line from chat_messages m where company_id = '${company}' order by id`,
      )
    ).map(({ line }) => line)
  const idsHere = async () =>
    (
      await sql<{ id: string }>(
        `select id from chat_messages where company_id = '${company}' order by sequence_number, id`,
      )
    ).map(({ id }) => id)
  const run = (afterDays = 30) => archive.run(company, {}, { afterDays })
  const ask = (changes: Parameters<typeof askIn>[1]) => askIn(tenant(), changes)
  const open = (request: TurnRequest) => opened(thawing(services, tenant(), () => store.openTurn(request)))
  const contents = ({ history }: OpenedTurn) => history.map(({ content }) => content)
  const archivedIn = (answer: unknown): Archived => {
    expect(answer).toMatchObject({ outcome: 'archived' })
    return answer as Archived
  }

  /** A session that nobody has used for so long that all of it has left. */
  async function gone(length: number, changes: Partial<MessageRecord> = {}): Promise<MessageRecord[]> {
    const messages = old(length, 300, changes)
    await archive.save(messages)
    await run()
    expect(await idsHere()).toEqual([])
    return messages
  }
  const sessionOf = ([message]: MessageRecord[]) => message?.session_id ?? ''

  async function answered(request: TurnRequest, turn: OpenedTurn, content: string): Promise<MessageRecord> {
    const lease = leaseOf(tenant(), request.messageId)
    const answer = answerTo(turn, request.messageId, content)
    await store.close(lease, [], answer)
    await store.finish(lease, { id: 1, event: done(turn, request.messageId) })
    return answer
  }

  test('is told of when a turn is opened, and nothing is changed', async () => {
    const messages = await gone(8)
    const before = await sql(`select to_jsonb(s) as s from chat_sessions s where company_id = '${company}'`)
    const answer = archivedIn(await store.openTurn(ask({ sessionId: sessionOf(messages) })))
    expect(answer.archived).toMatchObject([{ message_id: messages[7]?.id, wanted: HISTORY }])
    expect(await sql(`select to_jsonb(s) as s from chat_sessions s where company_id = '${company}'`)).toEqual(
      before,
    )
    expect(await sql(`select 1 as one from chat_turns where company_id = '${company}'`)).toEqual([])
    expect(await idsHere()).toEqual([])
  })

  test('is the history of a conversation that goes on after months, at the next position', async () => {
    const messages = await gone(8, { content: '안녕 😀' })
    const request = ask({ sessionId: sessionOf(messages) })
    const turn = await open(request)
    expect(turn.history.map(({ id }) => id)).toEqual(messages.slice(-HISTORY).map(({ id }) => id))
    expect(turn.question).toMatchObject({ sequence_number: 9, parent_message_id: messages[7]?.id })
    expect(turn.created).toBe(false)
    await archive.save([turn.question, await answered(request, turn, '다시 만나서 반가워요')])
    const { items } = await listMessages(services, caller(), sessionOf(messages), {
      limit: 100,
      order: 'asc',
    })
    expect(items.map(({ sequenceNumber }) => sequenceNumber)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    // As many as are needed, and no more.
    expect(await idsHere()).toHaveLength(HISTORY + 2)
  })

  test('is followed through segment after segment', async () => {
    const sessionId = uuidv7()
    const messages = old(30, 90, { session_id: sessionId })
    await archive.save(messages)
    for (let upTo = 2; upTo <= 30; upTo += 2) {
      await sql(`update chat_messages set created_at = case when sequence_number <= ${upTo} then now() - interval '90 days' else now() - interval '1 day' end
        where company_id = '${company}'`)
      await sql(
        `update chat_sessions set last_active_at = now(), created_at = now() - interval '90 days' where company_id = '${company}'`,
      )
      await run()
    }
    expect(await archive.segments(company)).toHaveLength(15)
    await sql(
      `insert into tenant_settings (company_id, platform, settings) values ('${company}', 'web', '{"historyMessages": 20}')`,
    )
    const turn = await open(ask({ sessionId }))
    expect(turn.history.map(({ id }) => id)).toEqual(messages.slice(-20).map(({ id }) => id))
  })

  test('comes back as the row that it was, whatever is in it', async () => {
    const [first, second, third, fourth] = old(4, 300) as [
      MessageRecord,
      MessageRecord,
      MessageRecord,
      MessageRecord,
    ]
    const large = await stowText(archive.bucket, { ...second, content: '큰 글 😀 "\\\n'.repeat(10_000) })
    await archive.save([first, large, { ...third, metadata: { 'content":': '"},' } }, fourth])
    await sql(`update chat_messages set metadata = '{"big": 9007199254740993, "small": 1.50, "텍스트": "😀"}', priority = '긴급', langsmith_trace_id = 't',
      sources = '[{"id": "1", "title": "배송", "score": 0.123456789012345678}]' where id = '${fourth.id}'`)
    await leaveFeedback(services, caller(), large.id, { score: 3, comment: '글쎄 "요"' })
    const before = await rows()
    await run()
    expect(await rows()).toEqual([])
    const { history } = await open(ask({ sessionId: first.session_id }))
    expect(history).toHaveLength(4)
    expect(await rows()).toEqual(before)
  })

  test('may be named as a parent, and in another session it may not', async () => {
    const messages = await gone(6)
    const turn = await open(ask({ sessionId: sessionOf(messages), parentMessageId: messages[3]?.id ?? '' }))
    expect(turn.question).toMatchObject({ sequence_number: 5, parent_message_id: messages[3]?.id })
    expect(contents(turn)).toEqual(['message 1', 'message 2', 'message 3', 'message 4'])

    const others = old(2, 300)
    await archive.save(others)
    await run()
    const before = await idsHere()
    const wrong = ask({ sessionId: sessionOf(others), parentMessageId: messages[5]?.id ?? '' })
    expect(await refused(thawing(services, tenant(), () => store.openTurn(wrong)))).toMatchObject({
      code: 'invalid_request',
    })
    expect(await idsHere()).toEqual(before)
  })

  test.each([
    ['a question', 4],
    ['an answer', 5],
  ])('is answered again where it is %s', async (_, index) => {
    const messages = await gone(6)
    const request = {
      tenant: tenant(),
      ownedBy: 'u1',
      target: messages[index]?.id ?? '',
      messageId: uuidv7(),
    }
    const turn = await opened(thawing(services, tenant(), () => store.reopenTurn(request)))
    expect(turn.question.id).toBe(messages[4]?.id)
    expect(turn.answerSequenceNumber).toBe(6)
    expect(contents(turn)).toEqual(['message 1', 'message 2', 'message 3', 'message 4'])
  })

  test('is not brought back for a user whose it is not', async () => {
    const messages = await gone(4)
    const stranger = { ...caller(), userId: 'u2' }
    const again = { tenant: tenant(), ownedBy: 'u2', target: messages[3]?.id ?? '', messageId: uuidv7() }
    for (const attempt of [
      () => thawing(services, tenant(), () => store.reopenTurn(again)),
      () =>
        thawing(services, tenant(), () =>
          store.openTurn(ask({ sessionId: sessionOf(messages), ownedBy: 'u2' })),
        ),
      () => leaveFeedback(services, stranger, messages[3]?.id ?? '', { score: 1 }),
      () => deleteMessage(services, stranger, messages[3]?.id ?? ''),
    ])
      expect(await refused(attempt())).toMatchObject({ code: 'not_found' })
    expect(await store.requestStop(tenant(), 'u2', messages[3]?.id ?? '')).toBeUndefined()
    expect(await store.requestStop(tenant(), 'u1', messages[3]?.id ?? '')).toEqual({
      finished: true,
      lapsed: false,
    })
    expect(await idsHere()).toEqual([])
  })

  test('is the newest answer also where an older one was brought back for a change', async () => {
    const messages = await gone(8)
    await leaveFeedback(services, caller(), messages[1]?.id ?? '', { score: 5 })
    expect(await idsHere()).toEqual([messages[1]?.id])
    const turn = await open(ask({ sessionId: sessionOf(messages) }))
    expect(turn.question).toMatchObject({ sequence_number: 9, parent_message_id: messages[7]?.id })
  })

  test('is followed by the newest answer that is left where the newest one is deleted', async () => {
    const messages = old(6, 300)
    const sibling = {
      ...siblingOf(messages[5] as MessageRecord, '다른 답'),
      created_at: messages[5]?.created_at ?? '',
    }
    await archive.save([
      ...messages,
      sibling,
      ...old(2, 299, { session_id: sessionOf(messages), thread_id: 'other' }),
    ])
    await run()
    const newestIs = async () => {
      const answer = await open(ask({ sessionId: sessionOf(messages) }))
      await sql(`delete from chat_turns where company_id = '${company}'`)
      return answer.question.parent_message_id
    }
    const [last, next] = [messages[5]?.id ?? '', sibling.id].sort().reverse()
    for (const [deleted, expected] of [
      [last, next],
      [next, messages[3]?.id],
      [messages[3]?.id, messages[1]?.id],
      [messages[1]?.id, null],
    ]) {
      await deleteMessage(services, caller(), deleted ?? '')
      expect(await newestIs()).toBe(expected)
    }
    await run()
    expect(await newestIs()).toBeNull()
    expect(
      (await open(ask({ sessionId: sessionOf(messages), threadId: 'other' }))).question.sequence_number,
    ).toBe(3)
  })

  test('is replayed by its key, and a key of a stranger’s tenant finds nothing', async () => {
    const request = ask({ sessionId: uuidv7(), idempotency: { caller: 'u1', key: 'k', bodyHash: 'h' } })
    const turn = await opened(store.openTurn(request))
    const answer = await answered(request, turn, '저장된 답')
    await archive.save([turn.question, answer])
    await sql(
      `update chat_turns set opened_at = opened_at - interval '10 months', finished_at = finished_at - interval '10 months' where company_id = '${company}'`,
    )
    await sql(
      `update chat_messages set created_at = created_at - interval '10 months' where company_id = '${company}'`,
    )
    await sql(
      `update chat_sessions set last_active_at = last_active_at - interval '10 months', created_at = created_at - interval '10 months' where company_id = '${company}'`,
    )
    await run()
    expect(await idsHere()).toEqual([])
    expect(await store.openTurn({ ...request, messageId: uuidv7() })).toMatchObject({
      outcome: 'claimed',
      messageId: request.messageId,
    })
    const read = await thawing(services, tenant(), () =>
      store.readTurn(tenant(), turn.question.id, answer.id),
    )
    expect(read).toMatchObject({
      question: { id: turn.question.id },
      answer: { content: '저장된 답' },
      sessionMessageCount: 2,
    })
    const stranger = { companyId: 'stranger', platform: 'web' }
    expect(await store.readTurn(stranger, turn.question.id, answer.id)).toBeUndefined()
  })

  test('is loaded for a cache, as much as it keeps', async () => {
    const messages = await gone(30)
    const source = openSessionSource(archive.database.app, { save: async () => undefined })
    const wanted = {
      sessionId: sessionOf(messages),
      threadId: 'main',
      ownedBy: 'u1',
      named: false,
      from: null,
      make: undefined,
      count: 20,
    }
    const loaded = await thawing(services, tenant(), () => source.load(tenant(), wanted))
    expect(loaded).toMatchObject({ outcome: 'loaded', userId: 'u1', newest: { id: messages[29]?.id } })
    if (loaded.outcome === 'loaded')
      expect(loaded.messages.map(({ id }) => id)).toEqual(
        messages
          .slice(-20)
          .reverse()
          .map(({ id }) => id),
      )
    const named = { ...wanted, named: true, from: messages[3]?.id ?? '' }
    const again = await thawing(services, tenant(), () => source.load(tenant(), named))
    if (again.outcome === 'loaded') expect(again.messages.map(({ id }) => id)).toContain(messages[3]?.id)
    expect(again.outcome).toBe('loaded')
    expect(archivedIn(await source.findMessage(tenant(), messages[5]?.id ?? '')).archived).toHaveLength(1)
  })

  test('is counted once by the limits', async () => {
    const messages = await gone(4)
    const remaining: number[] = []
    const admission: Admission = {
      checks: [{ kind: 'user', tenant: tenant(), key: 'u1', limit: 10, windowSeconds: 60 }],
      settle: (states) => void remaining.push(...states.map((state) => state.remaining)),
    }
    await open({ ...ask({ sessionId: sessionOf(messages) }), admission })
    expect(remaining).toEqual([9])
  })

  test('is not brought back by a record that comes once more, nor counted again', async () => {
    const messages = await gone(4)
    await leaveFeedback(services, caller(), messages[1]?.id ?? '', { score: 5, comment: '좋아요' })
    await run()
    const session = () => sql(`select message_count from chat_sessions where company_id = '${company}'`)
    const usage = () =>
      sql(`select to_jsonb(u) as u from usage_daily u where company_id = '${company}' order by user_id`)
    const before = [await session(), await usage()]
    await archive.save(messages)
    expect(await idsHere()).toEqual([])
    expect([await session(), await usage()]).toEqual(before)
    // A message that never was here is saved, however old; one that was brought back stays as it is.
    const late = {
      ...old(1, 200, { session_id: sessionOf(messages) })[0],
      sequence_number: 5,
    } as MessageRecord
    await leaveFeedback(services, caller(), messages[3]?.id ?? '', { score: 2 })
    await archive.save([...messages, late])
    expect(await idsHere()).toEqual([messages[3]?.id, late.id])
    expect(
      await sql(`select satisfaction_score as score from chat_messages where id = '${messages[3]?.id}'`),
    ).toEqual([{ score: 2 }])
  })

  test('is not brought back in an older version by somebody who was slow', async () => {
    const messages = await gone(4)
    const request = ask({ sessionId: sessionOf(messages) })
    const slow = archivedIn(await store.openTurn(request))
    await leaveFeedback(services, caller(), messages[3]?.id ?? '', { score: 5 })
    await run()
    let asked = 0
    await opened(
      thawing(services, tenant(), async () => {
        asked += 1
        return asked === 1 ? slow : store.openTurn(request)
      }),
    )
    expect(
      await sql(`select satisfaction_score as score from chat_messages where id = '${messages[3]?.id}'`),
    ).toEqual([{ score: 5 }])
  })

  test('may be brought back in parts: whoever dies in between leaves nothing twice', async () => {
    const messages = await gone(8)
    const request = ask({ sessionId: sessionOf(messages) })
    const dying: ThawServices = {
      ...services,
      database: {
        ...services.database,
        callFor: async (...call) => {
          const [of, operation, args] = call
          if (operation !== 'thaw_messages') return services.database.callFor(...call)
          // Only the first of them has arrived.
          const [first] = JSON.parse((args[0] as { text: string }).text)
          await services.database.callFor(of, operation, [{ text: JSON.stringify([first]) }])
          throw new Error('killed')
        },
      },
    }
    await expect(thawing(dying, tenant(), () => store.openTurn(request))).rejects.toThrow('killed')
    expect(await idsHere()).toEqual([messages[7]?.id])
    const turn = await open(request)
    expect(turn.history.map(({ id }) => id)).toEqual(messages.slice(-HISTORY).map(({ id }) => id))
    const here = await idsHere()
    expect(here).toEqual(messages.slice(-here.length).map(({ id }) => id))
  })

  test('comes back once for many who want it at once, while the archiver takes it away', async () => {
    const messages = await gone(12)
    const sessionId = sessionOf(messages)
    let isOver = false
    const running = (async () => {
      while (!isOver) await run(1)
    })()
    const changes = messages.map(async ({ id }, index) => {
      for (let time = 0; time < 3; time += 1)
        await leaveFeedback(services, caller(), id, { score: 1 + ((index + time) % 5) })
    })
    const reads = Array.from({ length: 5 }, async () => {
      const { items } = await listMessages(services, caller(), sessionId, { limit: 100, order: 'asc' })
      expect(items.map(({ messageId }) => messageId)).toEqual(messages.map(({ id }) => id))
    })
    try {
      await Promise.all([...changes, ...reads])
    } finally {
      isOver = true
      await running
    }
    await run(1)
    const { items } = await listMessages(services, caller(), sessionId, { limit: 100, order: 'asc' })
    expect(items.map(({ messageId, satisfactionScore }) => [messageId, satisfactionScore])).toEqual(
      messages.map(({ id }, index) => [id, 1 + ((index + 2) % 5)]),
    )
    const turns = await Promise.allSettled(
      Array.from({ length: 4 }, () => thawing(services, tenant(), () => store.openTurn(ask({ sessionId })))),
    )
    expect(turns.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    for (const turn of turns)
      if (turn.status === 'rejected') expect(turn.reason).toMatchObject({ code: 'reply_in_progress' })
    expect(counted).toEqual([])
  }, 60_000)

  test('that cannot be read refuses the turn, and counts it', async () => {
    const messages = await gone(4)
    const [segment] = await archive.segments(company)
    await archive.bucket.delete(segment?.object_key ?? '')
    expect(await refused(open(ask({ sessionId: sessionOf(messages) })))).toMatchObject({
      code: 'unavailable',
    })
    expect(counted).toEqual(['ArchiveUnreadable'])
    const root = await open(ask({ sessionId: sessionOf(messages), parentMessageId: null }))
    expect(root.question.sequence_number).toBe(1)
  })

  /** As an answer asks for it: what cannot be read is left out. */
  const openWithout = (request: TurnRequest) =>
    opened(
      thawing(
        services,
        tenant(),
        () => store.openTurn(request),
        () => store.openTurn({ ...request, withoutArchived: true }),
      ),
    )
  const damage = async (index = 0): Promise<void> => {
    const segment = (await archive.segments(company)).at(index)
    await archive.bucket.put(segment?.object_key ?? '', 'damaged')
  }

  test('comes back for versions that come late, as far as the archive can be read', async () => {
    const [whole, broken] = [await gone(2), await gone(2)]
    const ids = [...whole, ...broken].map(({ id }) => id)
    const lost: string[] = []
    await damage(1)
    await thawLeft(services, tenant(), [...ids, uuidv7()], (id) => lost.push(id))
    expect((await idsHere()).sort()).toEqual(whole.map(({ id }) => id).sort())
    expect(lost.sort()).toEqual(broken.map(({ id }) => id).sort())
  })

  test('that cannot be read is left out, and the question follows it all the same', async () => {
    const messages = await gone(8)
    await damage()
    const request = ask({ sessionId: sessionOf(messages) })
    const turn = await openWithout(request)
    expect(turn.history).toEqual([])
    expect(turn.question).toMatchObject({ sequence_number: 9, parent_message_id: messages[7]?.id })
    expect(counted).toEqual(['ArchiveUnreadable'])
    expect(await idsHere()).toEqual([])
    await archive.save([turn.question, await answered(request, turn, '다시')])
    const next = await openWithout(ask({ sessionId: sessionOf(messages) }))
    expect(contents(next)).toEqual([turn.question.content, '다시'])
    expect(next.question.sequence_number).toBe(11)
  })

  test('is the history as far as it can be read', async () => {
    const messages = old(8, 300)
    await archive.save(messages.slice(0, 5))
    await run()
    await archive.save(messages.slice(5))
    await run()
    expect(await archive.segments(company)).toHaveLength(2)
    await damage()
    const turn = await openWithout(ask({ sessionId: sessionOf(messages) }))
    expect(turn.history.map(({ id }) => id)).toEqual(messages.slice(5).map(({ id }) => id))
    expect(turn.question).toMatchObject({ sequence_number: 9, parent_message_id: messages[7]?.id })
    // It is asked for again by each question that it would belong to.
    await sql(`delete from chat_turns where company_id = '${company}'`)
    expect((await openWithout(ask({ sessionId: sessionOf(messages) }))).history).toHaveLength(3)
    expect(counted).toEqual(['ArchiveUnreadable', 'ArchiveUnreadable'])
  })

  test('that a client names has to be readable, and so has what is answered again', async () => {
    const messages = await gone(6)
    await damage()
    const parentMessageId = messages[3]?.id ?? ''
    const again = { tenant: tenant(), ownedBy: 'u1', target: messages[5]?.id ?? '', messageId: uuidv7() }
    for (const attempt of [
      () => openWithout(ask({ sessionId: sessionOf(messages), parentMessageId })),
      () =>
        thawing(
          services,
          tenant(),
          () => store.reopenTurn(again),
          () => store.reopenTurn({ ...again, withoutArchived: true }),
        ),
    ])
      expect(await refused(attempt())).toMatchObject({ code: 'unavailable' })
    expect(await sql(`select 1 as one from chat_turns where company_id = '${company}'`)).toEqual([])
  })

  test('and that is merely out of reach refuses the turn', async () => {
    const messages = await gone(4)
    const away: ThawServices = {
      ...services,
      bucket: { getRange: () => Promise.reject(new CodedError('unavailable', 'The bucket is away.')) },
    }
    const request = ask({ sessionId: sessionOf(messages) })
    const attempt = thawing(
      away,
      tenant(),
      () => store.openTurn(request),
      () => store.openTurn({ ...request, withoutArchived: true }),
    )
    expect(await refused(attempt)).toMatchObject({ code: 'unavailable' })
    expect(counted).toEqual([])
  })

  test('of which the newest answer is deleted, and the rest cannot be read, is followed at its place', async () => {
    const messages = await gone(6)
    await deleteMessage(services, caller(), messages[5]?.id ?? '')
    await damage()
    const request = ask({ sessionId: sessionOf(messages) })
    const turn = await openWithout(request)
    expect(turn.question).toMatchObject({ sequence_number: 7, parent_message_id: messages[5]?.id })
    expect(turn.history).toEqual([])
    await sql(`delete from chat_turns where company_id = '${company}'`)
    const source = openSessionSource(archive.database.app, { save: async () => undefined })
    const wanted = { ...request, from: null, named: false, make: undefined, count: 20, withoutArchived: true }
    expect(await source.load(tenant(), wanted)).toMatchObject({
      outcome: 'loaded',
      newest: { id: messages[5]?.id },
      messages: [{ id: messages[5]?.id, content: '', is_deleted: false, sequence_number: 6 }],
    })
  })
})
