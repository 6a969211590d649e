/** Reading a session of which a part, or all, is in the archive. */
import { randomUUID } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { sha256Of } from '../../lambdas/ageing/segments.ts'
import { stowText } from '../../lambdas/messages/large-text.ts'
import {
  deleteMessage,
  leaveFeedback,
  listMessages,
  type MessageServices,
} from '../../lambdas/messages/messages.ts'
import type { Caller } from '../../lambdas/protocol/callers.ts'
import type { MessageListQuery } from '../../lambdas/protocol/messages.ts'
import type { Metric } from '../../lambdas/protocol/metrics.ts'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'
import { collectors } from '../../lambdas/rights/collectors.ts'
import { openPostgresHotStore } from '../../lambdas/services/postgres-hot-store.ts'
import {
  oldConversation,
  PSEUDONYM_KEY,
  siblingOf,
  startTestArchive,
  type TestArchive,
} from '../harness/archive.ts'
import { onBothEngines } from '../harness/database.ts'
import { answerTo, askIn, done, leaseOf, opened } from '../harness/hot-store.ts'

const LARGE = '가나다 😀 "quoted" \\ '.repeat(6_000)

onBothEngines('reading through the archive', (engine) => {
  let archive: TestArchive
  let company = ''
  let counted: Metric[] = []
  let reads = 0
  let calls: string[] = []
  let services: MessageServices
  beforeAll(async () => {
    archive = await startTestArchive(engine, 'reading')
    const { app } = archive.database
    services = {
      database: {
        ...app,
        callFor: (tenant, operation, args) => {
          calls.push(operation)
          return app.callFor(tenant, operation, args)
        },
      },
      bucket: {
        ...archive.bucket,
        getRange: (key, range) => {
          reads += 1
          return archive.bucket.getRange(key, range)
        },
      },
      count: (metric) => void counted.push(metric),
    }
  })
  afterAll(() => archive.close())
  beforeEach(() => {
    company = `company ${randomUUID()}`
    counted = []
    forget()
  })

  const forget = (): void => {
    reads = 0
    calls = []
  }
  const caller = (): Caller => ({ companyId: company, platform: 'web', userId: 'u1', role: 'user' })
  const sql = <Row = Record<string, unknown>>(text: string) => archive.database.inTenant<Row>(company, text)
  const old = (length: number, days: number, changes: Partial<MessageRecord> = {}) =>
    oldConversation(length, days, { company_id: company, ...changes })
  const page = (sessionId: string, query: Partial<MessageListQuery> = {}) =>
    listMessages(services, caller(), sessionId, { limit: 20, order: 'asc', ...query })

  /** Every page of a list, as it leaves. */
  async function pages(sessionId: string, query: Partial<MessageListQuery>): Promise<string> {
    const all: string[] = []
    let after: number | undefined
    for (;;) {
      const one = await page(sessionId, { ...query, ...(after !== undefined && { after }) })
      all.push(JSON.stringify(one))
      if (one.nextAfter === null) return all.join('\n')
      after = one.nextAfter
    }
  }

  const SOME = [1, 3, 7, 20, 100]
  const ALL =
    engine === 'real' && process.env.DRILLS === 'long'
      ? Array.from({ length: 100 }, (_, index) => index + 1)
      : SOME
  async function everyList(sessionId: string, limits = SOME): Promise<Record<string, string>> {
    const lists: Record<string, string> = {}
    for (const order of ['asc', 'desc'] as const)
      for (const threadId of [undefined, 'main', '옆 가지 🌿', 'no such thread'])
        for (const limit of threadId === undefined ? limits : SOME)
          lists[`${order} ${threadId} ${limit}`] = await pages(sessionId, {
            order,
            limit,
            ...(threadId !== undefined && { threadId }),
          })
    return lists
  }

  /** A session with everything in it: branches, threads, deleted and large ones, and Korean. Oldest first. */
  async function eventful(sessionId: string): Promise<MessageRecord[]> {
    const shared = { session_id: sessionId }
    const main = old(24, 80, shared)
    const other = old(9, 60, { ...shared, thread_id: '옆 가지 🌿', content: '안녕 😀 "\\\n' })
    const later = old(10, 40, shared).map((message, index, all) => ({
      ...message,
      sequence_number: message.sequence_number + main.length,
      parent_message_id: (index === 0 ? main.at(-1)?.id : all[index - 1]?.id) ?? null,
    }))
    const siblings = [5, 5, 11, 17].map((index, count) =>
      siblingOf(main[index] as MessageRecord, `또 다른 답 ${count}`),
    )
    const large = await stowText(archive.bucket, siblingOf(later[3] as MessageRecord, LARGE))
    const interrupted = { ...siblingOf(later[5] as MessageRecord, ''), status: 'interrupted' as const }
    const saved = [...main, ...other, ...later, ...siblings, large, interrupted]
    await archive.save(saved)
    const recent = old(6, 2, shared).map((message, index, all) => ({
      ...message,
      sequence_number: message.sequence_number + main.length + later.length,
      parent_message_id: (index === 0 ? later.at(-1)?.id : all[index - 1]?.id) ?? null,
    }))
    await archive.save(recent)
    await sql(`update chat_messages set metadata = '{"n": 9007199254740993, "텍스트": "😀"}', sources = '[{"id": "1", "title": "배송", "score": 0.5}]',
      priority = '긴급', updated_at = updated_at where id in ('${main[2]?.id}', '${recent[2]?.id}')`)
    await leaveFeedback(services, caller(), main[3]?.id ?? '', { score: 4, comment: '좋아요' })
    await deleteMessage(services, caller(), main[7]?.id ?? '')
    await deleteMessage(services, caller(), recent[1]?.id ?? '')
    return [...saved, ...recent]
  }

  /** A turn that has its answer, and that nobody has saved. */
  async function unsaved(sessionId: string): Promise<void> {
    const store = openPostgresHotStore(archive.database.app, { leaseSeconds: 60, historyMessages: 5 })
    const request = askIn({ companyId: company, platform: 'web' }, { sessionId })
    const turn = await opened(store.openTurn(request))
    const lease = leaseOf(request.tenant, request.messageId)
    await store.close(lease, [], answerTo(turn, request.messageId, '저장되지 않은 답'))
    await store.finish(lease, { id: 1, event: done(turn, request.messageId) })
  }

  test('a session reads as if nothing had left, page by page and byte for byte', async () => {
    const sessionId = uuidv7()
    await eventful(sessionId)
    await unsaved(sessionId)
    const before = await everyList(sessionId, ALL)
    expect(before['asc undefined 100']).toContain('저장되지 않은 답')
    expect(before['asc undefined 100']).toContain('가나다')

    await archive.run(company, {}, { afterDays: 70 })
    expect(before).toMatchObject(await everyList(sessionId))
    await archive.run(company, {}, { afterDays: 30 })
    expect((await archive.segments(company)).filter(({ state }) => state === 'live')).toHaveLength(2)
    expect(await sql(`select count(*)::int as n from chat_messages where company_id = '${company}'`)).toEqual(
      [{ n: 6 }],
    )
    expect(await everyList(sessionId, ALL)).toEqual(before)
  }, 240_000)

  test('one that has left whole does, too, and what comes back for a change and leaves again', async () => {
    const sessionId = uuidv7()
    const messages = await eventful(sessionId)
    await sql(
      `update chat_sessions set last_active_at = now() - interval '90 days' where company_id = '${company}'`,
    )
    await archive.run(company, {}, { afterDays: 1 })
    expect(await sql(`select count(*)::int as n from chat_messages where company_id = '${company}'`)).toEqual(
      [{ n: 0 }],
    )
    const [first, , , , , sixth] = messages
    await leaveFeedback(services, caller(), sixth?.id ?? '', { score: 2, comment: '별로' })
    await deleteMessage(services, caller(), first?.id ?? '')
    await sql(`update chat_messages set created_at = created_at where company_id = '${company}'`)
    const changed = await everyList(sessionId)
    const { items } = await page(sessionId, { limit: 100 })
    expect(items.find(({ messageId }) => messageId === sixth?.id)).toMatchObject({ satisfactionScore: 2 })
    expect(items.map(({ messageId }) => messageId)).not.toContain(first?.id)

    await archive.run(company, {}, { afterDays: 1 })
    // It hides its copy, and waits to be purged with it.
    expect(await sql(`select id from chat_messages where company_id = '${company}'`)).toEqual([
      { id: first?.id },
    ])
    expect(await archive.segments(company)).toHaveLength(2)
    expect(await everyList(sessionId)).toEqual(changed)
  }, 240_000)

  test('without an archive nothing more is asked; with one, each segment that a page touches once', async () => {
    const sessionId = uuidv7()
    await archive.save(old(30, 80, { session_id: sessionId }))
    await page(sessionId, { limit: 10 })
    expect([calls, reads]).toEqual([['read_messages'], 0])
    forget()
    await page(sessionId, { limit: 100 })
    const before = calls
    expect(reads).toBe(0)

    await archive.run(company, {}, { afterDays: 30, aboveMessages: 10_000 })
    for (const [query, segments] of [
      [{ limit: 10 }, 1],
      [{ limit: 100 }, 1],
      [{ limit: 5, after: 20 }, 1],
      [{ limit: 5, after: 30 }, 0],
      [{ limit: 5, after: 1, order: 'desc' as const }, 0],
    ] as const) {
      forget()
      await page(sessionId, query)
      expect([calls.length <= before.length, reads]).toEqual([true, segments])
    }
  })

  test('a page that begins behind a segment does not read it', async () => {
    const sessionId = uuidv7()
    const all = old(40, 80, { session_id: sessionId })
    await archive.save(all)
    for (const upTo of [10, 20, 30]) {
      await sql(
        `update chat_messages set created_at = now() - interval '1 hour' where company_id = '${company}' and sequence_number > ${upTo}`,
      )
      await sql(
        `update chat_sessions set last_active_at = now(), created_at = now() - interval '90 days' where company_id = '${company}'`,
      )
      await archive.run(company)
      await sql(
        `update chat_messages set created_at = now() - interval '80 days' where company_id = '${company}'`,
      )
    }
    expect(await archive.segments(company)).toHaveLength(3)
    const touched = async (query: Partial<MessageListQuery>) => {
      forget()
      const { items } = await page(sessionId, query)
      return [items.map(({ sequenceNumber }) => sequenceNumber), reads]
    }
    expect(await touched({ limit: 5, after: 10 })).toEqual([[11, 12, 13, 14, 15], 1])
    expect(await touched({ limit: 4, after: 18 })).toEqual([[19, 20, 21, 22], 2])
    expect(await touched({ limit: 3, after: 31, order: 'desc' })).toEqual([[30, 29, 28], 1])
    expect(await touched({ limit: 3, after: 35 })).toEqual([[36, 37, 38], 0])
    expect(await touched({ limit: 100 })).toEqual([all.map((message) => message.sequence_number), 3])
  })

  /** Archived as runs would leave them that each found what is one segment here. */
  async function inManySegments(sessionId: string, all: readonly MessageRecord[][]): Promise<void> {
    await archive.save(all.flat())
    const lines = await sql<{ id: string; line: string }>(
      `select id, (to_jsonb(m) || '{"user": "anon"}')::text as line from chat_messages m where company_id = '${company}'`,
    )
    const lineOf = new Map(lines.map(({ id, line }) => [id, `${line}\n`]))
    const object_key = `archive/${encodeURIComponent(company)}/web/2026/01/01/${uuidv7()}.jsonl.gz`
    const upload = archive.bucket.upload(object_key, {
      contentType: 'application/gzip',
      onBegun: async () => undefined,
    })
    let byte_offset = 0
    const segments: object[] = []
    for (const messages of all) {
      const text = messages.map(({ id }) => lineOf.get(id)).join('')
      const bytes = gzipSync(text)
      await upload.write(bytes)
      segments.push({
        id: uuidv7(),
        byte_offset,
        byte_length: bytes.length,
        text_bytes: Buffer.byteLength(text),
        messages: messages.length,
        first_sequence: messages[0]?.sequence_number,
        last_sequence: messages.at(-1)?.sequence_number,
        sha256: sha256Of(Buffer.from(text)),
        message_ids: messages.map(({ id }) => id),
      })
      byte_offset += bytes.length
    }
    await upload.close()
    await sql(`insert into archive_segments (company_id, platform, session_id, id, object_key, byte_offset, byte_length, text_bytes,
        messages, first_sequence, last_sequence, sha256, state, message_ids)
      select '${company}', 'web', '${sessionId}', id, '${object_key}', byte_offset, byte_length, text_bytes,
        messages, first_sequence, last_sequence, sha256, 'live', message_ids
      from jsonb_to_recordset('${JSON.stringify(segments)}') as one (id uuid, byte_offset bigint, byte_length int, text_bytes int,
        messages int, first_sequence int, last_sequence int, sha256 text, message_ids uuid[])`)
    await sql(`insert into archived_messages (company_id, platform, id, segment_id, session_id)
      select company_id, platform, unnest(message_ids), id, session_id from archive_segments where company_id = '${company}'`)
    await sql(`delete from chat_messages where company_id = '${company}'`)
  }

  test('a page reads so many segments and no more, and says where to go on', async () => {
    const sessionId = uuidv7()
    const RARE = [3, 64, 65, 120]
    // Each message is a segment, and a thread has so few that nearly all of the others are in its way.
    await inManySegments(
      sessionId,
      old(130, 80, { session_id: sessionId }).map((message) =>
        RARE.includes(message.sequence_number) ? [{ ...message, thread_id: 'rare' }] : [message],
      ),
    )
    for (const order of ['asc', 'desc'] as const)
      for (const [query, expected] of [
        [{ limit: 50, threadId: 'rare' }, RARE],
        [{ limit: 1, threadId: 'rare' }, RARE],
        [{ limit: 100, threadId: 'nobody wrote' }, []],
        [{ limit: 100 }, Array.from({ length: 130 }, (_, index) => index + 1)],
      ] as const) {
        const found: number[] = []
        let after: number | undefined
        let pages = 0
        for (;;) {
          forget()
          const one = await page(sessionId, { ...query, order, ...(after !== undefined && { after }) })
          expect(reads).toBeLessThanOrEqual(20)
          expect(one.items.length).toBeLessThanOrEqual(query.limit)
          found.push(...one.items.map(({ sequenceNumber }) => sequenceNumber))
          pages += 1
          if (one.nextAfter === null) break
          if (after !== undefined) expect(Math.sign(one.nextAfter - after)).toBe(order === 'asc' ? 1 : -1)
          after = one.nextAfter
        }
        expect(found).toEqual(order === 'asc' ? expected : [...expected].reverse())
        expect(pages).toBeLessThan(12)
      }
  })

  test('a page goes on where more segments than that begin at one place', async () => {
    const sessionId = uuidv7()
    await inManySegments(
      sessionId,
      old(40, 80, { session_id: sessionId }).map((message) => [message]),
    )
    await sql(
      `update archive_segments set first_sequence = 1, last_sequence = 40 where company_id = '${company}'`,
    )
    for (const order of ['asc', 'desc'] as const) {
      const { items, nextAfter } = await page(sessionId, { limit: 100, order })
      expect([items.length, nextAfter]).toEqual([40, null])
    }
  })

  test('long messages are read beside as many segments as there may be, whatever their tenant is called', async () => {
    company = `${'회사'.repeat(40)} ${randomUUID()}`
    const sessionId = uuidv7()
    const recent = old(80, 1, { session_id: sessionId }).map((message) => ({
      ...message,
      content: '긴 글'.repeat(1_500),
    }))
    await archive.save(recent)
    const key = `archive/${encodeURIComponent(company)}/web/2026/01/01/${uuidv7()}.jsonl.gz`
    await sql(`insert into archive_segments (company_id, platform, session_id, id, object_key, byte_offset, byte_length, text_bytes,
        messages, first_sequence, last_sequence, sha256, state)
      select '${company}', 'web', '${sessionId}', gen_random_uuid(), '${key}', n * 1000000, 1000000, 1000000, 250, 1000 + n, 1000 + n,
        repeat('0', 64), 'live' from generate_series(1, 300) n`)
    const { items } = await page(sessionId, { limit: 79 })
    expect(items.map(({ messageId }) => messageId)).toEqual(recent.slice(0, 79).map(({ id }) => id))
  })

  test('an export that is within a conversation goes on there, whatever is saved before it meanwhile', async () => {
    // Ids that clients made.
    const [late, begun, last] = ['a', 'b', 'c'].map((first) => `${first}${uuidv7().slice(1)}`)
    await archive.save([
      ...old(1_200, 1, { session_id: begun as string }),
      ...old(2, 1, { session_id: last as string }),
    ])
    const [collect] = collectors
    if (!collect || !late) throw new Error('no collector')
    const exporting = {
      ...services,
      hotStore: openPostgresHotStore(archive.database.app, { leaseSeconds: 60, historyMessages: 5 }),
      pseudonymKey: async () => PSEUDONYM_KEY,
    }
    const kinds: [string, number][] = []
    for (let after: unknown = null; after !== undefined; ) {
      const page = await collect(exporting, { tenant: caller(), ids: ['u1'] }, after)
      kinds.push([String(page.lines[0]?.kind), page.lines.length])
      if (kinds.length === 1) await archive.save(old(1, 1, { session_id: late }))
      after = page.after
    }
    expect(kinds).toEqual([
      ['session', 1_001],
      ['message', 200],
      ['session', 3],
      ['undefined', 0],
    ])
  })

  test('what is of another user, or of another tenant, is not found', async () => {
    const sessionId = uuidv7()
    await archive.save(old(4, 80, { session_id: sessionId }))
    await archive.run(company)
    const query = { limit: 20, order: 'asc' } as const
    for (const stranger of [
      { ...caller(), userId: 'u2' },
      { ...caller(), platform: 'app', role: 'admin' as const },
    ]) {
      await expect(listMessages(services, stranger, sessionId, query)).rejects.toMatchObject({
        code: 'not_found',
      })
    }
    expect(reads).toBe(0)
  })

  describe('a segment that is not what was written', () => {
    const damages: Record<string, (key: string) => Promise<unknown>> = {
      missing: (key) => archive.bucket.delete(key),
      truncated: async (key) => archive.bucket.put(key, 'x'),
      altered: async (key) => {
        const bytes = Buffer.concat(await Array.fromAsync((await archive.bucket.getStream(key)) ?? []))
        bytes[bytes.length - 12] = (bytes.at(-12) ?? 0) ^ 255
        const upload = archive.bucket.upload(key, {
          contentType: 'application/gzip',
          onBegun: async () => undefined,
        })
        await upload.write(bytes)
        await upload.close()
      },
    }
    test.each(Object.keys(damages))(
      'that is %s is unavailable, and counted; the rest can be read',
      async (damage) => {
        const sessionId = uuidv7()
        const first = old(6, 80, { session_id: sessionId })
        await archive.save(first)
        const second = old(6, 2, { session_id: sessionId }).map((message) => ({
          ...message,
          sequence_number: message.sequence_number + 6,
        }))
        await archive.save(second)
        await archive.run(company)
        const [segment] = await archive.segments(company)
        await damages[damage]?.(segment?.object_key ?? '')
        await expect(page(sessionId)).rejects.toMatchObject({ code: 'unavailable' })
        expect(counted).toEqual(['ArchiveUnreadable'])
        expect((await page(sessionId, { after: 6 })).items).toHaveLength(6)
        expect((await page(sessionId, { order: 'desc', limit: 5 })).items).toHaveLength(5)
        await expect(
          leaveFeedback(services, caller(), first[1]?.id ?? '', { score: 1 }),
        ).rejects.toMatchObject({
          code: 'unavailable',
        })
        expect(counted).toEqual(['ArchiveUnreadable', 'ArchiveUnreadable'])
      },
    )

    test('is looked for once more where its object was rewritten meanwhile', async () => {
      const sessionId = uuidv7()
      await archive.save(old(6, 80, { session_id: sessionId }))
      await archive.run(company)
      const before = await pages(sessionId, {})
      const [segment] = await archive.segments(company)
      const key = segment?.object_key ?? ''
      const bytes = Buffer.concat(await Array.fromAsync((await archive.bucket.getStream(key)) ?? []))
      const { getRange } = services.bucket
      let moved = false
      services.bucket.getRange = async (asked, range) => {
        if (!moved) {
          moved = true
          const upload = archive.bucket.upload(`${key}.new`, {
            contentType: 'application/gzip',
            onBegun: async () => undefined,
          })
          await upload.write(bytes)
          await upload.close()
          await sql(`update archive_segments set object_key = '${key}.new' where company_id = '${company}'`)
          await archive.bucket.delete(key)
        }
        return getRange(asked, range)
      }
      try {
        expect(await pages(sessionId, {})).toBe(before)
      } finally {
        services.bucket.getRange = getRange
      }
      expect([moved, counted]).toEqual([true, []])
    })
  })

  // Each thread begins at 1, so all their segments do: as many as one answer of Postgres does not hold.
  test.runIf(engine === 'real')(
    'of hundreds of segments that begin at the same position all are read',
    async () => {
      const sessionId = uuidv7()
      const SEGMENTS = 230
      await inManySegments(
        sessionId,
        Array.from({ length: SEGMENTS }, (_, index) =>
          old(2, 80, { session_id: sessionId, thread_id: `thread ${index}` }),
        ),
      )
      expect(await archive.segments(company)).toHaveLength(SEGMENTS)
      for (const order of ['asc', 'desc'] as const) {
        const { items, nextAfter } = await page(sessionId, { limit: 10, order })
        expect([items.length, nextAfter]).toEqual([SEGMENTS, order === 'asc' ? 1 : 2])
        const { items: rest } = await page(sessionId, { limit: 10, order, after: nextAfter ?? 0 })
        expect(new Set([...items, ...rest].map(({ messageId }) => messageId)).size).toBe(2 * SEGMENTS)
      }
    },
    240_000,
  )
})
