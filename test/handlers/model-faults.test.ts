import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Script } from '../../local/model/scripted-model.ts'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

let turnkeep: Turnkeep
/** What the model does with the next requests, in order; afterwards it answers. */
let scripts: Script[] = []
const ANSWER: Script = { content: ['one ', 'two ', 'three'], tokenDelayMs: 2 }

beforeAll(async () => {
  turnkeep = await startTurnkeep({
    name: 'faults',
    scriptedModel: { respond: () => scripts.shift() ?? ANSWER },
    environment: {
      MODEL_FIRST_TOKEN_MS: '1500',
      MODEL_SILENCE_MS: '500',
      WAIT_MS: '700',
      ANSWER_TOKENS: '50',
    },
  })
})
afterAll(() => turnkeep.close())
beforeEach(() => {
  scripts = []
})

let users = 0
const ask = async (...next: Script[]) => {
  users += 1
  const user = turnkeep.as({ userId: `user ${users}` })
  scripts = next
  const reply = await user.ask('a question')
  const sessionId = reply.session?.sessionId ?? ''
  const answered = await user.messages(sessionId)
  await turnkeep.drained()
  const saved = await user.messages(sessionId)
  expect(saved).toEqual(answered)
  return { user, reply, sessionId, answer: saved[1], question: saved[0] }
}

describe('a model that fails before the first token', () => {
  test('is asked again, and the client notices nothing', async () => {
    for (const fault of [
      { error: { status: 500 } },
      { error: { status: 429, retryAfterSeconds: 0 } },
      { cutAfter: 0 },
    ]) {
      const { reply } = await ask(fault)
      expect(reply).toMatchObject({ text: 'one two three', terminal: { type: 'done' } })
    }
  })

  test.each<[string, Script, boolean]>([
    ['fails again and again', { error: { status: 500 } }, true],
    ['is rate limited for longer than the budget', { error: { status: 429, retryAfterSeconds: 30 } }, true],
    ['hangs without headers', { hangAfter: 0 }, true],
    ['is not a model at all', { wrongProtocol: true }, true],
    ['refuses the key', { error: { status: 401 } }, false],
    ['refuses the request', { error: { status: 400, message: 'a question is too long' } }, false],
  ])(
    'and %s ends as model_unavailable; the question stays with an empty interrupted answer',
    async (_, fault, retryable) => {
      const { user, reply, sessionId, question, answer } = await ask(
        ...Array.from({ length: 8 }, () => fault),
      )
      expect(reply).toMatchObject({
        status: 200,
        text: '',
        terminal: {
          type: 'error',
          code: 'model_unavailable',
          retryable,
          messageId: reply.session?.messageId,
        },
      })
      expect(JSON.stringify(reply.terminal)).not.toContain('a question')
      expect(question).toMatchObject({ content: 'a question', status: 'complete' })
      expect(answer).toMatchObject({ content: '', status: 'interrupted' })
      scripts = []
      const again = await user.stream('POST', `/api/messages/${answer?.messageId}/regenerate`)
      expect(again).toMatchObject({ text: 'one two three', terminal: { type: 'done' } })
      expect(await user.ask({ message: 'next', sessionId })).toMatchObject({ terminal: { type: 'done' } })
    },
  )
})

describe('a model that fails in the middle of an answer', () => {
  test.each<[string, Script]>([
    ['cuts the connection', { ...ANSWER, cutAfter: 2, tokenDelayMs: 20 }],
    ['falls silent', { ...ANSWER, hangAfter: 2 }],
  ])('and %s leaves what came as an interrupted answer', async (_, fault) => {
    const { user, reply, sessionId, answer } = await ask(fault)
    expect(reply).toMatchObject({
      text: 'one two ',
      terminal: { type: 'error', code: 'interrupted', retryable: true, messageId: reply.session?.messageId },
    })
    expect(answer).toMatchObject({ content: 'one two ', status: 'interrupted' })
    expect(answer?.tokenCount).toBeGreaterThan(0)
    expect(await user.ask({ message: 'next', sessionId })).toMatchObject({ terminal: { type: 'done' } })
  })
})

describe('an answer', () => {
  test('that is empty is done and empty', async () => {
    const { reply, answer } = await ask({ content: '' })
    expect(reply).toMatchObject({ text: '', terminal: { type: 'done', finishReason: 'stop' } })
    expect(answer).toMatchObject({ content: '', status: 'complete' })
  })

  test('that reaches the limit ends with finishReason length', async () => {
    const { reply, answer } = await ask({ content: Array.from({ length: 80 }, (_, n) => `${n} `) })
    expect(reply.terminal).toMatchObject({
      type: 'done',
      finishReason: 'length',
      metadata: { completionTokens: 50 },
    })
    expect(answer).toMatchObject({ status: 'complete', metadata: { finishReason: 'length' } })
  })

  test('with NUL, half pairs and U+FFFF is stored as it was streamed', async () => {
    const { reply, answer } = await ask({ content: ['a\0b', '\ud83d', '\ude00', '\udc00\uFFFF', '\ud83d'] })
    expect(reply.text).toBe('a\uFFFDb😀\uFFFD\uFFFF\uFFFD')
    expect(answer?.content).toBe(reply.text)
  })

  test('that comes in one huge piece is streamed, stored and resumed whole', async () => {
    const huge = '긴 답변 😀 '.repeat(30_000)
    const { user, reply, answer } = await ask({ content: [huge] })
    expect(reply.terminal?.type).toBe('done')
    expect(reply.text === huge).toBe(true)
    expect(answer?.content === huge).toBe(true)
    const replayed = await user.stream('GET', `/api/chat/stream/${reply.session?.messageId}`)
    expect(replayed.text === huge).toBe(true)
  })
})

test('a reader of a silent answer has its stream at once', async () => {
  const user = turnkeep.as({ userId: 'listener' })
  scripts = [{ content: ['one '], hangAfter: 1 }]
  let answered = 0
  await user.ask('and then?', {
    onEvent: async ({ id, event }) => {
      if (event.type !== 'token' || answered > 0) return false
      const { messageId } = (
        await turnkeep.rows<{ messageId: string }>(
          `select message_id as "messageId" from chat_turns where user_id = 'listener'`,
        )
      )[0] ?? { messageId: '' }
      const response = await user.fetch('GET', `/api/chat/stream/${messageId}?after=${id}`)
      answered = response.status
      await response.body?.cancel()
      return false
    },
  })
  expect(answered).toBe(200)
})

describe('the waiting route', () => {
  test('answers 502 for what a stream would say in an error event', async () => {
    scripts = [{ error: { status: 401 } }]
    const answer = await turnkeep.as({ userId: 'waiter' }).call('POST', '/api/chat', { message: 'hi' })
    expect(answer).toMatchObject({
      status: 502,
      body: {
        error: { code: 'model_unavailable', details: { messageId: expect.any(String), retryable: false } },
      },
    })
  })

  test('answers 202 when it has waited long enough, and the answer can be read later', async () => {
    const user = turnkeep.as({ userId: 'patient' })
    scripts = [{ content: Array.from({ length: 12 }, (_, n) => `${n} `), tokenDelayMs: 100 }]
    const { status, body } = await user.call<{ sessionId: string; messageId: string }>('POST', '/api/chat', {
      message: 'slowly',
    })
    expect(status).toBe(202)
    const rest = await user.stream('GET', `/api/chat/stream/${body.messageId}`)
    expect(rest).toMatchObject({ text: '0 1 2 3 4 5 6 7 8 9 10 11 ', terminal: { type: 'done' } })
    expect(await user.messages(body.sessionId)).toHaveLength(2)
  })
})
