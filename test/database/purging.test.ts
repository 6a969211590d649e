/** A message that is deleted after it has left for the archive: 30 days later nothing of what it said is left anywhere. */
import { randomUUID } from 'node:crypto'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { retain } from '../../lambdas/ageing/retention.ts'
import { thawing } from '../../lambdas/ageing/thaw.ts'
import { stowText } from '../../lambdas/messages/large-text.ts'
import { deleteMessage, leaveFeedback, listMessages } from '../../lambdas/messages/messages.ts'
import type { Caller } from '../../lambdas/protocol/callers.ts'
import type { Metric } from '../../lambdas/protocol/metrics.ts'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'
import type { Database } from '../../lambdas/services/database.ts'
import { openPostgresHotStore } from '../../lambdas/services/postgres-hot-store.ts'
import {
  oldConversation,
  PSEUDONYM_KEY,
  type StoredSegment,
  startTestArchive,
  type TestArchive,
} from '../harness/archive.ts'
import { onBothEngines } from '../harness/database.ts'
import { askIn, opened } from '../harness/hot-store.ts'

const MARKER = '비밀번호 😀 hunter2'
const NOTHING = {
  sessions: 0,
  messages: 0,
  archiveObjects: 0,
  hidden: 0,
  auditLines: 0,
  isFinished: true,
}

onBothEngines('a message that is deleted after it has left', (engine) => {
  let archive: TestArchive
  let company = ''
  let counted: Metric[] = []
  beforeAll(async () => {
    archive = await startTestArchive(engine, 'purging')
  })
  afterAll(() => archive.close())
  beforeEach(() => {
    company = `company ${randomUUID()}`
    counted = []
  })

  const tenant = () => ({ companyId: company, platform: 'web' })
  const caller = (): Caller => ({ ...tenant(), userId: 'u1', role: 'user' })
  const sql = <Row = Record<string, unknown>>(text: string) => archive.database.inTenant<Row>(company, text)
  const services = (database: Database = archive.database.app) => ({
    database,
    bucket: archive.bucket,
    pseudonymKey: async () => PSEUDONYM_KEY,
    count: (metric: Metric) => void counted.push(metric),
  })
  const run = (database?: Database) => retain(services(database), tenant(), () => 900_000)
  const saved = async (length: number, changes: Partial<MessageRecord> = {}) => {
    const messages = oldConversation(length, 80, { company_id: company, ...changes })
    await archive.save(messages)
    return messages
  }
  const leave = () => archive.run(company)
  const remove = (message: MessageRecord | undefined) =>
    deleteMessage(services(), caller(), message?.id ?? '')
  const rateIt = (message: MessageRecord | undefined) =>
    leaveFeedback(services(), caller(), message?.id ?? '', { score: 2, comment: `${MARKER} comment` })
  const say = (message: MessageRecord | undefined, text: string) =>
    sql(
      `update chat_messages set content = '${text}', metadata = '{"note": "${text}"}' where id = '${message?.id}'`,
    )
  /** As if a month had gone by since. */
  const aMonthLater = () =>
    sql(`update chat_messages set deleted_at = now() - interval '31 days' where is_deleted`)
  const here = async () =>
    (await sql<{ id: string }>('select id from chat_messages order by sequence_number')).map(({ id }) => id)
  const idsOf = (messages: readonly (MessageRecord | undefined)[]) => messages.map((message) => message?.id)
  const shown = async (of: MessageRecord | undefined) => {
    const list = await listMessages(services(), caller(), of?.session_id ?? '', { limit: 100, order: 'asc' })
    return list.items.map(({ messageId, content }) => ({ messageId, content }))
  }
  const keys = async () => {
    const all: string[] = []
    for await (const some of archive.bucket.list(`archive/${encodeURIComponent(company)}`)) all.push(...some)
    return all
  }
  const objects = async () => (await keys()).filter((key) => key.endsWith('.gz'))
  /** All text that the archive has of the company, as gzip reads it. */
  const texts = async () => {
    const parts: string[] = []
    for (const key of await objects()) {
      const chunks: Uint8Array[] = []
      for await (const chunk of (await archive.bucket.getStream(key)) ?? []) chunks.push(chunk)
      parts.push(gunzipSync(Buffer.concat(chunks)).toString())
    }
    return parts.join('')
  }
  const lines = async () =>
    (await texts())
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line))
  const overwrite = async (key: string, bytes: Buffer) => {
    const upload = archive.bucket.upload(key, {
      contentType: 'application/gzip',
      onBegun: async () => undefined,
    })
    await upload.write(bytes)
    await upload.close()
  }
  /** What Postgres says of the archive, the manifests and the objects agree. */
  const checkManifests = async () => {
    const segments = await archive.segments(company)
    for (const [key, own] of Map.groupBy(segments, ({ object_key }) => object_key)) {
      const manifest = JSON.parse(
        (await archive.bucket.get(key.replace('.jsonl.gz', '.manifest.json'))) ?? '',
      )
      expect(
        manifest.segments.map((one: Record<string, unknown>) => [
          one.offset,
          one.length,
          one.textBytes,
          one.sha256,
        ]),
      ).toEqual(
        own.map((one: StoredSegment) => [one.byte_offset, one.byte_length, one.text_bytes, one.sha256]),
      )
      const [row] = await sql<{ sha256: string; messages: number; bytes: number }>(
        `select sha256, messages, bytes::int from archive_objects where key = '${key}'`,
      )
      expect(row).toEqual({ sha256: manifest.sha256, messages: manifest.messages, bytes: manifest.bytes })
    }
  }

  test('goes from Postgres and from all of its copies after 30 days, and nothing else does', async () => {
    const other = await saved(3)
    const talk = await saved(4)
    const [, answer, question] = talk
    await say(answer, MARKER)
    const large = await stowText(archive.bucket, {
      ...(question as MessageRecord),
      content: MARKER.repeat(2_000),
    })
    await sql(
      `update chat_messages set content = '', content_key = '${large.content_key}' where id = '${question?.id}'`,
    )
    await sql(`update chat_messages set metadata = '{"n": 9007199254740993}' where id = '${talk[0]?.id}'`)
    await leave()
    await rateIt(answer)
    expect(await leave()).toMatchObject({ messages: 1 })
    expect(await objects()).toHaveLength(2)
    await remove(answer)
    await remove(question)

    expect(await leave()).toMatchObject({ messages: 0, bytes: 0 })
    expect(await run()).toEqual(NOTHING)
    expect(await here()).toEqual(idsOf([answer, question]))
    const rest = await shown(talk[0])
    expect(rest.map(({ messageId }) => messageId)).toEqual(idsOf([talk[0], talk[3]]))
    const before = await lines()

    await aMonthLater()
    expect(await run()).toEqual({ ...NOTHING, messages: 2 })
    expect(counted).toEqual([])
    expect(
      await sql(
        'select id, is_deleted, deleted_at, content, content_key, metadata from chat_messages order by sequence_number',
      ),
    ).toEqual(
      idsOf([answer, question]).map((id) => ({
        id,
        is_deleted: true,
        deleted_at: null,
        content: '',
        content_key: null,
        metadata: {},
      })),
    )
    expect(await texts()).not.toContain('hunter2')
    expect(await archive.bucket.get(large.content_key ?? '')).toBeUndefined()
    expect(await objects()).toHaveLength(2)
    expect(await keys()).toHaveLength(4)
    await checkManifests()
    // Of what is purged a line says that it was, for those that follow it; all others are as they were.
    const gone = idsOf([answer, question])
    const after = await lines()
    expect(after.filter(({ id }) => !gone.includes(id))).toEqual(
      before.filter(({ id }) => !gone.includes(id)),
    )
    expect(await texts()).toContain('9007199254740993')
    const purged = after.filter(({ id }) => gone.includes(id))
    expect(purged).toHaveLength(3)
    for (const line of purged) {
      expect(line).toMatchObject({ is_deleted: true, content: '', metadata: {}, sources: [] })
      expect(line).not.toHaveProperty('content_key')
      expect(line).not.toHaveProperty('feedback_comment')
      expect(line.user).toBe(before[0].user)
    }
    expect(await shown(talk[0])).toEqual(rest)
    expect(await shown(other[0])).toHaveLength(3)

    expect(await run()).toEqual(NOTHING)
    expect(await leave()).toMatchObject({ messages: 2, failed: 0 })
    expect(await run()).toEqual(NOTHING)
    expect(await here()).toEqual([])
    expect(await shown(talk[0])).toEqual(rest)
    expect(await texts()).not.toContain('hunter2')
    expect(await sql(`select message_count from chat_sessions where id = '${talk[0]?.session_id}'`)).toEqual([
      { message_count: 2 },
    ])
  })

  test('is followed by what stood before it, also when all of it is purged', async () => {
    const talk = await saved(6)
    await leave()
    await remove(talk[5])
    await remove(talk[4])
    await aMonthLater()
    expect(await run()).toMatchObject({ messages: 2 })
    const store = openPostgresHotStore(archive.database.app, { leaseSeconds: 60, historyMessages: 5 })
    const ask = askIn(tenant(), { sessionId: talk[0]?.session_id ?? '' })
    const turn = await opened(thawing(services(), tenant(), () => store.openTurn(ask)))
    expect(turn.question.parent_message_id).toBe(talk[3]?.id)
    expect(turn.history.map(({ id }) => id)).toEqual(idsOf(talk.slice(0, 4)))
  })

  test('is followed at its place where what stood before it cannot be read', async () => {
    const talk = await saved(4)
    await leave()
    await remove(talk[3])
    await aMonthLater()
    expect(await run()).toMatchObject({ messages: 1 })
    expect(await here()).toEqual([])
    const [segment] = await archive.segments(company)
    await overwrite(segment?.object_key ?? '', Buffer.from('altered'))
    const store = openPostgresHotStore(archive.database.app, { leaseSeconds: 60, historyMessages: 5 })
    const ask = askIn(tenant(), { sessionId: talk[0]?.session_id ?? '' })
    const turn = await opened(
      thawing(
        services(),
        tenant(),
        () => store.openTurn(ask),
        () => store.openTurn({ ...ask, withoutArchived: true }),
      ),
    )
    expect(turn.question).toMatchObject({ sequence_number: 5, parent_message_id: talk[3]?.id })
    expect(turn.history).toEqual([])
  })

  test('does not break what leads from those after it to those before it', async () => {
    const talk = await saved(8)
    await leave()
    for (const index of [3, 4, 5]) await remove(talk[index])
    await aMonthLater()
    expect(await run()).toMatchObject({ messages: 3 })
    const store = openPostgresHotStore(archive.database.app, { leaseSeconds: 60, historyMessages: 9 })
    const ask = askIn(tenant(), { sessionId: talk[0]?.session_id ?? '' })
    const turn = await opened(thawing(services(), tenant(), () => store.openTurn(ask)))
    expect(turn.history.map(({ id }) => id)).toEqual(idsOf([0, 1, 2, 6, 7].map((index) => talk[index])))
  })

  test('goes as well where the run is killed at any of its calls', async () => {
    const talks = [await saved(3), await saved(3)]
    for (const [, answer] of talks) await say(answer, MARKER)
    await leave()
    const third = await saved(3)
    await say(third[1], MARKER)
    await leave()
    talks.push(third)
    const rest = talks.map(([first, , last]) => idsOf([first, last]))
    for (const [, answer] of talks) await remove(answer)
    await aMonthLater()

    const { app } = archive.database
    let kills = 0
    for (let lastCall = 1; ; lastCall += 1) {
      for (const when of ['before', 'after'] as const) {
        let calls = 0
        const mortal: Database = {
          ...app,
          callFor: async (...call) => {
            calls += 1
            if (calls > lastCall || (calls === lastCall && when === 'before')) throw new Error('killed')
            const rows = await app.callFor(...call)
            if (calls === lastCall) throw new Error('killed')
            return rows as never
          },
        }
        const wasKilled = await run(mortal).then(
          () => false,
          (error) => {
            expect(error).toMatchObject({ message: 'killed' })
            return true
          },
        )
        for (const [index, [first]] of talks.entries())
          expect((await shown(first)).map(({ messageId }) => messageId)).toEqual(rest[index])
        if (wasKilled) kills += 1
        else if (lastCall > 1) {
          expect(kills).toBeGreaterThan(20)
          expect(await run()).toEqual(NOTHING)
          expect(await here()).toHaveLength(3)
          // Whatever the killed runs have left over.
          await sql(`update archive_objects set created_at = created_at - interval '2 hours'`)
          await leave()
          expect(await here()).toEqual([])
          expect(await texts()).not.toContain('hunter2')
          await checkManifests()
          return
        }
      }
    }
  }, 60_000)

  test('goes where two runs are at it at once', async () => {
    const talk = await saved(5)
    await say(talk[1], MARKER)
    await leave()
    await remove(talk[1])
    await aMonthLater()
    await Promise.allSettled([run(), run(), leave()])
    await run()
    expect(await sql('select id from chat_messages where deleted_at is not null')).toEqual([])
    expect(await texts()).not.toContain('hunter2')
    expect((await shown(talk[0])).map(({ messageId }) => messageId)).toEqual(
      idsOf(talk.filter((_, index) => index !== 1)),
    )
  })

  test('waits, seen by nobody, while its object holds something that cannot be read; others do not', async () => {
    const broken = await saved(3)
    await saved(2)
    await say(broken[1], MARKER)
    await leave()
    const [object] = await objects()
    const fine = await saved(3)
    await say(fine[1], MARKER)
    await leave()
    await remove(broken[1])
    await remove(fine[1])
    await aMonthLater()
    const [other] = (await archive.segments(company)).filter(
      ({ object_key, session_id }) => object_key === object && session_id !== broken[0]?.session_id,
    )
    const whole = Buffer.concat(
      await Array.fromAsync((await archive.bucket.getStream(object ?? '')) ?? [], (chunk) =>
        Buffer.from(chunk),
      ),
    )
    const altered = Buffer.from(whole)
    altered.fill(0, other?.byte_offset, (other?.byte_offset ?? 0) + 40)
    await overwrite(object ?? '', altered)

    expect(await run()).toMatchObject({ messages: 1, isFinished: true })
    expect(counted).toEqual(['ArchiveUnreadable'])
    const waiting = `select id from chat_messages where deleted_at is not null`
    expect(await sql(waiting)).toEqual([{ id: broken[1]?.id }])
    expect((await shown(broken[0])).map(({ messageId }) => messageId)).toEqual(idsOf([broken[0], broken[2]]))

    await overwrite(object ?? '', whole)
    expect(await run()).toMatchObject({ messages: 1 })
    expect(await sql(waiting)).toEqual([])
    expect(await texts()).not.toContain('hunter2')
  })

  test('leaves no copy that was made while it was deleted', async () => {
    const talk = await saved(3)
    const other = await saved(3)
    await say(talk[1], MARKER)
    const { app } = archive.database
    const database: Database = {
      ...app,
      callFor: async (...call) => {
        if (call[1] === 'complete_archive_object') await remove(talk[1])
        return (await app.callFor(...call)) as never
      },
    }
    expect(await archive.run(company, { database })).toMatchObject({ messages: 3 })
    expect((await archive.segments(company)).map(({ state }) => state).sort()).toEqual(['copied', 'live'])
    expect(await leave()).toMatchObject({ messages: 3 })
    expect(await here()).toEqual([])
    expect(await texts()).toContain('hunter2')
    expect(await run()).toEqual(NOTHING)
    await sql(`update archive_objects set created_at = created_at - interval '31 days'`)
    expect(await run()).toEqual(NOTHING)
    expect(await texts()).not.toContain('hunter2')
    expect(await sql(`select key from archive_objects where not all_left`)).toEqual([])
    await checkManifests()
    expect((await shown(talk[0])).map(({ messageId }) => messageId)).toEqual(idsOf([talk[0], talk[2]]))
    expect(await shown(other[0])).toHaveLength(3)
  })

  test('is counted once where its object goes as a whole', async () => {
    const talk = await saved(4)
    await leave()
    await remove(talk[1])
    await rateIt(talk[2])
    await sql(`update chat_sessions set last_active_at = now()`)
    await sql(`update archive_objects set created_at = now() - interval '91 days'`)
    const count = async () => (await sql<{ n: number }>('select message_count as n from chat_sessions'))[0]?.n
    expect(await count()).toBe(3)
    await archive.database.app.callFor(tenant(), 'change_tenant', [
      { jsonb: { user_id: 'admin', role: 'admin' } },
      { jsonb: { retentionDays: 90 } },
      { integer: null },
    ])
    expect(await run()).toMatchObject({ archiveObjects: 1 })
    expect(await here()).toEqual(idsOf([talk[1], talk[2]]))
    expect(await count()).toBe(1)
  })
})
