import { randomUUID } from 'node:crypto'
import { generateKeyPair, SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ErrorBody } from '../../lambdas/protocol/errors.ts'
import { bucketOf, tracesOf } from '../harness/traces.ts'
import { inBothPhases, startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

inBothPhases('refusals', (phase) => {
  let turnkeep: Turnkeep
  beforeAll(async () => {
    turnkeep = await startTurnkeep({ ...phase, name: 'refusals' })
  })
  afterAll(() => turnkeep.close())

  const counts = () =>
    turnkeep.rows(
      'select (select count(*) from chat_sessions) + (select count(*) from chat_turns) + (select count(*) from idempotency_keys) as n',
    )

  test('a large question that is refused leaves no text behind', async () => {
    const user = turnkeep.as({ userId: 'large' })
    const MARK = 'a text that nobody keeps'
    const first = await user.ask('hello')
    const sessionId = first.session?.sessionId
    await user.call('DELETE', `/api/sessions/${sessionId}`)
    const refused = await user.ask({ message: `${MARK} ${'가'.repeat(50_000)}`, sessionId })
    expect(refused.error?.code).toBe('ended')
    expect(await tracesOf(turnkeep, bucketOf(turnkeep), MARK)).toEqual([])
    // Nor does one that is repeated: its turn has a text already.
    const headers = { 'idempotency-key': 'large' }
    const message = `kept ${'가'.repeat(50_000)}`
    const once = await user.ask({ message }, { headers })
    expect((await user.ask({ message }, { headers })).session?.messageId).toBe(once.session?.messageId)
    await turnkeep.drained()
    const places = await tracesOf(turnkeep, bucketOf(turnkeep), 'kept 가')
    expect(places.filter((place) => place.startsWith('object content/'))).toHaveLength(1)
  })

  describe('a chat request that is refused', () => {
    test.each<[string, unknown, Record<string, string>, number, string, string | undefined]>([
      ['invalid JSON', '{"message":', {}, 400, 'invalid_request', 'body'],
      ['an empty body', '', { 'content-type': 'application/json' }, 400, 'invalid_request', 'body'],
      ['a list', '[]', {}, 400, 'invalid_request', 'message'],
      ['null', 'null', {}, 400, 'invalid_request', 'body'],
      ['no message', {}, {}, 400, 'invalid_request', 'message'],
      ['a blank message', { message: '   ' }, {}, 400, 'invalid_request', 'message'],
      ['a number for a message', { message: 1 }, {}, 400, 'invalid_request', 'message'],
      ['NUL', { message: 'a\0b' }, {}, 400, 'invalid_request', 'message'],
      ['a lone surrogate', '{"message":"\\ud83d"}', {}, 400, 'invalid_request', 'message'],
      ['100,001 characters', { message: '가'.repeat(100_001) }, {}, 400, 'message_too_long', 'message'],
      [
        'a misspelt field',
        { message: 'hi', sessionid: randomUUID() },
        {},
        400,
        'invalid_request',
        'sessionid',
      ],
      [
        'a session id that is none',
        { message: 'hi', sessionId: 'x' },
        {},
        400,
        'invalid_request',
        'sessionId',
      ],
      ['plain text', 'hi', { 'content-type': 'text/plain' }, 415, 'unsupported_media_type', undefined],
      [
        'a form',
        'message=hi',
        { 'content-type': 'application/x-www-form-urlencoded' },
        415,
        'unsupported_media_type',
        undefined,
      ],
      ['3 MB', { message: 'x'.repeat(3_000_000) }, {}, 413, 'payload_too_large', undefined],
      ['7 MB', { message: 'x'.repeat(7_000_000) }, {}, 413, 'payload_too_large', undefined],
      ['somebody else’s user id', { message: 'hi', userId: 'boss' }, {}, 403, 'forbidden', 'userId'],
    ])(
      'for %s says so, names the field, and creates nothing',
      async (_, body, headers, status, code, field) => {
        const before = await counts()
        for (const path of ['/api/chat/stream', '/api/chat']) {
          const answer = await turnkeep.as().call<ErrorBody>('POST', path, body, headers)
          expect(answer.status).toBe(status)
          expect(answer.body.error).toMatchObject({
            code,
            message: expect.any(String),
            requestId: expect.any(String),
          })
          expect(answer.headers.get('x-request-id')).toBe(answer.body.error.requestId)
          if (field) expect(answer.body.error.details).toMatchObject([{ field, message: expect.any(String) }])
          expect(JSON.stringify(answer.body)).not.toMatch(/at .*\.ts|node_modules|select |turnkeep\./)
        }
        expect(await counts()).toEqual(before)
      },
    )

    test('says so for an ended session, and the session does not come back', async () => {
      const user = turnkeep.as({ userId: 'ended' })
      const { session } = await user.ask('hello')
      expect((await user.call('DELETE', `/api/sessions/${session?.sessionId}`)).status).toBe(204)
      expect(await user.ask({ message: 'again', sessionId: session?.sessionId })).toMatchObject({
        status: 410,
        error: { code: 'ended' },
      })
      expect(await user.messages(session?.sessionId ?? '')).toHaveLength(2)
    })
  })

  test('an expired session is revived by a question', async () => {
    const user = turnkeep.as({ userId: 'sleeper' })
    const { session } = await user.ask('hello')
    await turnkeep.rows(
      `update chat_sessions set expires_at = now() - interval '1 hour' where id = '${session?.sessionId}'`,
    )
    const path = `/api/sessions/${session?.sessionId}`
    expect((await user.call('GET', path)).body).toMatchObject({ isActive: false })
    expect((await user.ask({ message: 'still there?', sessionId: session?.sessionId })).terminal?.type).toBe(
      'done',
    )
    expect((await user.call('GET', path)).body).toMatchObject({ isActive: true, messageCount: 4 })
  })

  describe('a route', () => {
    test.each([
      ['GET', '/api/nonsense', 404, 'not_found'],
      ['POST', '/api/', 404, 'not_found'],
      ['GET', '/api/chat', 405, 'method_not_allowed'],
      ['GET', '/api/chat/stream', 405, 'method_not_allowed'],
      ['PUT', `/api/messages/${randomUUID()}/regenerate`, 405, 'method_not_allowed'],
      ['PUT', '/api/sessions', 405, 'method_not_allowed'],
      ['DELETE', '/api/health', 405, 'method_not_allowed'],
      ['POST', `/api/sessions/${randomUUID()}`, 405, 'method_not_allowed'],
    ])('%s %s is answered %i', async (method, path, status, code) => {
      const answer = await turnkeep.as().call<ErrorBody>(method, path)
      expect(answer).toMatchObject({ status, body: { error: { code } } })
      if (status === 405) expect(answer.headers.get('allow')).toMatch(/^[A-Z, ]+$/)
    })

    test('health needs no token and says nothing of the inside', async () => {
      const response = await fetch(`${turnkeep.address}/api/health`)
      expect([response.status, await response.json()]).toEqual([200, { status: 'ok' }])
    })
  })

  describe('a token', () => {
    const call = (authorization?: string) =>
      fetch(
        `${turnkeep.address}/api/sessions`,
        authorization === undefined ? {} : { headers: { authorization } },
      )

    test('that is missing, broken or none is refused', async () => {
      const good = await turnkeep.as().token
      const [header, payload, signature] = good.split('.')
      const forged = Buffer.from(
        JSON.stringify({ ...JSON.parse(Buffer.from(payload ?? '', 'base64url').toString()), role: 'admin' }),
      ).toString('base64url')
      const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${payload}.`
      for (const authorization of [
        undefined,
        '',
        'Bearer',
        'Bearer x.y.z',
        `Basic ${good}`,
        `Bearer ${header}.${forged}.${signature}`,
        `Bearer ${unsigned}`,
        `Bearer ${good}x`,
      ]) {
        const response = await call(authorization)
        expect([authorization, response.status]).toEqual([authorization, 401])
        expect(((await response.json()) as ErrorBody).error.code).toBe('unauthenticated')
      }
    })

    test('of another issuer, signed by another key, is refused', async () => {
      const { privateKey } = await generateKeyPair('ES256')
      const foreign = await new SignJWT({ company_id: 'acme', platform: 'web', sub: 'u1' })
        .setProtectedHeader({ alg: 'ES256', kid: 'mine' })
        .setIssuer('http://turnkeep.local')
        .setAudience('turnkeep')
        .setExpirationTime('1h')
        .sign(privateKey)
      expect((await call(`Bearer ${foreign}`)).status).toBe(401)
    })

    test('is asked for before the body is looked at', async () => {
      const response = await fetch(`${turnkeep.address}/api/chat/stream`, {
        method: 'POST',
        body: 'nonsense',
      })
      expect(response.status).toBe(401)
    })
  })
})
