/** An erasure leaves nothing: a marker in everything that a user can write, and afterwards a look into every store. */
import {
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  PutObjectCommand,
  paginateListObjectsV2,
  type S3Client,
} from '@aws-sdk/client-s3'
import { SendMessageCommand, SQSClient } from '@aws-sdk/client-sqs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ErasureReceipt } from '../../lambdas/protocol/rights.ts'
import { runOps } from '../harness/ops.ts'
import { atItsPace } from '../harness/paced-answers.ts'
import { record } from '../harness/records.ts'
import { erased, erasureEnded, exported } from '../harness/rights.ts'
import { archiveNow, bucketOf, tracesOf } from '../harness/traces.ts'
import { ACME, inBothPhases, startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

const MARKER = 'jabberwocky'
const LARGE = `${MARKER} ${'큰 글 😀 '.repeat(8_000)}`

/** As an operator does it. */
async function redrive({ cloud }: Turnkeep): Promise<void> {
  const queues = ['--queue', cloud.fauxqs.queueUrl('turns-dead'), '--source', cloud.fauxqs.queueUrl('turns')]
  const { code, out } = await runOps(['dead-letters', 'redrive', ...queues], {})
  expect([code, out]).toEqual([0, expect.stringContaining('1')])
}

inBothPhases('an erasure', (phase) => {
  let turnkeep: Turnkeep
  let s3: S3Client
  let sqs: SQSClient
  beforeAll(async () => {
    turnkeep = await startTurnkeep({
      ...phase,
      name: 'erasures',
      scriptedModel: { tokenDelayMs: 5, respond: atItsPace },
      environment: { TOKENS_USER_DAY: '1000000', TOKENS_USER_MONTH: '1000000' },
    })
    const options = {
      region: 'us-east-1',
      endpoint: turnkeep.cloud.fauxqs.address,
      credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
    }
    s3 = bucketOf(turnkeep)
    sqs = new SQSClient(options)
  })
  afterAll(() => turnkeep.close())

  const invoke = async (name: string) =>
    JSON.parse(String(await turnkeep.cloud.runtimeApi.invoke(name, '{}')))

  const send = (queue: string, body: object) =>
    sqs.send(
      new SendMessageCommand({
        QueueUrl: turnkeep.cloud.fauxqs.queueUrl(queue),
        MessageBody: JSON.stringify(body),
      }),
    )

  /** As a run leaves it that has just begun: nobody knows yet what stands in it. */
  async function beginArchiveObject(): Promise<void> {
    const Key = 'archive/acme/web/2026/01/01/begun.jsonl.gz'
    const { UploadId } = await s3.send(new CreateMultipartUploadCommand({ Bucket: 'content', Key }))
    await turnkeep.rows(
      `insert into archive_objects (company_id, platform, key, state, upload_id, schema_version)
       values ('acme', 'web', '${Key}', 'writing', '${UploadId}', 1)`,
    )
  }

  const found = async (marker: string) => (await tracesOf(turnkeep, s3, marker)).sort()

  /** The hashes that objects name, by their keys. */
  async function usersOf(Prefix: string): Promise<[string, string][]> {
    const users: [string, string][] = []
    for await (const { Contents = [] } of paginateListObjectsV2(
      { client: s3 },
      { Bucket: 'content', Prefix },
    ))
      for (const { Key = '' } of Contents) {
        const { Body } = await s3.send(new GetObjectCommand({ Bucket: 'content', Key }))
        users.push([Key, JSON.parse((await Body?.transformToString()) ?? '').user])
      }
    return users
  }

  const asked = async (userId: string, chat: Record<string, unknown>): Promise<string> => {
    const { session, terminal } = await turnkeep.as({ userId }).ask(chat)
    expect(terminal?.type).toBe('done')
    return session?.sessionId ?? ''
  }

  test('leaves no trace in any store, whatever comes late', { timeout: 120_000 }, async () => {
    const userId = 'bandersnatch'
    const user = turnkeep.as({ userId })
    const old = await asked(userId, { message: `old ${MARKER}`, metadata: { note: MARKER } })
    await asked(userId, { message: LARGE, sessionId: old })
    const others = await asked('kept', { message: 'the question of somebody else' })
    await turnkeep.drained()
    await archiveNow(turnkeep, s3, old, others)
    const kept = await turnkeep.as({ userId: 'kept' }).messages(others)
    expect(await turnkeep.rows('select 1 from archived_messages')).toHaveLength(6)

    const sessionId = await asked(userId, {
      message: `${MARKER} 질문`,
      metadata: { note: MARKER },
      threadId: `thread ${MARKER}`,
      channel: MARKER,
    })
    await user.call('PATCH', `/api/sessions/${sessionId}`, { title: MARKER, metadata: { note: MARKER } })
    const repeated = { headers: { 'idempotency-key': 'a key' } }
    expect((await user.ask(LARGE, repeated)).terminal?.type).toBe('done')
    await turnkeep.drained()
    const [answer] = (await user.messages(sessionId)).filter(({ role }) => role === 'assistant')
    await user.call('POST', `/api/messages/${answer?.messageId}/feedback`, { score: 1, comment: MARKER })
    await exported(user, userId)
    // What is on its way, in the spool and among the dead letters, and an object that the archiver has not ended.
    const late = [MARKER, LARGE, MARKER].map((content) =>
      record({ user_id: userId, session_id: sessionId, content, metadata: { note: MARKER } }),
    )
    const [queued, spooled, dead] = late
    const neighbour = record({ user_id: 'neighbour' })
    const spool = async (key: string, ...records: unknown[]): Promise<void> => {
      const messages = records.map((one) => ({ tenant: ACME, body: { records: [one] } }))
      const Body = JSON.stringify(messages)
      await s3.send(new PutObjectCommand({ Bucket: 'content', Key: `spool/${key}`, Body }))
    }
    await spool('own.json', spooled)
    await spool('shared.json', spooled, neighbour)
    await s3.send(new PutObjectCommand({ Bucket: 'content', Key: 'spool/unreadable.json', Body: '{' }))
    await send('turns-dead', { records: [dead] })
    await beginArchiveObject()
    const before = await found(MARKER)
    expect(before.length).toBeGreaterThan(7)

    // By an admin: a user who asks is counted for the rate limits again.
    const receipt = await erased(turnkeep.as({ userId: 'admin', role: 'admin' }), userId)
    expect(receipt).toMatchObject({ status: 'done', userId })
    const removed = Object.fromEntries(receipt.places.map(({ place, removed }) => [place, removed]))
    expect(removed).toMatchObject({
      sessions: 3,
      messages: 4,
      archiveMessages: 4,
      archiveObjects: 1,
      exports: 1,
      spool: 2,
    })
    expect(JSON.stringify(receipt)).not.toContain(MARKER)
    const after = await found(MARKER)
    console.log('The marker before the erasure, and after it:', { before, after })
    expect(after).toEqual(['queue turns-dead'])

    // What was slower than the erasure is dropped when it is read; what was somebody else's arrives.
    await send('turns', { records: [queued] })
    await spool('late.json', spooled)
    expect(await invoke('maintain')).toMatchObject({ requeued: 2, unreadable: 1 })
    await redrive(turnkeep)
    await turnkeep.drained()
    expect(await found(MARKER)).toEqual([])
    // Nor does its name stand anywhere but where it says that it was erased, and where limits and budgets count.
    const counts = /^key tk:\{acme:web\}:(rate|tokens):|^table rate_limits/
    const named = (await found(userId)).filter((place) => !counts.test(place))
    expect(named).toEqual(['table audit_log', 'table erasures', 'table user_jobs'])
    // What is somebody else's stands as it stood, in the object that was written again.
    expect(await turnkeep.as({ userId: 'kept' }).messages(others)).toEqual(kept)
    expect(await turnkeep.rows(`select 1 from chat_messages where id = '${neighbour.id}'`)).toHaveLength(1)
    await s3.send(new DeleteObjectCommand({ Bucket: 'content', Key: 'spool/unreadable.json' }))
  })

  test('stops the answers of its user first', async () => {
    const userId = 'running'
    const user = turnkeep.as({ userId })
    const begun = Promise.withResolvers<void>()
    const reply = user.ask('길게 써 주세요 (50 ms)', {
      onEvent: ({ id }) => {
        if (id === 6) begun.resolve()
        return false
      },
    })
    await begun.promise
    const receipt = await erased(user, userId)
    const { session, terminal } = await reply
    expect(terminal).toMatchObject({ type: 'done', finishReason: 'stopped' })
    expect(receipt.status).toBe('done')
    await turnkeep.drained()
    expect(
      await turnkeep.rows(`select 1 from chat_messages where session_id = '${session?.sessionId}'`),
    ).toEqual([])
    expect((await user.stream('GET', `/api/chat/stream/${session?.messageId}`)).status).toBe(404)
    expect((await user.call('GET', `/api/sessions/${session?.sessionId}`)).status).toBe(404)
    // Its id makes no other session.
    const again = await user.ask({ message: 'again', sessionId: session?.sessionId })
    expect(again.error?.code).toBe('not_found')
  })

  test('twice is the same receipt, and a user who comes back has a new one', async () => {
    const userId = 'back'
    const user = turnkeep.as({ userId })
    await asked(userId, { message: 'first' })
    await turnkeep.drained()
    const first = await erased(user, userId)
    expect(await erased(user, userId)).toEqual(first)
    const sessionId = await asked(userId, { message: 'I am back' })
    await turnkeep.drained()
    expect((await user.messages(sessionId)).map(({ content }) => content)[0]).toBe('I am back')
    expect((await user.call('GET', '/api/usage')).body.total).toMatchObject({ turns: 1 })
    const second = await erased(user, userId)
    expect(second.erasureId).not.toBe(first.erasureId)
    expect((await user.call('GET', `/api/sessions/${sessionId}`)).status).toBe(404)
  })

  test('gives nobody a budget that is used up, saved or not, nor a rate limit', {
    timeout: 60_000,
  }, async () => {
    const companyId = 'thrifty'
    const admin = turnkeep.as({ companyId, userId: 'admin', role: 'admin' })
    await admin.call('PATCH', '/api/tenant', { userTokensPerDay: 3_000 })
    const user = turnkeep.as({ companyId, userId: 'spender' })
    const refusal = async () => {
      for (;;) {
        const { terminal, error } = await user.ask('질문 '.repeat(100))
        if (terminal?.type !== 'done') return error
      }
    }
    const before = await refusal()
    expect(before?.code).toBe('quota_exceeded')
    expect((await erased(user, 'spender')).status).toBe('done')
    const again = await user.ask('질문 '.repeat(100))
    expect(again.error).toMatchObject({ code: 'quota_exceeded', details: before?.details })
    const { body, headers } = await user.call('GET', '/api/usage')
    expect(body.total).toMatchObject({ turns: 0 })
    // Requests of before count on, too.
    const [limit, left] = ['limit', 'remaining'].map((name) => Number(headers.get(`x-ratelimit-${name}`)))
    expect((limit ?? 0) - (left ?? 0)).toBeGreaterThan(10)
  })

  test('of a user whom nobody has seen is done, and has removed nothing', async () => {
    const receipt = await erased(turnkeep.as({ userId: 'admin', role: 'admin' }), 'never seen')
    expect(receipt.status).toBe('done')
    expect(receipt.places.every(({ removed }) => removed === 0)).toBe(true)
  })

  test('whose message cannot be read comes back later, and holds nobody up', async () => {
    await send('jobs', { nonsense: true })
    await expect.poll(() => turnkeep.output()).toContain('job failed')
    expect((await erased(turnkeep.as({ userId: 'next' }), 'next')).status).toBe('done')
    const { ready = [], inflight = [] } = turnkeep.cloud.fauxqs.inspectQueue('jobs')?.messages ?? {}
    expect(ready.length + inflight.length).toBe(1)
  })

  test('of what the archive has lost leaves nothing behind, and nothing of others goes with it', async () => {
    const own = await asked('lost', { message: LARGE })
    const shared = await asked('lost', { message: 'beside somebody else' })
    const others = await asked('beside', { message: 'kept' })
    await turnkeep.drained()
    const keyOf = async (sessionId: string) => {
      const [row] = await turnkeep.rows<{ object_key: string }>(
        `select object_key from archive_segments where session_id = '${sessionId}'`,
      )
      return row?.object_key ?? ''
    }
    await archiveNow(turnkeep, s3, own)
    await archiveNow(turnkeep, s3, shared, others)
    const [alone, together] = [await keyOf(own), await keyOf(others)]
    expect(await keyOf(shared)).toBe(together)
    expect((await found(MARKER)).filter((place) => place.startsWith('object content/'))).toHaveLength(1)
    const { Body } = await s3.send(new GetObjectCommand({ Bucket: 'content', Key: together }))
    const whole = (await Body?.transformToByteArray()) ?? ''
    for (const Key of [alone, together])
      await s3.send(new PutObjectCommand({ Bucket: 'content', Key, Body: 'damaged' }))
    const admin = turnkeep.as({ userId: 'admin', role: 'admin' })
    expect((await admin.call('DELETE', '/api/users/lost')).status).toBe(202)
    await expect
      .poll(async () => turnkeep.rows(`select 1 from archive_objects where key = '${alone}'`), {
        timeout: 20_000,
      })
      .toEqual([])
    // With the other object the last version would go from which what stays in it can be mended.
    expect(await keyOf(others)).toBe(together)
    await s3.send(new PutObjectCommand({ Bucket: 'content', Key: together, Body: whole }))
    expect((await erased(admin, 'lost')).status).toBe('done')
    expect((await found(MARKER)).filter((place) => place.startsWith('object'))).toEqual([])
    expect(await keyOf(others)).not.toBe(together)
    expect((await turnkeep.as({ userId: 'beside' }).messages(others))[0]?.content).toBe('kept')
  })

  test('is for its user and for admins alone', async () => {
    for (const role of ['user', 'agent'] as const)
      expect((await turnkeep.as({ userId: 'x', role }).call('DELETE', '/api/users/kept')).status).toBe(403)
    const admin = turnkeep.as({ userId: 'admin', role: 'admin' })
    const { body } = await admin.call<{ erasureId: string }>('DELETE', '/api/users/whom')
    await erasureEnded(admin, body.erasureId)
    const elsewhere = turnkeep.as({ userId: 'admin', role: 'admin', companyId: 'elsewhere' })
    for (const stranger of [turnkeep.as({ userId: 'x' }), elsewhere])
      expect((await stranger.call('GET', `/api/erasures/${body.erasureId}`)).status).toBe(404)
    expect(
      (await turnkeep.as({ userId: 'whom' }).call('GET', `/api/erasures/${body.erasureId}`)).status,
    ).toBe(200)
    const { body: log } = await admin.call<{ items: { action: string }[] }>('GET', '/api/audit?userId=whom')
    expect(log.items).toMatchObject([{ action: 'user.erased', actorId: 'admin', userId: 'whom' }])
  })

  test('of a hash is refused: the user behind it may be here, and a tombstone names both alike', async () => {
    const admin = turnkeep.as({ userId: 'admin', role: 'admin' })
    const { status, body } = await admin.call('DELETE', `/api/users/anon_${'0'.repeat(32)}`)
    expect([status, body]).toMatchObject([400, { error: { code: 'invalid_request' } }])
  })

  test('is made again in a database that was restored from before it', { timeout: 60_000 }, async () => {
    const userId = 'restored'
    const user = turnkeep.as({ userId })
    await asked(userId, { message: 'what was erased' })
    await turnkeep.drained()
    const tables = ['chat_sessions', 'chat_messages']
    for (const table of tables)
      await turnkeep.rows(`create table public.backup_${table} as select * from ${table}`)
    const first = await erased(user, userId)
    const back = await asked(userId, { message: 'I am back' })
    await turnkeep.drained()
    const tombstones = () => usersOf('erasures/')
    const before = await tombstones()
    expect(before.length).toBeGreaterThan(1)
    const jobs = await turnkeep.rows<{ id: string }>(
      `select id from user_jobs where kind = 'erasure' and state = 'done'`,
    )
    // The backup knows of no erasure.
    for (const table of tables)
      await turnkeep.rows(`insert into ${table} select * from public.backup_${table} on conflict do nothing`)
    for (const table of tables) await turnkeep.rows(`drop table public.backup_${table}`)
    for (const table of ['user_jobs', 'erasures', 'erased_sessions'])
      await turnkeep.rows(`delete from ${table}`)
    // All users are looked through, whatever they are called.
    await turnkeep.rows(
      `insert into chat_sessions (id, company_id, platform, user_id)
       select gen_random_uuid(), 'acme', 'web', rpad(n::text, 200, '가') from generate_series(1, 1800) n`,
    )
    expect(await turnkeep.rows(`select 1 from chat_messages where content = 'what was erased'`)).toHaveLength(
      1,
    )

    await s3.send(new DeleteObjectCommand({ Bucket: 'content', Key: 'archive/next-run.json' }))
    await invoke('archive')
    expect(await erasureEnded(user, first.erasureId)).toMatchObject({ status: 'done' })
    expect(await turnkeep.rows(`select 1 from chat_messages where content = 'what was erased'`)).toEqual([])
    expect((await user.messages(back)).map(({ content }) => content)).toContain('I am back')
    // All of them were made again, also those of whose users nothing but a hash is known, which stands as it stood.
    const admin = turnkeep.as({ userId: 'admin', role: 'admin' })
    for (const { id } of jobs) expect(await erasureEnded(admin, id)).toMatchObject({ status: 'done' })
    expect(await tombstones()).toEqual(before)
  })

  test('goes on where its function was killed', async () => {
    const userId = 'killed'
    const user = turnkeep.as({ userId })
    for (let count = 0; count < 3; count += 1) await asked(userId, { message: `question ${count}` })
    await turnkeep.drained()
    const { body } = await user.call<{ erasureId: string }>('DELETE', `/api/users/${userId}`)
    await turnkeep.killFunctions()
    // The message comes back by itself after the queue's visibility timeout; a second request brings another one at once.
    await user.call('DELETE', `/api/users/${userId}`)
    const receipt: ErasureReceipt = await erasureEnded(user, body.erasureId)
    expect(receipt).toMatchObject({ status: 'done' })
    expect(receipt.places.find(({ place }) => place === 'sessions')).toMatchObject({ removed: 3 })
  })
})
