/** The archiver: which messages leave, what their copies are, and what keeps them from leaving. */
import { createHash, randomUUID } from 'node:crypto'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { ArchiveServices } from '../../lambdas/ageing/archive.ts'
import { pseudonymOf } from '../../lambdas/ageing/pseudonym.ts'
import { readSegment } from '../../lambdas/ageing/segments.ts'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'
import type { Bucket } from '../../lambdas/services/bucket.ts'
import {
  oldConversation,
  PSEUDONYM_KEY,
  type RunOptions,
  siblingOf,
  startTestArchive,
  type TestArchive,
} from '../harness/archive.ts'
import { onBothEngines } from '../harness/database.ts'
import { record } from '../harness/records.ts'

onBothEngines('the archiver', (engine) => {
  let archive: TestArchive
  /** A tenant of each test's own. */
  let company = ''
  beforeAll(async () => {
    archive = await startTestArchive(engine, 'archive')
  })
  afterAll(() => archive.close())
  beforeEach(() => {
    company = `company ${randomUUID()}`
    archive.counted()
    archive.errors()
  })

  const run = (changes: Partial<ArchiveServices> = {}, options: RunOptions = {}) =>
    archive.run(company, changes, options)
  const tenant = () => ({ companyId: company, platform: 'web' })
  const old = (length: number, changes: Partial<MessageRecord> = {}, days = 40) =>
    oldConversation(length, days, { company_id: company, ...changes })
  const rows = <Row = { id: string }>(sql: string) => archive.database.inTenant<Row>(company, sql)
  const left = async () =>
    (
      await rows(`select id from chat_messages where company_id = '${company}' order by sequence_number, id`)
    ).map(({ id }) => id)
  const sorted = (ids: readonly string[]) => [...ids].sort()
  const idsOf = (messages: readonly { id: string }[]) => sorted(messages.map(({ id }) => id))
  const copied = async () => idsOf(await archive.copies(company))
  const objects = () =>
    rows<{ key: string; state: string; messages: number; segments: number; bytes: number; sha256: string }>(
      `select * from archive_objects where company_id = '${company}' order by key`,
    )
  const thread = (sessionId: string) =>
    rows<{ thread_id: string; newest_answer_id: string }>(
      `select * from archived_threads where company_id = '${company}' and session_id = '${sessionId}'`,
    )
  /** Does something between the writing of a copy and the reading of it. */
  const meanwhile = (act: (key: string) => Promise<unknown>): { bucket: Bucket } => ({
    bucket: {
      ...archive.bucket,
      getStream: async (key) => {
        await act(key)
        return archive.bucket.getStream(key)
      },
    },
  })

  test('a conversation that nobody used for a month leaves whole, and its copy is the row but for what is null, byte for byte', async () => {
    const talk = old(5, { metadata: { a: '😀', model: null }, content: '안녕 "😀","model":null\n\\' })
    await archive.save(talk)
    const id = talk[1]?.id
    await rows(`update chat_messages set satisfaction_score = 4, feedback_comment = '좋아요', metadata = '{"big": 9007199254740993, "model": null}',
      updated_at = updated_at where id = '${id}'`)
    const before = await rows<{ line: string }>(
      `select to_json(m)::text as line from chat_messages m where company_id = '${company}' order by sequence_number`,
    )
    await run()
    expect(await left()).toEqual([])
    const [segment] = await archive.segments(company)
    expect(segment).toMatchObject({ state: 'live', messages: 5, first_sequence: 1, last_sequence: 5 })
    const user = pseudonymOf(PSEUDONYM_KEY, tenant(), 'u1')
    const [{ key, sha256, bytes } = { key: '', sha256: '', bytes: 0 }] = await objects()
    const object = Buffer.concat(await Array.fromAsync((await archive.bucket.getStream(key)) ?? []))
    expect([object.length, createHash('sha256').update(object).digest('hex')]).toEqual([bytes, sha256])
    const { gunzipSync } = await import('node:zlib')
    expect(gunzipSync(object).toString()).toBe(
      before
        // Within a column's JSON there is a space after the comma, and within a text a backslash.
        .map(({ line }) => `${line.slice(0, -1).replace(/,"[a-z_]+":null/g, '')},"user":"${user}"}\n`)
        .join(''),
    )
    expect(object.includes('u1"')).toBe(false)
    expect(await thread(talk[0]?.session_id ?? '')).toMatchObject([
      { thread_id: 'main', newest_answer_id: talk[3]?.id },
    ])
  })

  test('the manifest says where each segment lies and what it is', async () => {
    await archive.save([...old(3), ...old(2)])
    await run()
    const [object] = await objects()
    const key = object?.key ?? ''
    expect(key).toMatch(
      new RegExp(
        `^archive/${encodeURIComponent(company)}/web/\\d{4}/\\d{2}/\\d{2}/[0-9a-f-]{36}\\.jsonl\\.gz$`,
      ),
    )
    const manifest = JSON.parse((await archive.bucket.get(key.replace('.jsonl.gz', '.manifest.json'))) ?? '')
    expect(manifest).toMatchObject({
      schemaVersion: 1,
      companyId: company,
      platform: 'web',
      object: key,
      bytes: object?.bytes,
      sha256: object?.sha256,
      messages: 5,
    })
    const segments = await archive.segments(company)
    expect(manifest.segments).toEqual(
      segments.map((segment) => ({
        sessionId: segment.session_id,
        offset: segment.byte_offset,
        length: segment.byte_length,
        textBytes: segment.text_bytes,
        messages: segment.messages,
        firstSequence: segment.first_sequence,
        lastSequence: segment.last_sequence,
        sha256: segment.sha256,
      })),
    )
    expect(object).toMatchObject({ state: 'complete', messages: 5, segments: 2 })
  })

  test('a conversation that is used keeps what is younger than a month, and only that', async () => {
    const [first, second] = old(2, { session_id: uuidv7() })
    if (!first || !second) throw new Error('no conversation')
    const question = record({
      company_id: company,
      session_id: first.session_id,
      parent_message_id: second.id,
      sequence_number: 3,
    })
    await archive.save([first, second, question])
    await run()
    expect(await left()).toEqual([question.id])
    expect(await copied()).toEqual(idsOf([first, second]))
    expect(await thread(first.session_id)).toMatchObject([{ newest_answer_id: second.id }])
    expect(await run()).toMatchObject({ messages: 0, bytes: 0 })
  })

  test('of a long conversation the newest messages stay, and none of the last day leaves', async () => {
    const session_id = uuidv7()
    const talk = old(30, { session_id }, 2)
    const today = oldConversation(30, 0, { company_id: company, session_id }).map((message) => ({
      ...message,
      sequence_number: message.sequence_number + 30,
    }))
    await archive.save([...talk, ...today])
    await rows(`update chat_sessions set message_count = 60 where id = '${session_id}'`)
    await run({}, { aboveMessages: 45 })
    expect((await left()).length).toBe(45)
    expect(await copied()).toEqual(idsOf(talk.slice(0, 15)))
    await run({}, { aboveMessages: 10 })
    expect(sorted(await left())).toEqual(idsOf(today))
  })

  test('one that stays between two that leave is not in their segment, and does not keep them', async () => {
    const talk = old(5)
    const [, , young] = talk
    await archive.save(talk)
    await rows(`update chat_messages set created_at = now() where id = '${young?.id}'`)
    await rows(`update chat_sessions set last_active_at = now() where company_id = '${company}'`)
    expect(await run()).toMatchObject({ messages: 4 })
    expect(await left()).toEqual([young?.id])
    expect(await archive.segments(company)).toMatchObject([
      { first_sequence: 1, last_sequence: 5, messages: 4, state: 'live' },
    ])
    expect(await copied()).toEqual(idsOf(talk.filter((message) => message !== young)))
  })

  test('a message that is saved between two others before their copy is read back leaves with the next one', async () => {
    const talk = old(3)
    const sibling = siblingOf(talk[1] as MessageRecord, 'saved late')
    await archive.save(talk)
    // What is saved makes its session a used one; here only its place keeps it.
    const late = async () => {
      const before = `(select max(last_active_at) from chat_sessions where company_id = '${company}')`
      await rows(`create temporary table used as select ${before} as at`)
      await archive.save([sibling])
      await rows(
        `update chat_sessions set last_active_at = (select at from used) where company_id = '${company}'`,
      )
      await rows('drop table used')
    }
    expect(await run(meanwhile(late))).toMatchObject({ messages: 0, failed: 0 })
    expect((await left()).length).toBe(4)
    await run()
    expect(await left()).toEqual([])
    expect(await copied()).toEqual(idsOf([...talk, sibling]))
  })

  test('a row that is null wherever it may be is read back as null', async () => {
    const [question] = old(1, { token_count: null })
    await archive.save([question as MessageRecord])
    const [row] = await rows<{ row: string }>(
      `select to_json(m)::text as row from chat_messages m where company_id = '${company}'`,
    )
    await run()
    const [copy] = await archive.copies(company)
    const { user, ...message } = copy ?? {}
    expect(message).toEqual(JSON.parse(row?.row ?? ''))
    const nullable = await rows<{ name: string }>(
      `select attname::text as name from pg_attribute
       where attrelid = 'chat_messages'::regclass and attnum > 0 and not attisdropped and not attnotnull order by 1`,
    )
    const absent = Object.entries(message).filter(([, value]) => value === null)
    expect(absent.map(([name]) => name).sort()).toEqual(nullable.map(({ name }) => name))
  })

  test("a tenant's own settings say what leaves", async () => {
    await archive.save([...old(2, {}, 5), ...old(2, {}, 40)])
    await archive.database.app.callFor(tenant(), 'change_tenant', [
      { jsonb: { user_id: 'admin', role: 'admin' } },
      { jsonb: { archiveAfterDays: 50 } },
      { integer: null },
    ])
    await run()
    expect((await left()).length).toBe(4)
    await archive.database.app.callFor(tenant(), 'change_tenant', [
      { jsonb: { user_id: 'admin', role: 'admin' } },
      { jsonb: { archiveAfterDays: 4, archiveAboveMessages: 100 } },
      { integer: null },
    ])
    await run()
    expect(await left()).toEqual([])
  })

  test('branches and threads are copied as they are, and deleted messages without their texts', async () => {
    const talk = old(4)
    const other = siblingOf(talk[1] as MessageRecord, 'another answer')
    const elsewhere = old(2, { session_id: talk[0]?.session_id as string, thread_id: '다른 "thread"' })
    await archive.save([...talk, other, ...elsewhere])
    await archive.database.app.callFor(tenant(), 'delete_message', [
      { jsonb: { user_id: 'u1', role: 'user' } },
      { uuid: talk[3]?.id ?? '' },
    ])
    await rows(
      `update chat_messages set metadata = '{"a": "secret"}', feedback_comment = 'secret' where id = '${talk[3]?.id}'`,
    )
    await rows(`update chat_sessions set last_active_at = last_active_at where company_id = '${company}'`)
    await run()
    expect(await left()).toEqual([])
    const copies = await archive.copies(company)
    expect(idsOf(copies)).toEqual(idsOf([...talk, other, ...elsewhere]))
    expect(copies.find(({ id }) => id === talk[3]?.id)).toMatchObject({
      is_deleted: true,
      content: '',
      metadata: {},
      sources: [],
      feedback_comment: null,
      parent_message_id: talk[2]?.id,
    })
    expect(copies.map(({ sequence_number }) => sequence_number)).toEqual([1, 1, 2, 2, 2, 3, 4])
    // A deleted answer is followed by nothing.
    const newest = Object.fromEntries(
      (await thread(talk[0]?.session_id ?? '')).map((one) => [one.thread_id, one.newest_answer_id]),
    )
    expect(Object.keys(newest)).toHaveLength(2)
    expect([talk[1]?.id, other.id]).toContain(newest.main)
  })

  test('of a user whose id has given way to a hash the copy has the same one', async () => {
    const user = pseudonymOf(PSEUDONYM_KEY, tenant(), 'long ago')
    await archive.save(old(2, { user_id: user }))
    await run()
    expect((await archive.copies(company)).map((copy) => copy.user)).toEqual([user, user])
  })

  test('a text that stands in an object is in its copy, whole', async () => {
    const text = '가나다 😀\n'.repeat(20_000)
    const [question] = old(1, { content: '', content_key: 'content/large' })
    await archive.bucket.put('content/large', text)
    await archive.save([question as MessageRecord])
    await run()
    const [copy] = await archive.copies(company)
    expect(copy?.content === text).toBe(true)
    expect(copy).toMatchObject({ id: question?.id, content_key: 'content/large' })
  })

  test('what the archive cannot hold stays and is reported, and everything else leaves', async () => {
    const talk = old(6)
    const [lost, shaped, huge, sourced, ...fine] = talk as [
      MessageRecord,
      MessageRecord,
      MessageRecord,
      MessageRecord,
    ]
    await archive.save(
      talk.map((message) =>
        message === lost ? { ...message, content: '', content_key: 'content/lost' } : message,
      ),
    )
    await rows(`update chat_messages set metadata = '[1]' where id = '${shaped.id}'`)
    await rows(
      `update chat_messages set metadata = jsonb_build_object('a', repeat('가', 30000)) where id = '${huge.id}'`,
    )
    await rows(`update chat_messages set sources = '{}' where id = '${sourced.id}'`)
    expect(await run()).toMatchObject({ messages: 2, unfit: 4, failed: 0 })
    expect(sorted(await left())).toEqual(idsOf([lost, shaped, huge, sourced]))
    expect(await copied()).toEqual(idsOf(fine))
    // Each by itself, and once for the alarm.
    expect(archive.counted()).toEqual([...Array(4).fill('RowUnfitForArchive'), 'ArchiveFailed'])
    expect(archive.errors().map(([, fields]) => [fields.messageId, fields.why])).toEqual([
      [lost.id, 'its text is gone'],
      [shaped.id, 'metadata'],
      [huge.id, 'size'],
      [sourced.id, 'sources'],
    ])
  })

  test('a conversation that is used before its copy is read back is left alone', async () => {
    const talk = old(4)
    const sessionId = talk[0]?.session_id ?? ''
    await archive.save(talk)
    const question = record({ company_id: company, session_id: sessionId, sequence_number: 5 })
    const spoiled = await run(meanwhile(() => archive.save([question])))
    expect(spoiled).toMatchObject({ messages: 0, failed: 0, isFinished: true })
    expect((await left()).length).toBe(5)
    expect(await archive.segments(company)).toMatchObject([{ state: 'copied' }])
    expect(await copied()).toEqual([])
    // It is used, but for its older part; that has another copy now.
    await run()
    expect(await left()).toEqual([question.id])
    expect(await copied()).toEqual(idsOf(talk))
  })

  test('a message that changes before its copy is read back stays, and leaves with its change', async () => {
    const talk = old(4)
    const rated = talk[1]?.id ?? ''
    await archive.save([...talk, ...old(2)])
    const rate = () =>
      archive.database.app.callFor(tenant(), 'leave_feedback', [
        { jsonb: { user_id: 'u1', role: 'user' } },
        { uuid: rated },
        { integer: 5 },
        { text: '😀' },
      ])
    expect(await run(meanwhile(rate))).toMatchObject({ messages: 2 })
    expect(sorted(await left())).toEqual(idsOf(talk))
    await run()
    expect(await left()).toEqual([])
    expect((await archive.copies(company)).find(({ id }) => id === rated)).toMatchObject({
      satisfaction_score: 5,
      feedback_comment: '😀',
    })
  })

  test('a message that is gone before its copy is read back keeps the others of its segment', async () => {
    const talk = old(3)
    await archive.save(talk)
    await run(meanwhile(() => rows(`delete from chat_messages where id = '${talk[2]?.id}'`)))
    expect((await left()).length).toBe(2)
    await run()
    expect(await copied()).toEqual(idsOf(talk.slice(0, 2)))
  })

  test('a conversation that is purged is left to retention', async () => {
    const [early, late] = [old(2), old(2)]
    await archive.save([...early, ...late])
    const purge = (talk: MessageRecord[]) =>
      archive.database.app.callFor(tenant(), 'end_session', [
        { jsonb: { user_id: 'u1', role: 'user' } },
        { uuid: talk[0]?.session_id ?? '' },
        { boolean: true },
      ])
    await purge(early)
    await run(meanwhile(() => purge(late)))
    expect((await left()).length).toBe(4)
    expect(await copied()).toEqual([])
  })

  test.each([
    ['is running', "state = 'running', lease_until = now() + interval '1 hour'"],
    ['can still be resumed', "state = 'finished', finished_at = now() - interval '23 hours'"],
    [
      'has an answer that is not saved',
      "state = 'finished', finished_at = now() - interval '3 days', message_id = gen_random_uuid()",
    ],
  ])('messages of a turn that %s stay', async (_, state) => {
    const [question, answer] = old(2) as [MessageRecord, MessageRecord]
    await archive.save([question, answer])
    await rows(`insert into chat_turns (company_id, platform, message_id, question_id, session_id, thread_id, user_id, state, lease_until, sequence_number)
      values ('${company}', 'web', '${answer.id}', '${question.id}', '${question.session_id}', 'main', 'u1', 'finished', now(), 2)`)
    await rows(`update chat_turns set ${state} where company_id = '${company}'`)
    await run()
    expect(await left()).toContain(question.id)
    await rows(`update chat_turns set state = 'finished', finished_at = now() - interval '25 hours', message_id = '${answer.id}'
      where company_id = '${company}'`)
    await run()
    expect(await left()).toEqual([])
    expect(await copied()).toEqual(idsOf([question, answer]))
    // Or it would be taken for a message that is not saved yet.
    expect(await rows(`select message_id as id from chat_turns where company_id = '${company}'`)).toEqual([])
  })

  test('two runs at once let each message leave once, and each has one copy', async () => {
    const talks = Array.from({ length: 12 }, (_, index) => old(1 + index * 3))
    await archive.save(talks.flat())
    const runs = await Promise.all([run(), run(), run()])
    expect(runs.reduce((sum, { messages }) => sum + messages, 0)).toBe(talks.flat().length)
    expect(runs.map(({ failed }) => failed)).toEqual([0, 0, 0])
    expect(await left()).toEqual([])
    expect(await copied()).toEqual(idsOf(talks.flat()))
  })

  test('other tenants keep what is not old, and their copies stand apart', async () => {
    const other = `other ${randomUUID()}`
    const theirs = oldConversation(2, 40, { company_id: other, content: '비밀' })
    const fresh = oldConversation(2, 1, { company_id: other })
    await archive.save([...old(2), ...theirs, ...fresh])
    await run()
    await archive.run(other)
    expect(await copied()).toHaveLength(2)
    expect(idsOf(await archive.copies(other))).toEqual(idsOf(theirs))
    const stay = await archive.database.inTenant<{ id: string }>(
      other,
      `select id from chat_messages where company_id = '${other}'`,
    )
    expect(idsOf(stay)).toEqual(idsOf(fresh))
    expect((await objects()).every(({ key }) => key.includes(encodeURIComponent(company)))).toBe(true)
  })

  test('a tenant with nothing that is due gets no object', async () => {
    await archive.save(oldConversation(3, 29, { company_id: company }))
    await run()
    expect(await objects()).toEqual([])
    expect((await left()).length).toBe(3)
  })

  test('thousands of conversations of one message each leave, whatever their users are called', async () => {
    const user = `${'"'.repeat(60)}${'가'.repeat(60)}`
    await rows(
      `insert into tenants (company_id, platform) values ('${company}', 'web') on conflict do nothing`,
    )
    await rows(`with session as (
        insert into chat_sessions (id, company_id, platform, user_id, last_active_at, created_at, message_count)
        select gen_random_uuid(), '${company}', 'web', '${user}', now() - interval '40 days', now() - interval '40 days', 1
        from generate_series(1, 2500) returning id
      )
      insert into chat_messages (id, company_id, platform, session_id, role, content, status, sequence_number, created_at)
      select gen_random_uuid(), '${company}', 'web', id, 'user', '물음', 'complete', 1, now() - interval '40 days' from session`)
    expect(await run()).toMatchObject({ messages: 2_500, failed: 0 })
    expect(await left()).toEqual([])
  })

  test('of messages that are much longer than those before them all leave', async () => {
    const talks = [...old(60, { content: '짧은 말' }), ...old(60, { content: '가'.repeat(7_000) })]
    await archive.save(talks)
    expect(await run()).toMatchObject({ messages: 120, failed: 0 })
    expect(await copied()).toEqual(idsOf(talks))
  })

  test('a conversation of thousands is cut into segments that each can be read by itself', async () => {
    const talk = old(2_500, { content: '가'.repeat(300) })
    for (let from = 0; from < talk.length; from += 500) await archive.save(talk.slice(from, from + 500))
    expect(await run()).toMatchObject({ messages: 2_500 })
    const segments = await archive.segments(company)
    expect(segments.length).toBeGreaterThan(2)
    expect(segments.every(({ messages, text_bytes }) => messages <= 1_000 && text_bytes <= 1_000_000)).toBe(
      true,
    )
    const sequences = []
    for (const segment of segments)
      for (const { sequence_number } of await readSegment(archive.bucket, segment))
        sequences.push(sequence_number)
    expect(sequences).toEqual(talk.map(({ sequence_number }) => sequence_number))
  })

  const spoils: [string, (key: string) => Promise<unknown>, string][] = [
    ['missing', (key) => archive.bucket.delete(key), 'missing'],
    ['truncated', async (key) => put(key, (await bytesOf(key)).subarray(0, -1)), 'truncated'],
    ['longer', async (key) => put(key, Buffer.concat([await bytesOf(key), Buffer.from('x')])), 'longer'],
    [
      'altered',
      async (key) => {
        const bytes = await bytesOf(key)
        bytes[20] = (bytes[20] ?? 0) ^ 1
        await put(key, bytes)
      },
      'altered',
    ],
    ['another object', async (key) => put(key, Buffer.alloc((await bytesOf(key)).length)), 'altered'],
  ]
  const bytesOf = async (key: string) =>
    Buffer.concat(await Array.fromAsync((await archive.bucket.getStream(key)) ?? []))
  const put = async (key: string, bytes: Buffer) => {
    const upload = archive.bucket.upload(key, {
      contentType: 'application/gzip',
      onBegun: async () => undefined,
    })
    await upload.write(bytes)
    await upload.close()
  }

  test.each(spoils)('nothing leaves where the copy is %s, and it is told', async (_, spoil, told) => {
    await archive.save([...old(3), ...old(2)])
    expect(await run(meanwhile(spoil))).toMatchObject({ messages: 0, failed: 1 })
    expect((await left()).length).toBe(5)
    expect(archive.counted()).toEqual(['ArchiveFailed'])
    expect(String(archive.errors()[0]?.[1].error)).toContain(told)
    // For inspection; the next run does it again.
    expect(await objects()).toMatchObject([{ state: 'dropped' }])
    await run()
    expect(await left()).toEqual([])
    // An hour later it is removed.
    await rows(
      `update archive_objects set created_at = now() - interval '61 minutes' where company_id = '${company}'`,
    )
    await run()
    expect(await objects()).toMatchObject([{ state: 'complete' }])
    expect((await archive.segments(company)).every(({ state }) => state === 'live')).toBe(true)
  })

  test('an object that is given up while it is written is counted on by nobody', async () => {
    await archive.save(old(3))
    const giveUp = async () => {
      await rows(
        `update archive_objects set created_at = now() - interval '61 minutes' where company_id = '${company}'`,
      )
      await run()
    }
    let times = 0
    await run(
      meanwhile(async () => {
        times += 1
        if (times === 1) await giveUp()
      }),
    )
    // The run in between has archived them, into its own object.
    expect(await left()).toEqual([])
    expect(await copied()).toHaveLength(3)
    expect(await objects()).toMatchObject([{ state: 'complete' }])
  })

  test('what is erased after it was read, and before its object is known, is in no object', async () => {
    const [erased, kept] = [old(3), old(3)]
    await archive.save([...erased, ...kept])
    // The erasure is over before the object is begun, from a page that was read before it.
    const begin = archive.database.app.callFor
    let times = 0
    const database: ArchiveServices['database'] = {
      ...archive.database.app,
      callFor: async (tenant, operation, args) => {
        if (operation === 'begin_archive_object' && ++times === 1)
          await rows(
            `with gone as (delete from chat_messages where session_id = '${erased[0]?.session_id}')
            insert into erased_sessions (company_id, platform, session_id, job_id, cleared_at)
            values ('${company}', 'web', '${erased[0]?.session_id}', '${randomUUID()}', now())`,
          )
        return begin(tenant, operation, args)
      },
    }
    await run({ database })
    expect(await objects()).toEqual([])
    expect(await left()).toHaveLength(3)
    expect(
      (await Array.fromAsync(archive.bucket.list(`archive/${encodeURIComponent(company)}/`))).flat(),
    ).toEqual([])
    await run()
    expect(await left()).toEqual([])
    expect(await copied()).toEqual(idsOf(kept))
  })

  test('nobody gives up an object that is younger than an hour, or that holds what has left', async () => {
    await archive.save(old(3))
    await run()
    const begin = (key: string) =>
      archive.database.app.callFor(tenant(), 'begin_archive_object', [{ text: key }, { integer: 1 }])
    await begin('young')
    await begin('older')
    await begin('older') // As a call whose answer was lost is made again.
    await rows(
      `update archive_objects set created_at = now() - interval '59 minutes' where company_id = '${company}' and key = 'young'`,
    )
    await rows(
      `update archive_objects set created_at = now() - interval '61 minutes' where company_id = '${company}' and key <> 'young'`,
    )
    const dropped = await archive.database.app.callFor<{ key: string }>(tenant(), 'drop_dead_objects', [
      { integer: 100 },
    ])
    expect(dropped.map(({ key }) => key)).toEqual(['older'])
    const complete = () =>
      archive.database.app.callFor(tenant(), 'complete_archive_object', [
        { text: 'older' },
        { jsonb: { messages: 1, segments: 1, bytes: 1, sha256: '' } },
      ])
    expect(await complete()).toEqual([{ complete_archive_object: false }])
  })

  test('a run whose time is up stops, lets leave what it has copied, and the next goes on', async () => {
    const talks = Array.from({ length: 30 }, () => old(100, { content: 'x'.repeat(2_000) }))
    for (const talk of talks) await archive.save(talk)
    let time = 1_000
    // Each look at the clock is so much later.
    const timeLeft = () => {
      time -= 50
      return time
    }
    const first = await run({}, { timeLeft })
    expect(first).toMatchObject({ isFinished: false })
    expect(archive.counted()).toEqual(['ArchiveFailed'])
    const rest = await left()
    expect(first.messages).toBeGreaterThan(0)
    expect(rest.length).toBe(3_000 - first.messages)
    expect(await run()).toMatchObject({ isFinished: true, messages: rest.length })
    expect(await copied()).toEqual(idsOf(talks.flat()))
  })

  test('a run without any time does nothing', async () => {
    await archive.save(old(2))
    expect(await run({}, { timeLeft: () => 0 })).toMatchObject({ isFinished: false, messages: 0 })
    expect((await left()).length).toBe(2)
  })

  test('a message from the future stays, whatever the clock of its sender was', async () => {
    const future = oldConversation(2, -400, { company_id: company })
    await archive.save([...future, ...old(2)])
    await run()
    expect(sorted(await left())).toEqual(idsOf(future))
  })

  test('sessions whose time is over are marked', async () => {
    const over = old(1)
    const current = oldConversation(1, 0.5, { company_id: company })
    await archive.save([...over, ...current])
    await run()
    expect(await rows(`select id from chat_sessions where company_id = '${company}' and is_active`)).toEqual([
      { id: current[0]?.session_id },
    ])
  })

  test('a message that was put back and changed leaves again, and its newer copy counts', async () => {
    const [question, answer] = old(2) as [MessageRecord, MessageRecord]
    await archive.save([question, answer])
    await run()
    const [copy] = (await archive.copies(company)).filter(({ id }) => id === answer.id)
    await rows(`insert into chat_messages select r.* from jsonb_populate_record(null::chat_messages,
      '${JSON.stringify({ ...copy, content: '고친 답', updated_at: new Date().toISOString() })}') r`)
    await run()
    expect(await left()).toEqual([])
    expect((await archive.copies(company)).map(({ content }) => content)).toEqual([
      question.content,
      '고친 답',
    ])
    expect(await archive.segments(company)).toHaveLength(2)
  })
})
