/** Conversations that have left for the archive, as clients meet them: nothing tells them so. */
import { DeleteObjectCommand, GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { SendMessageCommand, SQSClient } from '@aws-sdk/client-sqs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { AuditEntry } from '../../lambdas/protocol/audit.ts'
import type { Page } from '../../lambdas/protocol/lists.ts'
import type { MessagePage } from '../../lambdas/protocol/messages.ts'
import type { UserAnswer } from '../../lambdas/protocol/rights.ts'
import type { Session } from '../../lambdas/protocol/sessions.ts'
import type { ApiClient, Reply } from '../harness/client.ts'
import { linesOf, metricsOf } from '../harness/emitted-metrics.ts'
import { record } from '../harness/records.ts'
import { erased, exported } from '../harness/rights.ts'
import { tracesOf } from '../harness/traces.ts'
import { inBothPhases, startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

inBothPhases('a conversation of many months ago', ({ valkey }) => {
  let turnkeep: Turnkeep
  beforeAll(async () => {
    turnkeep = await startTurnkeep({ name: 'archived_conversations', valkey })
  })
  afterAll(() => turnkeep.close())

  const s3 = () =>
    new S3Client({
      endpoint: turnkeep.cloud.functionEnvironment.AWS_ENDPOINT_URL_S3 ?? '',
      region: 'us-east-1',
      credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
      forcePathStyle: true,
    })
  const sqs = () =>
    new SQSClient({
      endpoint: turnkeep.cloud.fauxqs.address,
      region: 'us-east-1',
      credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
    })
  const bucket = () => turnkeep.cloud.functionEnvironment.CONTENT_BUCKET ?? ''
  const remove = (Key: string) => s3().send(new DeleteObjectCommand({ Bucket: bucket(), Key }))

  async function conversation(user: ApiClient, questions: string[]): Promise<Reply[]> {
    const replies: Reply[] = []
    for (const message of questions) {
      const sessionId = replies[0]?.session?.sessionId
      const reply = await user.ask({ message, ...(sessionId && { sessionId }) })
      expect(reply.terminal?.type).toBe('done')
      replies.push(reply)
    }
    await turnkeep.drained()
    return replies
  }

  /** Months go by: caches forget, the archiver runs, and no message is left in Postgres. */
  async function monthsPass(sessionId: string, months = 10): Promise<void> {
    const ago = `- interval '${months} months'`
    await turnkeep.redis?.empty()
    await turnkeep.rows(
      `update chat_messages set created_at = created_at ${ago} where session_id = '${sessionId}'`,
    )
    await turnkeep.rows(
      `update chat_turns set opened_at = opened_at ${ago}, finished_at = finished_at ${ago} where session_id = '${sessionId}'`,
    )
    await turnkeep.rows(`update chat_sessions set created_at = created_at ${ago}, last_active_at = last_active_at ${ago},
      expires_at = expires_at ${ago} where id = '${sessionId}'`)
    await remove('archive/next-run.json')
    const archived = JSON.parse(String(await turnkeep.cloud.runtimeApi.invoke('archive', '{}')))
    expect(archived).toMatchObject({ failed: 0, isFinished: true })
    expect(await left(sessionId)).toBe(0)
  }
  const left = async (sessionId: string): Promise<number> => {
    const [row] = await turnkeep.rows<{ n: number }>(
      `select count(*)::int as n from chat_messages where session_id = '${sessionId}'`,
    )
    return row?.n ?? -1
  }
  const lastAsked = () => turnkeep.cloud.scriptedModel?.requests.at(-1)?.chat?.messages ?? []
  const QUESTIONS = ['첫 질문 😀', '두 번째 질문', 'the third question', '네 번째 질문']

  test('reads as before, and goes on where it was: the model is given what was said', async () => {
    const user = turnkeep.as({ userId: 'resumes' })
    const replies = await conversation(user, QUESTIONS)
    const sessionId = replies[0]?.session?.sessionId ?? ''
    const path = `/api/sessions/${sessionId}/messages?limit=3`
    const before = await user.call<MessagePage>('GET', path)
    const all = await user.messages(sessionId)
    await monthsPass(sessionId)
    const withoutTimes = (text: string) => text.replace(/"createdAt":"[^"]*"/g, '')
    expect(withoutTimes(JSON.stringify((await user.call('GET', path)).body))).toBe(
      withoutTimes(JSON.stringify(before.body)),
    )
    expect((await user.messages(sessionId)).map(({ messageId }) => messageId)).toEqual(
      all.map(({ messageId }) => messageId),
    )
    expect(await left(sessionId)).toBe(0)

    const reply = await user.ask({ message: '계속할까요?', sessionId })
    expect(reply.terminal?.type).toBe('done')
    expect(reply.session).toMatchObject({ sessionId, created: false })
    // The system prompt, five messages of history without the answer that lost its question, and the question.
    expect(
      lastAsked()
        .map(({ content }) => content)
        .slice(1),
    ).toEqual([...all.slice(-4).map(({ content }) => content), '계속할까요?'])
    await turnkeep.drained()
    const after = await user.messages(sessionId)
    expect(after.map(({ sequenceNumber }) => sequenceNumber)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    expect(after[8]?.parentMessageId).toBe(all[7]?.messageId)
  })

  test('has the better version of an answer that comes after the worse one has left', async () => {
    const user = turnkeep.as({ userId: 'late' })
    const [reply] = await conversation(user, ['첫 질문'])
    const { sessionId = '', messageId = '' } = reply?.session ?? {}
    const [question, { content = '' } = {}] = await user.messages(sessionId)
    await turnkeep.rows(
      `update chat_messages set status = 'interrupted', content = 'half' where id = '${messageId}'`,
    )
    await monthsPass(sessionId)
    expect((await user.messages(sessionId))[1]).toMatchObject({ status: 'interrupted', content: 'half' })

    const [kept] = await turnkeep.rows<{ created_at: string }>(
      `select created_at from chat_sessions where id = '${sessionId}'`,
    )
    const better = record({
      ...{ id: messageId, session_id: sessionId, user_id: 'late', role: 'assistant' },
      ...{ content, parent_message_id: question?.messageId ?? null, sequence_number: 2 },
      created_at: new Date(kept?.created_at ?? '').toISOString(),
    })
    await sqs().send(
      new SendMessageCommand({
        QueueUrl: turnkeep.cloud.fauxqs.queueUrl('turns'),
        MessageBody: JSON.stringify({ records: [better] }),
      }),
    )
    await turnkeep.drained()
    expect((await user.messages(sessionId))[1]).toMatchObject({ status: 'complete', content })
  })

  test('has its answers made again, rated and deleted', async () => {
    const user = turnkeep.as({ userId: 'changes' })
    const replies = await conversation(user, QUESTIONS)
    const sessionId = replies[0]?.session?.sessionId ?? ''
    const [first, second, third] = replies.map(({ session }) => session?.messageId ?? '')
    await monthsPass(sessionId)
    expect((await user.call('POST', `/api/messages/${first}/feedback`, { score: 2 })).status).toBe(204)
    expect((await user.call('DELETE', `/api/messages/${second}`)).status).toBe(204)
    const again = await user.stream('POST', `/api/messages/${third}/regenerate`)
    expect(again.terminal?.type).toBe('done')
    expect(lastAsked().at(-1)?.content).toBe(QUESTIONS[2])
    await turnkeep.drained()
    const messages = await user.messages(sessionId)
    expect(messages.find(({ messageId }) => messageId === first)).toMatchObject({ satisfactionScore: 2 })
    expect(messages.map(({ messageId }) => messageId)).not.toContain(second)
    expect(messages.filter(({ sequenceNumber }) => sequenceNumber === 6)).toHaveLength(2)
    // Whose the answer is, is found out before it is brought back.
    const fourth = replies[3]?.session?.messageId
    const stranger = turnkeep.as({ userId: 'stranger' })
    const here = await left(sessionId)
    expect((await stranger.call('POST', `/api/messages/${fourth}/feedback`, { score: 2 })).status).toBe(404)
    expect(await left(sessionId)).toBe(here)
    expect((await user.call('DELETE', `/api/chat/stream/${fourth}`)).status).toBe(200)
  })

  test('is branched from where a client names an answer of it', async () => {
    const user = turnkeep.as({ userId: 'branches' })
    const replies = await conversation(user, QUESTIONS)
    const sessionId = replies[0]?.session?.sessionId ?? ''
    await monthsPass(sessionId)
    const parentMessageId = replies[0]?.session?.messageId
    const branch = await user.ask({ message: '다른 길', sessionId, parentMessageId })
    expect(branch.terminal?.type).toBe('done')
    expect(
      lastAsked()
        .slice(1)
        .map(({ content }) => content),
    ).toEqual([QUESTIONS[0], replies[0]?.text, '다른 길'])
    await turnkeep.drained()
    const newest = await user.ask({ message: '가장 새로운 답 다음', sessionId })
    expect(newest.terminal?.type).toBe('done')
    await turnkeep.drained()
    const at = (await user.messages(sessionId)).find(({ content }) => content === '가장 새로운 답 다음')
    expect(at).toMatchObject({ parentMessageId: branch.session?.messageId, sequenceNumber: 5 })
  })

  test('answers a request that comes once more with what it answered then', async () => {
    const user = turnkeep.as({ userId: 'repeats' })
    const headers = { 'idempotency-key': 'an old key' }
    const first = await user.ask('물음', { headers })
    const sessionId = first.session?.sessionId ?? ''
    await turnkeep.drained()
    await monthsPass(sessionId)
    const again = await user.ask('물음', { headers })
    expect(again.text).toBe(first.text)
    expect(again.terminal).toMatchObject({
      type: 'done',
      messageId: first.session?.messageId,
      metadata: { cached: true },
    })
  })

  test('is its user’s again after thirteen months, by being listed, read or gone on with', async () => {
    const hidden = async (sessionId: string) => {
      const [row] = await turnkeep.rows<{ user_id: string }>(
        `select user_id from chat_sessions where id = '${sessionId}'`,
      )
      return /^anon_[0-9a-f]{32}$/.test(row?.user_id ?? '')
    }
    const stranger = turnkeep.as({ userId: 'stranger' })
    const elsewhere = turnkeep.as({ userId: 'comes back', companyId: 'elsewhere' })
    const user = turnkeep.as({ userId: 'comes back' })
    const replies = await conversation(user, QUESTIONS)
    const sessionId = replies[0]?.session?.sessionId ?? ''
    const before = await user.messages(sessionId)
    const listed = async (of: ApiClient) =>
      (await of.call<Page<Session>>('GET', '/api/sessions')).body.items.map((session) => session.sessionId)
    for (const back of [
      async () => expect(await listed(user)).toEqual([sessionId]),
      async () => expect(await user.messages(sessionId)).toHaveLength(before.length),
      async () => expect((await user.call('GET', `/api/sessions/${sessionId}`)).status).toBe(200),
      async () => {
        const feedback = await user.call('POST', `/api/messages/${before[1]?.messageId}/feedback`, {
          score: 5,
        })
        expect(feedback.status).toBe(204)
      },
      async () => {
        const { terminal } = await user.stream('POST', `/api/messages/${before[7]?.messageId}/regenerate`)
        expect(terminal?.type).toBe('done')
      },
      async () => {
        const reply = await user.ask({ message: '계속할까요?', sessionId })
        expect(reply.session).toMatchObject({ sessionId, created: false })
        expect(lastAsked().map(({ content }) => content)).toContain(QUESTIONS[3])
      },
    ]) {
      await monthsPass(sessionId, 13)
      expect(await hidden(sessionId)).toBe(true)
      for (const other of [stranger, elsewhere]) {
        expect(await listed(other)).toEqual([])
        expect((await other.call('GET', `/api/sessions/${sessionId}/messages`)).status).toBe(404)
        expect((await other.ask({ message: '내 것?', sessionId })).error?.code).toBe('not_found')
      }
      // It counts as the user's, whatever it stands under.
      expect((await user.call<UserAnswer>('GET', '/api/user')).body).toMatchObject({ sessions: 1 })
      expect(await hidden(sessionId)).toBe(true)
      await back()
      expect(await hidden(sessionId)).toBe(false)
      await turnkeep.drained()
    }
    // Who reads alone has not used it.
    await monthsPass(sessionId, 13)
    await user.messages(sessionId)
    await monthsPass(sessionId, 0)
    expect(await hidden(sessionId)).toBe(true)
  }, 120_000)

  test('is exported for its user after thirteen months, and erased', async () => {
    const user = turnkeep.as({ userId: 'long ago' })
    const [reply] = await conversation(user, ['오래된 질문'])
    const sessionId = reply?.session?.sessionId ?? ''
    await monthsPass(sessionId, 13)
    // Who reads it now reads what stands under a hash.
    await turnkeep.as({ userId: 'agent', role: 'agent' }).messages(sessionId)
    const admin = turnkeep.as({ userId: 'admin', role: 'admin' })
    const { items } = (await admin.call<Page<AuditEntry>>('GET', '/api/audit?userId=long%20ago')).body
    expect(items).toMatchObject([{ action: 'messages.read', actorId: 'agent', sessionId }])
    const { lines } = await exported(user, 'long ago')
    expect(lines.filter(({ kind }) => kind === 'audit').map(({ action }) => action)).toEqual([
      'user.exported',
      'messages.read',
    ])
    expect(lines.filter(({ kind }) => kind === 'message').map(({ content }) => content)).toEqual([
      '오래된 질문',
      reply?.text,
    ])
    expect(lines.map(({ kind }) => kind)).toContain('usage')
    const { places } = await erased(user, 'long ago')
    expect(places).toContainEqual({ place: 'sessions', removed: 1 })
    expect(places).toContainEqual({ place: 'archiveMessages', removed: 2 })
    expect(await tracesOf(turnkeep, s3(), '오래된 질문')).toEqual([])
  })

  const objectOf = async (sessionId: string): Promise<string> => {
    const [segment] = await turnkeep.rows<{ object_key: string }>(
      `select object_key from archive_segments where session_id = '${sessionId}'`,
    )
    return segment?.object_key ?? ''
  }
  /** By whoever met it: it is the archive's. */
  const counted = (): number =>
    metricsOf(linesOf(turnkeep.output())).filter(
      ({ name, dimensions }) => name === 'ArchiveUnreadable' && dimensions.service === 'turnkeep-archive',
    ).length

  test('that the archive has lost is answered without it, is never read as if it were less, and is counted', async () => {
    const user = turnkeep.as({ userId: 'loses' })
    const replies = await conversation(user, QUESTIONS)
    const sessionId = replies[0]?.session?.sessionId ?? ''
    const before = await user.messages(sessionId)
    await monthsPass(sessionId)
    const Key = await objectOf(sessionId)
    const { Body } = await s3().send(new GetObjectCommand({ Bucket: bucket(), Key }))
    const bytes = (await Body?.transformToByteArray()) ?? ''
    await remove(Key)
    const listed = await user.call<{ error: { code: string } }>('GET', `/api/sessions/${sessionId}/messages`)
    expect([listed.status, listed.body.error.code]).toEqual([503, 'unavailable'])
    expect(listed.headers.get('retry-after')).not.toBeNull()

    const reply = await user.ask({ message: '그리고?', sessionId })
    expect(reply.terminal?.type).toBe('done')
    const asked = () =>
      lastAsked()
        .slice(1)
        .map(({ content }) => content)
    expect(asked()).toEqual(['그리고?'])
    await expect.poll(counted).toBe(2)
    const told = linesOf(turnkeep.output()).filter(({ message }) =>
      String(message).startsWith('answering without'),
    )
    expect(told).toHaveLength(1)
    expect(JSON.stringify(told)).not.toMatch(/그리고|질문/)
    await turnkeep.drained()
    // From here on there is a context again, and a client may begin anew.
    expect((await user.ask({ message: '이어서', sessionId })).terminal?.type).toBe('done')
    expect(asked()).toEqual(['그리고?', reply.text, '이어서'])
    const root = { message: '새로 시작', sessionId, parentMessageId: null }
    expect((await user.ask(root)).terminal?.type).toBe('done')
    // What a client names has to be there: a named answer, one to be made again.
    const answerId = replies[1]?.session?.messageId ?? ''
    const branch = await user.ask({ message: '다른 길', sessionId, parentMessageId: answerId })
    expect([branch.status, branch.error?.code]).toEqual([503, 'unavailable'])
    const again = await user.stream('POST', `/api/messages/${answerId}/regenerate`)
    expect([again.status, again.error?.code]).toEqual([503, 'unavailable'])

    // Mended, it is whole, and what was said meanwhile follows it.
    await turnkeep.drained()
    await s3().send(new PutObjectCommand({ Bucket: bucket(), Key, Body: bytes }))
    const known = new Set(before.map(({ messageId }) => messageId))
    const after = await user.messages(sessionId)
    expect(after.map(({ messageId }) => messageId).filter((id) => known.has(id))).toEqual([...known])
    const next = after.find(({ content }) => content === '그리고?')
    expect(next).toMatchObject({ sequenceNumber: 9, parentMessageId: before[7]?.messageId })
  })

  test('whose older part is lost is answered with the newer one', async () => {
    const user = turnkeep.as({ userId: 'half' })
    const replies = await conversation(user, QUESTIONS.slice(0, 2))
    const sessionId = replies[0]?.session?.sessionId ?? ''
    await monthsPass(sessionId)
    await remove(await objectOf(sessionId))
    const newer = await user.ask({ message: '나중 질문', sessionId })
    await turnkeep.drained()
    await monthsPass(sessionId)
    expect((await user.ask({ message: '그리고?', sessionId })).terminal?.type).toBe('done')
    expect(
      lastAsked()
        .slice(1)
        .map(({ content }) => content),
    ).toEqual(['나중 질문', newer.text, '그리고?'])
  })
})
