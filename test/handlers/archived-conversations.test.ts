/** Conversations that have left for the archive, as clients meet them: nothing tells them so. */
import { DeleteObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { MessagePage } from '../../lambdas/protocol.ts'
import type { ApiClient, Reply } from '../harness/client.ts'
import { linesOf, metricsOf } from '../harness/emitted-metrics.ts'
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
  const remove = (Key: string) =>
    s3().send(
      new DeleteObjectCommand({ Bucket: turnkeep.cloud.functionEnvironment.CONTENT_BUCKET ?? '', Key }),
    )

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

  /** Months go by, and less than the year after which nobody knows whose it was: caches forget, the archiver runs, and no message is left in Postgres. */
  async function monthsPass(sessionId: string): Promise<void> {
    await turnkeep.redis?.empty()
    await turnkeep.rows(
      `update chat_messages set created_at = created_at - interval '10 months' where session_id = '${sessionId}'`,
    )
    await turnkeep.rows(
      `update chat_turns set opened_at = opened_at - interval '10 months', finished_at = finished_at - interval '10 months' where session_id = '${sessionId}'`,
    )
    await turnkeep.rows(`update chat_sessions set created_at = created_at - interval '10 months', last_active_at = last_active_at - interval '10 months',
      expires_at = expires_at - interval '10 months' where id = '${sessionId}'`)
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

  test('that the archive has lost is unavailable, and is counted', async () => {
    const user = turnkeep.as({ userId: 'loses' })
    const replies = await conversation(user, QUESTIONS)
    const sessionId = replies[0]?.session?.sessionId ?? ''
    await monthsPass(sessionId)
    const [segment] = await turnkeep.rows<{ object_key: string }>(
      `select object_key from archive_segments where session_id = '${sessionId}'`,
    )
    await remove(segment?.object_key ?? '')
    const listed = await user.call<{ error: { code: string } }>('GET', `/api/sessions/${sessionId}/messages`)
    expect([listed.status, listed.body.error.code]).toEqual([503, 'unavailable'])
    expect(listed.headers.get('retry-after')).not.toBeNull()
    expect(await user.ask({ message: '그리고?', sessionId })).toMatchObject({
      status: 503,
      error: { code: 'unavailable' },
    })
    const counted = (service: string) =>
      metricsOf(linesOf(turnkeep.output())).filter(
        ({ name, dimensions }) => name === 'ArchiveUnreadable' && dimensions.service === service,
      ).length
    await expect.poll(() => [counted('turnkeep-api'), counted('turnkeep-chat')]).toEqual([1, 1])
    // Nothing of the turn is left in the way. A cache has to know the newest answer, whatever a question follows.
    const anew = await user.ask({
      message: '새로 시작',
      ...(!valkey && { sessionId, parentMessageId: null }),
    })
    expect(anew.terminal?.type).toBe('done')
  })
})
