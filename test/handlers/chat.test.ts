import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { atItsPace } from '../harness/paced-answers.ts'
import { inBothPhases, startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

inBothPhases('chat', (phase) => {
  let turnkeep: Turnkeep
  beforeAll(async () => {
    turnkeep = await startTurnkeep({ ...phase, name: 'chat', scriptedModel: { respond: atItsPace } })
  })
  afterAll(() => turnkeep.close())

  describe('a conversation', () => {
    test('streams session, status, tokens and done, numbered from 0', async () => {
      const reply = await turnkeep.as().ask('배송 정책이 어떻게 되나요?')
      expect(reply.events.map(({ id }) => id)).toEqual(reply.events.map((_, index) => index))
      expect(reply.events.map(({ event }) => event.type).filter((type) => type !== 'token')).toEqual([
        'session',
        'status',
        'status',
        'done',
      ])
      expect(reply.session).toMatchObject({ threadId: 'main', created: true })
      expect(reply.terminal).toMatchObject({
        type: 'done',
        finishReason: 'stop',
        sessionId: reply.session?.sessionId,
        messageId: reply.session?.messageId,
        metadata: { model: 'scripted-chat', contextLength: 0, sessionMessageCount: 2 },
      })
      expect(reply.text).toContain('배송')
    })

    test('remembers what was asked before, also before anything was saved', async () => {
      const user = turnkeep.as({ userId: 'memory' })
      const first = await user.ask('제 이름은 김하늘입니다')
      const sessionId = first.session?.sessionId
      const second = await user.ask({ message: '아까 뭐라고 물었지?', sessionId })
      expect(second.text).toContain('김하늘')
      expect(second.terminal).toMatchObject({ metadata: { contextLength: 2, sessionMessageCount: 4 } })
    })

    test('a turn whose done was seen is in the very next read', async () => {
      const user = turnkeep.as({ userId: 'reader' })
      const reply = await user.ask('hello')
      const messages = await user.messages(reply.session?.sessionId ?? '')
      expect(messages).toMatchObject([
        { role: 'user', content: 'hello', sequenceNumber: 1, parentMessageId: null, status: 'complete' },
        {
          role: 'assistant',
          content: reply.text,
          sequenceNumber: 2,
          parentMessageId: reply.session?.userMessageId,
          messageId: reply.session?.messageId,
          status: 'complete',
          model: 'scripted-chat',
        },
      ])
      await turnkeep.drained()
      expect(await user.messages(reply.session?.sessionId ?? '')).toEqual(messages)
      const rows = await turnkeep.rows(
        `select content, saved_at > created_at as saved from chat_messages where session_id = '${reply.session?.sessionId}' order by sequence_number`,
      )
      expect(rows).toEqual([
        { content: 'hello', saved: true },
        { content: reply.text, saved: true },
      ])
    })

    test.each([
      ['Korean and emoji', '안녕하세요 👋🏽 가각힣 ㄱㄴㄷ 👨‍👩‍👧‍👦'],
      ['control characters and U+FFFF', 'a\u0001b\u001f\u007f\uFFFE\uFFFF\u2028\u2029z'],
      ['what looks like an event', 'id: 5\ndata: {"type":"done"}\n\n: comment\r\n\r\nevent: x'],
      ['SQL', `'; drop table chat_messages; -- $$ :p0 \\x00 %s "`],
      ['markup', '<script>alert(1)</script>&amp;<!--'],
    ])('%s come back byte for byte', async (_, message) => {
      const user = turnkeep.as({ userId: 'bytes' })
      const reply = await user.ask({ message })
      const sessionId = reply.session?.sessionId ?? ''
      expect((await user.messages(sessionId))[0]?.content).toBe(message)
      await turnkeep.drained()
      expect((await user.messages(sessionId))[0]?.content).toBe(message)
    })

    test.each([
      ['100,000 Korean characters', '가'.repeat(100_000)],
      ['100,000 emoji', '😀'.repeat(100_000)],
      ['100,000 control characters', `${'\u0001'.repeat(99_999)}z`],
    ])('%s are a message, and are read back whole before and after saving', async (_, message) => {
      const user = turnkeep.as({ userId: 'large' })
      const reply = await user.ask({ message })
      expect(reply.terminal?.type).toBe('done')
      const sessionId = reply.session?.sessionId ?? ''
      expect((await user.messages(sessionId))[0]?.content === message).toBe(true)
      await turnkeep.drained()
      expect((await user.messages(sessionId))[0]?.content === message).toBe(true)
      const next = await user.ask({ message: 'and now?', sessionId })
      expect(next.terminal?.type).toBe('done')
    })

    test('the waiting route returns the whole answer', async () => {
      const { status, body } = await turnkeep.as().call('POST', '/api/chat', { message: 'shipping?' })
      expect(status).toBe(200)
      expect(body).toMatchObject({
        threadId: 'main',
        finishReason: 'stop',
        sources: [],
        metadata: { model: 'scripted-chat' },
      })
      expect((body.content as string).length).toBeGreaterThan(20)
    })

    test('many sessions of one user run at once', async () => {
      const user = turnkeep.as({ userId: 'parallel' })
      const replies = await Promise.all(
        Array.from({ length: 20 }, (_, index) => user.ask(`question ${index}`)),
      )
      expect(new Set(replies.map(({ session }) => session?.sessionId)).size).toBe(20)
      expect(replies.every(({ terminal }) => terminal?.type === 'done')).toBe(true)
    })
  })

  describe('a thread', () => {
    test('takes one answer at a time, and says which one is running', async () => {
      const user = turnkeep.as({ userId: 'busy' })
      const { session } = await user.ask('first')
      const replies = await Promise.all(
        Array.from({ length: 5 }, () =>
          user.ask({ message: '길게 써 주세요 (3 ms)', sessionId: session?.sessionId }),
        ),
      )
      const running = replies.filter(({ status }) => status === 200)
      expect(running).toHaveLength(1)
      for (const { status, error } of replies.filter((reply) => reply !== running[0])) {
        expect(status).toBe(409)
        expect(error).toMatchObject({
          code: 'reply_in_progress',
          details: { messageId: running[0]?.session?.messageId },
        })
      }
      const messages = await user.messages(session?.sessionId ?? '')
      expect(messages.map(({ sequenceNumber }) => sequenceNumber)).toEqual([1, 2, 3, 4])
    })

    test('branches where a question names an earlier answer', async () => {
      const user = turnkeep.as({ userId: 'branch' })
      const first = await user.ask('one')
      const sessionId = first.session?.sessionId ?? ''
      await user.ask({ message: 'two', sessionId })
      const branch = await user.ask({
        message: 'two again',
        sessionId,
        parentMessageId: first.session?.messageId,
      })
      const root = await user.ask({ message: 'one again', sessionId, parentMessageId: null })
      const messages = await user.messages(sessionId)
      const byId = (id: string | undefined) => messages.find(({ messageId }) => messageId === id)
      expect(byId(branch.session?.userMessageId)).toMatchObject({
        sequenceNumber: 3,
        parentMessageId: first.session?.messageId,
      })
      expect(byId(root.session?.userMessageId)).toMatchObject({ sequenceNumber: 1, parentMessageId: null })
      expect(messages.map(({ sequenceNumber }) => sequenceNumber)).toEqual([1, 1, 2, 2, 3, 3, 4, 4])
      const next = await user.ask({ message: '아까 뭐라고 물었지?', sessionId })
      expect(next.text).toContain('one again')
      expect(next.text).not.toContain('two')
    })

    test('named parents may run at once', async () => {
      const user = turnkeep.as({ userId: 'siblings' })
      const first = await user.ask('one')
      const sessionId = first.session?.sessionId
      const parentMessageId = first.session?.messageId
      const replies = await Promise.all(
        Array.from({ length: 4 }, (_, index) =>
          user.ask({ message: `two ${index}`, sessionId, parentMessageId }),
        ),
      )
      expect(replies.map(({ terminal }) => terminal?.type)).toEqual(['done', 'done', 'done', 'done'])
    })

    test('a parent that is no finished answer of the thread is refused', async () => {
      const user = turnkeep.as({ userId: 'parents' })
      const first = await user.ask('one')
      const sessionId = first.session?.sessionId
      const other = await user.ask('elsewhere')
      for (const parentMessageId of [randomUUID(), first.session?.userMessageId, other.session?.messageId]) {
        const reply = await user.ask({ message: 'two', sessionId, parentMessageId })
        expect(reply).toMatchObject({
          status: 400,
          error: { code: 'invalid_request', details: [{ field: 'parentMessageId' }] },
        })
      }
      const otherThread = await user.ask({
        message: 'two',
        sessionId,
        threadId: 'other',
        parentMessageId: first.session?.messageId,
      })
      expect(otherThread.status).toBe(400)
      expect(await user.messages(sessionId ?? '')).toHaveLength(2)
    })

    test('threads of a session are apart', async () => {
      const user = turnkeep.as({ userId: 'threads' })
      const first = await user.ask({ message: 'my name is Ada', threadId: 'a' })
      const sessionId = first.session?.sessionId ?? ''
      const other = await user.ask({ message: 'what did I ask before?', threadId: 'b', sessionId })
      expect(other.text).not.toContain('Ada')
      expect(await user.messages(sessionId, '&threadId=a')).toHaveLength(2)
      expect(await user.messages(sessionId)).toHaveLength(4)
    })
  })

  describe('an idempotency key', () => {
    const headers = { 'idempotency-key': 'key one' }

    test('makes one turn of a request that is sent again, and the second gets the same events', async () => {
      const user = turnkeep.as({ userId: 'again' })
      const first = await user.ask('once', { headers })
      const second = await user.ask('once', { headers })
      expect(second.events).toEqual(first.events)
      expect(await user.messages(first.session?.sessionId ?? '')).toHaveLength(2)
    })

    test('sent at the same instant gives every client the same answer', async () => {
      const user = turnkeep.as({ userId: 'instant' })
      const replies = await Promise.all(
        Array.from({ length: 8 }, () => user.ask('길게 써 주세요', { headers })),
      )
      for (const reply of replies) expect(reply.events).toEqual(replies[0]?.events)
      expect(await user.messages(replies[0]?.session?.sessionId ?? '')).toHaveLength(2)
    })

    test('with another body is refused', async () => {
      const user = turnkeep.as({ userId: 'mismatch' })
      await user.ask('once', { headers })
      const reply = await user.ask('twice', { headers })
      expect(reply).toMatchObject({ status: 409, error: { code: 'idempotency_mismatch' } })
    })

    test('of another user names another turn', async () => {
      const mine = await turnkeep.as({ userId: 'k1' }).ask('once', { headers })
      const theirs = await turnkeep.as({ userId: 'k2' }).ask('once', { headers })
      expect(theirs.session?.sessionId).not.toBe(mine.session?.sessionId)
    })

    test('is replayed from what was saved when the log is gone', async () => {
      const user = turnkeep.as({ userId: 'next day' })
      const first = await user.ask('once', { headers })
      await turnkeep.drained()
      await turnkeep.rows(`delete from chat_reply_events where message_id = '${first.session?.messageId}'`)
      await turnkeep.rows(`delete from chat_turns where message_id = '${first.session?.messageId}'`)
      await turnkeep.redis?.empty()
      const second = await user.ask('once', { headers })
      expect(second.text).toBe(first.text)
      expect(second.terminal).toMatchObject({
        type: 'done',
        metadata: { cached: true, completionTokens: expect.any(Number) },
      })
      expect(await user.messages(first.session?.sessionId ?? '')).toHaveLength(2)
    })

    test('that is empty or too long is refused', async () => {
      const user = turnkeep.as()
      for (const key of ['', 'k'.repeat(256)])
        expect(await user.ask('hi', { headers: { 'idempotency-key': key } })).toMatchObject({
          status: 400,
          error: { code: 'invalid_request', details: [{ field: 'Idempotency-Key' }] },
        })
    })
  })
})
