/** A tenant's settings, which act from the next turn on, and the audit log. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { AuditEntry } from '../../lambdas/protocol/audit.ts'
import type { Page } from '../../lambdas/protocol/lists.ts'
import type { TenantAnswer } from '../../lambdas/protocol/tenants.ts'
import type { ChatRequest } from '../../local/model/chat-request.ts'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

let turnkeep: Turnkeep
/** What the model was asked last. */
let asked: ChatRequest | undefined

/** Three seconds of tokens. */
const SLOW = { content: Array.from({ length: 100 }, () => 'word '), tokenDelayMs: 30 }

beforeAll(async () => {
  turnkeep = await startTurnkeep({
    name: 'tenants',
    scriptedModel: {
      tokenDelayMs: 0,
      respond: (request) => {
        asked = request
        return request.messages.at(-1)?.content === 'a slow question' ? SLOW : { content: 'an answer' }
      },
    },
    environment: {
      RATE_LIMIT_USER: '100',
      RATE_LIMIT_TENANT: '6000',
      ALLOWED_MODELS: 'large-chat, small-chat',
      SYSTEM_PROMPT: 'Be kind.',
      HISTORY_MESSAGES: '4',
    },
  })
})
afterAll(() => turnkeep.close())

let companies = 0
let company: string
beforeEach(() => {
  companies += 1
  company = `company ${companies}`
})
const as = (role: 'user' | 'agent' | 'admin', userId: string = role) =>
  turnkeep.as({ companyId: company, role, userId })

const change = (patch: unknown, headers: Record<string, string> = {}) =>
  as('admin').call<TenantAnswer>('PATCH', '/api/tenant', patch, headers)
const read = async () => (await as('admin').call<TenantAnswer>('GET', '/api/tenant')).body

const DEFAULTS = {
  model: 'scripted-chat',
  systemPrompt: 'Be kind.',
  historyMessages: 4,
  historyTokens: 8_000,
  answerTokens: 0,
  watchedWords: ['오류', '고장', '문제'],
  userRequestsPerMinute: 100,
  tenantRequestsPerMinute: 6_000,
  userTokensPerDay: null,
  userTokensPerMonth: null,
  tenantTokensPerDay: null,
  tenantTokensPerMonth: null,
  archiveAfterDays: 30,
  archiveAboveMessages: 10_000,
  retentionDays: null,
}

describe('settings', () => {
  test('are the environment’s where nothing was set', async () => {
    const { status, body, headers } = await as('admin').call('GET', '/api/tenant')
    expect(status).toBe(200)
    expect(headers.get('etag')).toBe('"0"')
    expect(body).toEqual({
      settings: DEFAULTS,
      own: {},
      models: ['scripted-chat', 'large-chat', 'small-chat'],
      version: 0,
      changedAt: null,
    })
  })

  test('that are set override it one by one, and null takes each back', async () => {
    const first = await change({ systemPrompt: '반말은 쓰지 마세요.', historyMessages: 2 })
    expect(first.status).toBe(200)
    expect(first.headers.get('etag')).toBe('"1"')
    expect(first.body).toMatchObject({
      settings: { ...DEFAULTS, systemPrompt: '반말은 쓰지 마세요.', historyMessages: 2 },
      own: { systemPrompt: '반말은 쓰지 마세요.', historyMessages: 2 },
      version: 1,
    })
    expect(Math.abs(Date.parse(first.body.changedAt ?? '') - Date.now())).toBeLessThan(60_000)
    const second = await change({ systemPrompt: null, watchedWords: [] })
    expect(second.body).toMatchObject({ own: { historyMessages: 2, watchedWords: [] }, version: 2 })
    expect(second.body.settings).toEqual({ ...DEFAULTS, historyMessages: 2, watchedWords: [] })
    expect(await read()).toEqual(second.body)
  })

  test('that are set to what they are change nothing', async () => {
    await change({ answerTokens: 100 })
    const before = await read()
    for (const patch of [{}, { answerTokens: 100 }, { model: null }])
      expect((await change(patch)).body).toEqual(before)
  })

  test('act from the next turn on, whichever instance answers it', async () => {
    const user = as('user')
    const { session } = await user.ask('첫 질문')
    expect(asked).toMatchObject({ model: 'scripted-chat', maxTokens: undefined })
    expect(asked?.messages[0]).toEqual({ role: 'system', content: 'Be kind.' })
    const systemPrompt = '당신은 한옥마을 안내원입니다. 존댓말로 답하세요. 😀'
    await change({ systemPrompt, model: 'large-chat', answerTokens: 77 })
    await user.ask({ message: '둘째 질문', sessionId: session?.sessionId })
    expect(asked).toMatchObject({ model: 'large-chat', maxTokens: 77 })
    expect(asked?.messages[0]).toEqual({ role: 'system', content: systemPrompt })

    await turnkeep.startFunctions()
    const changes = ['첫째 말투', '둘째 말투', '셋째 말투', '넷째 말투']
    for (const content of changes) {
      await change({ systemPrompt: content })
      await user.ask({ message: '다음 질문', sessionId: session?.sessionId })
      expect(asked?.messages[0]).toEqual({ role: 'system', content })
    }
    await change({ systemPrompt: null, model: null, answerTokens: null })
    await user.stream('POST', `/api/messages/${session?.messageId}/regenerate`)
    expect(asked).toMatchObject({ model: 'scripted-chat', maxTokens: undefined })
    expect(asked?.messages).toEqual([
      { role: 'system', content: 'Be kind.' },
      { role: 'user', content: '첫 질문' },
    ])
  })

  test('say how much history the model is given, more or less than the environment', async () => {
    const user = as('user')
    let sessionId: string | undefined
    for (let n = 1; n <= 5; n += 1)
      sessionId = (await user.ask({ message: `question ${n}`, sessionId })).session?.sessionId
    const historyOf = async (patch: unknown) => {
      await change(patch)
      await user.ask({ message: 'and now?', sessionId, threadId: 'main' })
      return asked?.messages.slice(1, -1).length
    }
    expect(await historyOf({})).toBe(4)
    expect(await historyOf({ historyMessages: 8 })).toBe(8)
    expect(await historyOf({ historyMessages: 0 })).toBe(0)
    expect(await historyOf({ historyMessages: 8, historyTokens: 0 })).toBe(0)
  })

  test('say which words are watched for', async () => {
    const watched = () => turnkeep.output().split('"WatchedWord":1').length - 1
    const before = watched()
    await change({ watchedWords: ['환불', 'urgent, please'] })
    await as('user').ask('배송 문제가 있어요')
    await as('user').ask('환불해 주세요')
    await as('user').ask('It is URGENT, please')
    expect(watched() - before).toBe(2)
  })

  test('say how many requests a user and the tenant may make, from the next one on', async () => {
    const [user, other] = [as('user', 'u1'), as('user', 'u2')]
    const listed = async (who: typeof user) => {
      const { status, headers } = await who.call('GET', '/api/sessions')
      return [status, headers.get('x-ratelimit-limit')]
    }
    expect(await listed(user)).toEqual([200, '100'])
    await change({ userRequestsPerMinute: 3 })
    expect(await listed(user)).toEqual([200, '3'])
    expect((await user.ask('hello')).terminal?.type).toBe('done')
    expect(await user.ask('hello')).toMatchObject({ status: 429, error: { code: 'rate_limited' } })
    expect(await listed(user)).toEqual([429, '3'])
    expect(await listed(other)).toEqual([200, '3'])
    // More than the environment's for one user is the tenant's business, as long as all of them share what it has.
    await change({ userRequestsPerMinute: 500 })
    expect(await listed(user)).toEqual([200, '500'])
    await change({ userRequestsPerMinute: null, tenantRequestsPerMinute: 9 })
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, n) => listed(as('user', `of many ${n}`))),
    )
    expect(answers.filter(([status]) => status === 429).length).toBeGreaterThan(9)
    const others = turnkeep.as({ companyId: company, platform: 'app' })
    expect(await listed(others)).toEqual([200, '100'])
  })

  test('of one tenant are nothing to another', async () => {
    await change({ systemPrompt: 'Ours.' })
    const others = turnkeep.as({ companyId: company, platform: 'app', role: 'admin' })
    expect((await others.call<TenantAnswer>('GET', '/api/tenant')).body.own).toEqual({})
    await others.ask('hello')
    expect(asked?.messages[0]?.content).toBe('Be kind.')
  })

  test('naming a model that is not allowed any more act with the default', async () => {
    await change({ systemPrompt: 'Ours.' })
    await turnkeep.rows(`update tenant_settings set settings = settings || '{"model": "withdrawn"}'`, {
      companyId: company,
      platform: 'web',
    })
    expect(await read()).toMatchObject({
      settings: { model: 'scripted-chat', systemPrompt: 'Ours.' },
      own: { model: 'withdrawn' },
    })
    await as('user').ask('hello')
    expect(asked?.model).toBe('scripted-chat')
  })

  test('as large as they may be, of any characters, are read back and act', async () => {
    for (const character of ['가', '😀', '\u0001', '"']) {
      const settings = {
        systemPrompt: character.repeat(8_000),
        watchedWords: Array.from({ length: 30 }, () => character.repeat(50)),
      }
      expect((await change(settings)).body).toMatchObject({ own: settings })
      expect((await as('user').ask('hello')).terminal?.type).toBe('done')
      expect(asked?.messages[0]?.content === settings.systemPrompt).toBe(true)
    }
  })

  test('are refused with every wrong field named, and then nothing is set', async () => {
    const wrong: Record<string, unknown> = {
      model: 'gpt-9-expensive',
      systemPrompt: ' ',
      historyMessages: 21,
      historyTokens: 1.5,
      answerTokens: '5',
      watchedWords: Array.from({ length: 31 }, () => 'x'),
      userRequestsPerMinute: 0,
      tenantRequestsPerMinute: 6_001,
      retentionDays: 36_501,
      unknown: 5,
    }
    const answer = await as('admin').call('PATCH', '/api/tenant', { ...wrong })
    expect(answer).toMatchObject({ status: 400, body: { error: { code: 'invalid_request' } } })
    const { details } = answer.body.error as { details: { field: string }[] }
    expect(details.map(({ field }) => field).sort()).toEqual(Object.keys(wrong).sort())
    expect(details).toContainEqual({
      field: 'model',
      message: 'must be one of scripted-chat, large-chat, small-chat',
    })
    for (const patch of [
      { systemPrompt: 'x'.repeat(8_001) },
      { systemPrompt: 'a\0b' },
      { watchedWords: [''] },
      { watchedWords: ['x'.repeat(51)] },
      { watchedWords: 'word' },
      { historyMessages: -1 },
      { budgets: {} },
      'text',
    ])
      expect((await as('admin').call('PATCH', '/api/tenant', patch)).status, JSON.stringify(patch)).toBe(400)
    expect(await read()).toMatchObject({ own: {}, version: 0 })
  })

  test('are for admins alone', async () => {
    for (const role of ['user', 'agent'] as const)
      for (const [method, path, body] of [
        ['GET', '/api/tenant', undefined],
        ['PATCH', '/api/tenant', { systemPrompt: 'mine' }],
        ['PATCH', '/api/tenant', { nonsense: true }],
        ['GET', '/api/audit', undefined],
      ] as const)
        expect(await as(role).call(method, path, body), `${role} ${method} ${path}`).toMatchObject({
          status: 403,
          body: { error: { code: 'forbidden' } },
        })
    expect(await read()).toMatchObject({ own: {}, version: 0 })
  })

  test('changed by two admins who saw the same are changed by one', async () => {
    await change({ historyMessages: 1 })
    const attempts = await Promise.all(
      Array.from({ length: 8 }, (_, n) => change({ historyTokens: n + 1 }, { 'if-match': '"1"' })),
    )
    expect(attempts.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409, 409, 409, 409, 409])
    expect(attempts.find(({ status }) => status === 409)?.body).toMatchObject({
      error: { code: 'conflict', details: { version: 2 } },
    })
    // A proxy that compresses makes the tag a weak one.
    expect((await change({ historyMessages: 3 }, { 'if-match': 'W/"2"' })).status).toBe(200)
    for (const tag of ['2', '*', '"x"', '""'])
      expect(await change({}, { 'if-match': tag })).toMatchObject({
        status: 400,
        body: { error: { details: [{ field: 'If-Match' }] } },
      })
  })

  test('changed at once without a version keep what each has set', async () => {
    await Promise.all([
      change({ historyMessages: 1 }),
      change({ historyTokens: 2 }),
      change({ answerTokens: 3 }),
    ])
    expect(await read()).toMatchObject({
      own: { historyMessages: 1, historyTokens: 2, answerTokens: 3 },
      version: 3,
    })
  })
})

describe('the audit log', () => {
  const audit = async (query = '') => {
    const { status, body } = await as('admin').call<Page<AuditEntry>>('GET', `/api/audit?limit=100${query}`)
    expect(status).toBe(200)
    return body.items.toReversed()
  }
  const actions = async () => (await audit()).map(({ action }) => action)

  test('names what was changed of the settings, and by whom, never the values', async () => {
    await change({ systemPrompt: 'marker-of-a-prompt', watchedWords: ['marker-of-a-word'] })
    await change({ systemPrompt: 'marker-of-a-prompt' })
    await change({ systemPrompt: null })
    expect(await audit()).toEqual([
      {
        at: expect.any(String),
        actorId: 'admin',
        actorRole: 'admin',
        action: 'tenant.changed',
        userId: null,
        sessionId: null,
        messageId: null,
        fields: ['systemPrompt', 'watchedWords'],
      },
      expect.objectContaining({ action: 'tenant.changed', fields: ['systemPrompt'] }),
    ])
    const rows = await turnkeep.rows('select * from audit_log', { companyId: company, platform: 'web' })
    expect(JSON.stringify(rows)).not.toContain('marker')
  })

  test('says which conversations of others agents and admins have read and changed, in order', async () => {
    const user = as('user', 'haneul')
    const { session } = await user.ask('a question')
    const { sessionId, messageId = '', userMessageId } = session ?? {}
    for (const who of [as('agent'), as('admin')]) {
      await who.call('GET', '/api/sessions')
      await who.call('GET', '/api/sessions?userId=haneul')
      await who.call('GET', `/api/sessions/${sessionId}`)
      await who.call('GET', `/api/sessions/${sessionId}/messages?limit=1`)
      await who.call('PATCH', `/api/sessions/${sessionId}`, { followUpNeeded: true, priority: '긴급' })
      await who.call('POST', `/api/messages/${messageId}/feedback`, { score: 5 })
      await who.stream('GET', `/api/chat/stream/${messageId}`)
    }
    const { session: next } = await as('agent').ask({ message: 'another', sessionId })
    await as('agent').stream('POST', `/api/messages/${userMessageId}/regenerate`)
    await as('agent').call('DELETE', `/api/messages/${messageId}`)
    await as('agent').call('DELETE', `/api/messages/${messageId}`)
    await as('agent').call('DELETE', `/api/sessions/${sessionId}`)
    await as('admin').call('DELETE', `/api/sessions/${sessionId}?purge=true`)
    const each = (actorId: string) => [
      { actorId, action: 'sessions.listed', userId: null, sessionId: null },
      { actorId, action: 'sessions.listed', userId: 'haneul', sessionId: null },
      { actorId, action: 'session.read', userId: 'haneul', sessionId },
      { actorId, action: 'messages.read', userId: 'haneul', sessionId, messageId: null },
      { actorId, action: 'session.changed', sessionId, fields: ['followUpNeeded', 'priority'] },
      { actorId, action: 'message.rated', userId: 'haneul', sessionId, messageId },
      { actorId, action: 'reply.read', userId: 'haneul', sessionId, messageId },
    ]
    expect(await audit()).toMatchObject([
      ...each('agent'),
      ...each('admin'),
      {
        actorId: 'agent',
        action: 'question.asked',
        userId: 'haneul',
        sessionId,
        messageId: next?.userMessageId,
      },
      { actorId: 'agent', action: 'answer.regenerated', userId: 'haneul', sessionId },
      { actorId: 'agent', action: 'message.deleted', userId: 'haneul', sessionId, messageId },
      { actorId: 'agent', action: 'session.ended', userId: 'haneul', sessionId },
      { actorId: 'admin', actorRole: 'admin', action: 'session.purged', userId: 'haneul', sessionId },
    ])
  })

  test('says who stopped another’s answer, and who opened a session for another', async () => {
    const made = await as('agent').call('POST', '/api/sessions', { userId: 'haneul' })
    const { sessionId } = made.body
    const { session, terminal } = await as('user', 'haneul').ask(
      { message: 'a slow question', sessionId },
      {
        onEvent: async ({ event }) => {
          if (event.type === 'session')
            await as('agent').call('DELETE', `/api/chat/stream/${event.messageId}`)
          return false
        },
      },
    )
    expect(terminal).toMatchObject({ type: 'done', finishReason: 'stopped' })
    // What has ended is not stopped again.
    await as('admin').call('DELETE', `/api/chat/stream/${session?.messageId}`)
    const ofHaneul = { actorId: 'agent', userId: 'haneul', sessionId }
    expect(await audit()).toMatchObject([
      { ...ofHaneul, action: 'session.created' },
      { ...ofHaneul, action: 'reply.stopped', messageId: session?.messageId },
    ])
  })

  test('says nothing of people with their own conversations, but for what they end and erase', async () => {
    for (const own of [as('user'), as('agent'), as('admin')]) {
      const { session } = await own.ask('a question')
      await own.call('GET', `/api/sessions/${session?.sessionId}`)
      await own.messages(session?.sessionId ?? '')
      await own.call('PATCH', `/api/sessions/${session?.sessionId}`, { title: 'mine' })
      await own.call('POST', `/api/messages/${session?.messageId}/feedback`, { score: 3 })
      await own.stream('GET', `/api/chat/stream/${session?.messageId}`)
      await own.stream('GET', session?.resumeUrl ?? '')
      await own.call('DELETE', `/api/chat/stream/${session?.messageId}`)
    }
    await as('user').call('GET', '/api/sessions')
    await as('agent').call('GET', '/api/sessions?userId=agent')
    expect(await actions()).toEqual([])
    const { session } = await as('user').ask('a question')
    for (const query of ['', '', '?purge=true', '?purge=true'])
      await as('user').call('DELETE', `/api/sessions/${session?.sessionId}${query}`)
    expect(await actions()).toEqual(['session.ended', 'session.purged'])
  })

  test('says nothing of what was refused', async () => {
    const { session } = await as('user', 'haneul').ask('a question')
    const stranger = as('user', 'stranger')
    await stranger.call('GET', `/api/sessions/${session?.sessionId}`)
    await stranger.call('GET', `/api/chat/stream/${session?.messageId}`)
    await stranger.call('DELETE', `/api/chat/stream/${session?.messageId}`)
    await stranger.ask({ message: 'mine', sessionId: session?.sessionId })
    await as('agent').call('PATCH', `/api/sessions/${session?.sessionId}`, { satisfactionScore: 9 })
    await as('agent').ask({
      message: 'x',
      sessionId: session?.sessionId,
      parentMessageId: crypto.randomUUID(),
    })
    expect(await actions()).toEqual([])
  })

  test('has one line for a request, however often it asks the database', async () => {
    const user = as('user', 'bulky')
    let sessionId: string | undefined
    for (let n = 0; n < 12; n += 1)
      sessionId = (await user.ask({ message: 'x'.repeat(24_000), sessionId })).session?.sessionId
    await as('agent').call('GET', `/api/sessions/${sessionId}/messages?limit=100`)
    expect(await actions()).toEqual(['messages.read'])
  })

  test('is paged newest first, without gaps or repeats while it grows, and by user', async () => {
    const sessions: string[] = []
    for (const userId of ['a', 'b', 'a', 'b', 'a'])
      sessions.push(
        (await as('agent').call<{ sessionId: string }>('POST', '/api/sessions', { userId })).body.sessionId,
      )
    const pages = async (query: string) => {
      const seen: (string | null)[] = []
      for (let cursor = ''; ; ) {
        const { body } = await as('admin').call<Page<AuditEntry>>('GET', `/api/audit?${query}${cursor}`)
        seen.push(...body.items.map(({ sessionId }) => sessionId))
        if (body.nextCursor === null) return seen
        cursor = `&cursor=${body.nextCursor}`
        await as('agent').call('GET', '/api/sessions')
      }
    }
    expect(await pages('limit=2')).toEqual(sessions.toReversed())
    expect(await pages('limit=1&userId=b')).toEqual([sessions[3], sessions[1]])
    expect(await pages('userId=nobody')).toEqual([])
  })

  test.each(['limit=0', 'limit=101', 'cursor=nonsense', 'userId='])('refuses %s', async (query) => {
    expect(await as('admin').call('GET', `/api/audit?${query}`)).toMatchObject({
      status: 400,
      body: { error: { code: 'invalid_request', details: [{ field: query.split('=')[0] }] } },
    })
  })

  test('of one tenant is nothing to another', async () => {
    await change({ historyMessages: 1 })
    const others = turnkeep.as({ companyId: company, platform: 'app', role: 'admin' })
    expect((await others.call<Page<AuditEntry>>('GET', '/api/audit')).body.items).toEqual([])
  })
})
