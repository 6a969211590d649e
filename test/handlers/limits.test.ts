/** Rate limits as clients meet them: the defaults, through the front door and the real handlers. */
import { Agent, request } from 'node:http'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ErrorBody } from '../../lambdas/protocol/errors.ts'
import type { DrillCloud } from '../drills/drill-cloud.ts'
import { inProxiedPhases, startDrillCloud } from '../drills/drill-cloud.ts'
import { passAll } from '../drills/fault-proxy.ts'
import type { ApiClient } from '../harness/client.ts'
import { linesOf, metricsOf } from '../harness/emitted-metrics.ts'
import { inBothPhases, startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

const DEFAULTS = { RATE_LIMIT_USER: '', RATE_LIMIT_TENANT: '', RATE_LIMIT_ADDRESS: '' }
const UNKNOWN = '01a1f8b2-9f72-7108-87ce-09b92d81498c'

type Limits = { limit: number; remaining: number; reset: number; retryAfter: number | null }
const limitsIn = (headers: { get(name: string): string | null }): Limits => ({
  limit: Number(headers.get('x-ratelimit-limit')),
  remaining: Number(headers.get('x-ratelimit-remaining')),
  reset: Number(headers.get('x-ratelimit-reset')),
  retryAfter: headers.get('retry-after') === null ? null : Number(headers.get('retry-after')),
})

const uncheckedIn = (output: string): number =>
  metricsOf(linesOf(output)).filter(({ name }) => name === 'LimitsUnchecked').length

describe('by default, on PGlite', () => byDefault({ on: 'pglite', valkey: false }))
inBothPhases('by default', ({ valkey }) => byDefault({ on: 'postgres', valkey }))

function byDefault({ on, valkey }: { on: 'pglite' | 'postgres'; valkey: boolean }): void {
  let turnkeep: Turnkeep
  beforeAll(async () => {
    turnkeep = await startTurnkeep({ name: 'limits', on, valkey, environment: DEFAULTS })
    // The issuer's keys are there then.
    for (const path of ['/api/sessions', `/api/chat/stream/${UNKNOWN}`]) await turnkeep.as().call('GET', path)
  })
  afterAll(() => turnkeep.close())

  test('150 requests of a user at once: exactly 100 are answered, the others are told when to come back', async () => {
    const user = turnkeep.as({ userId: 'eager' })
    const answers = await Promise.all(
      Array.from({ length: 150 }, () => user.call<Partial<ErrorBody>>('GET', '/api/sessions')),
    )
    const refused = answers.filter(({ status }) => status === 429)
    const others = answers.filter(({ status }) => status !== 429)
    expect(others.map(({ status }) => status)).toEqual(Array(100).fill(200))
    expect(refused).toHaveLength(50)
    for (const { body, headers } of refused) {
      expect(body.error).toMatchObject({ code: 'rate_limited', details: { limit: 'user' } })
      const { limit, remaining, reset, retryAfter } = limitsIn(headers)
      expect({ limit, remaining }).toEqual({ limit: 100, remaining: 0 })
      expect(retryAfter).toBeGreaterThan(30)
      expect(retryAfter).toBeLessThanOrEqual(60)
      expect(reset).toBe(retryAfter)
    }
    const left = answers
      .filter(({ status }) => status === 200)
      .map(({ headers }) => limitsIn(headers).remaining)
    expect(left.sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, index) => index))
    // Another user of the tenant is not concerned.
    expect((await turnkeep.as({ userId: 'calm' }).call('GET', '/api/sessions')).status).toBe(200)
  })

  test('150 questions of a user at once: exactly 100 turns, and nothing is left of the others', async () => {
    const user = turnkeep.as({ userId: 'talker', companyId: 'talkers' })
    const replies = await Promise.all(Array.from({ length: 150 }, () => user.ask('hello')))
    // A limiter that answered too late is passed by; this machine is then too busy for what follows.
    expect(uncheckedIn(turnkeep.output())).toBe(0)
    expect(replies.filter(({ terminal }) => terminal?.type === 'done')).toHaveLength(100)
    const refused = replies.filter(({ status }) => status === 429)
    expect(refused).toHaveLength(50)
    for (const { error } of refused) expect(error?.code).toBe('rate_limited')
    await turnkeep.drained()
    const tenant = { companyId: 'talkers', platform: 'web' }
    const [count] = await turnkeep.rows(
      `select (select count(*)::int from chat_sessions) as sessions, (select count(*)::int from chat_messages) as messages`,
      tenant,
    )
    expect(count).toEqual({ sessions: 100, messages: 200 })
  })

  test('150 requests of an address without a token at once: exactly 100 are told so, the others to wait', async () => {
    const answers = await Promise.all(
      Array.from({ length: 150 }, () => fetch(`${turnkeep.address}/api/sessions`)),
    )
    const counts = Object.groupBy(answers, ({ status }) => String(status))
    expect(counts['401']).toHaveLength(100)
    expect(counts['429']).toHaveLength(50)
    for (const { headers } of counts['401'] ?? [])
      expect(limitsIn(headers)).toMatchObject({ limit: 100, retryAfter: null })
    for (const answer of counts['429'] ?? []) {
      expect(limitsIn(answer.headers)).toMatchObject({ limit: 100, remaining: 0 })
      expect(limitsIn(answer.headers).retryAfter).toBeGreaterThan(30)
      expect(((await answer.json()) as ErrorBody).error).toMatchObject({
        code: 'rate_limited',
        details: { limit: 'address' },
      })
    }
    // Who shows a valid token from there is served, and health is for everybody.
    expect((await turnkeep.as({ userId: 'neighbour' }).call('GET', '/api/sessions')).status).toBe(200)
    const health = await fetch(`${turnkeep.address}/api/health`)
    expect([health.status, health.headers.get('x-ratelimit-limit')]).toEqual([200, null])
  })

  test('whatever an address says of itself, it is the same; another one is not', async () => {
    const from = async (localAddress: string, headers: Record<string, string> = {}) =>
      statusOf(`${turnkeep.address}/api/sessions`, localAddress, headers)
    expect(await from('127.0.0.1')).toBe(429)
    const forged = [
      { 'x-forwarded-for': '203.0.113.1' },
      { 'x-forwarded-for': '203.0.113.1, 203.0.113.2', forwarded: 'for=203.0.113.1' },
      { 'x-turnkeep-viewer': '203.0.113.1', 'x-turnkeep-origin': 'guessed' },
      {
        'x-real-ip': '203.0.113.1',
        'cloudfront-viewer-address': '203.0.113.1:4',
        'true-client-ip': '203.0.113.1',
      },
    ]
    for (const headers of forged) expect(await from('127.0.0.1', headers)).toBe(429)
    expect(await from('127.0.0.2')).toBe(401)
  })

  test('no address stands in a store or in a log', async () => {
    const rows = await turnkeep.rows<{ kind: string; key: string }>(`select kind, key from rate_limits`, {
      companyId: '',
      platform: 'addresses',
    })
    const keys = (await turnkeep.redis?.nodes[0].admin('KEYS', 'tk:{addresses:*')) as string[] | undefined
    if (keys) expect(keys).toEqual([expect.stringMatching(/^tk:\{addresses:[0-9a-f]{32}\}:rate$/)])
    expect(rows).toEqual(keys ? [] : [{ kind: 'address', key: expect.stringMatching(/^[0-9a-f]{32}$/) }])
    expect(turnkeep.output()).not.toContain('127.0.0.1"')
    expect(turnkeep.output()).not.toContain('203.0.113')
  })
}

inBothPhases('every limited answer says how its limits stand', ({ valkey }) => {
  let turnkeep: Turnkeep
  let user: ApiClient
  beforeAll(async () => {
    turnkeep = await startTurnkeep({
      name: 'limit_headers',
      valkey,
      environment: { ...DEFAULTS, RATE_LIMIT_USER: '20' },
    })
    user = turnkeep.as({ userId: 'reader' })
  })
  afterAll(() => turnkeep.close())

  test('streamed or not, refused or not', async () => {
    const left: number[] = []
    const ask = async (
      status: number,
      method: string,
      path: string,
      body?: unknown,
      headers?: Record<string, string>,
    ) => {
      const answer = await user.fetch(method, path, body, headers)
      const text = await answer.text()
      expect([method, path, answer.status, text]).toEqual([method, path, status, text])
      const { limit, remaining, reset, retryAfter } = limitsIn(answer.headers)
      expect({ limit, retryAfter, reset: reset > 0 && reset <= 60 }).toEqual({
        limit: 20,
        retryAfter: null,
        reset: true,
      })
      left.push(remaining)
      return text
    }
    const streamed = await ask(200, 'POST', '/api/chat/stream', { message: 'hello' })
    const { sessionId, messageId } = JSON.parse(/data: (.*)/.exec(streamed)?.[1] ?? '{}')
    await ask(200, 'POST', '/api/chat', { message: 'and now?', sessionId })
    await ask(200, 'POST', `/api/messages/${messageId}/regenerate`)
    await ask(200, 'GET', `/api/chat/stream/${messageId}`)
    await ask(200, 'DELETE', `/api/chat/stream/${messageId}`)
    await ask(200, 'GET', `/api/sessions/${sessionId}/messages`)
    await ask(201, 'POST', '/api/sessions', {})
    await ask(204, 'POST', `/api/messages/${messageId}/feedback`, { score: 5 })
    await ask(400, 'POST', '/api/chat/stream', { message: ' ' })
    await ask(400, 'POST', '/api/chat/stream', '{')
    await ask(400, 'GET', '/api/sessions?limit=0')
    await ask(404, 'GET', `/api/sessions/${UNKNOWN}`)
    await ask(404, 'GET', `/api/chat/stream/${UNKNOWN}`)
    await ask(404, 'POST', `/api/messages/${UNKNOWN}/regenerate`)
    await ask(415, 'POST', '/api/sessions', 'text', { 'content-type': 'text/plain' })
    // Each was counted once, whatever became of it.
    expect(left).toEqual(Array.from({ length: 15 }, (_, index) => 19 - index))
    await user.call('DELETE', `/api/sessions/${sessionId}`)
    await ask(410, 'POST', '/api/chat', { message: 'still there?', sessionId })
    for (let more = 0; more < 3; more += 1) await user.call('GET', '/api/sessions')
    for (const [method, path, body] of [
      ['POST', '/api/chat/stream', { message: 'hello' }],
      ['POST', `/api/messages/${messageId}/regenerate`],
      ['GET', `/api/chat/stream/${messageId}`],
      ['POST', '/api/sessions', {}],
      ['GET', '/api/sessions'],
      ['POST', '/api/chat', { message: ' ' }],
    ] as const) {
      const answer = await user.call<ErrorBody>(method, path, body)
      expect([path, answer.status, answer.body.error.code]).toEqual([path, 429, 'rate_limited'])
      expect(limitsIn(answer.headers)).toMatchObject({ limit: 20, remaining: 0 })
      expect(limitsIn(answer.headers).retryAfter).toBeGreaterThan(0)
    }
  })

  test('also by a link, which counts as its user', async () => {
    const linked = turnkeep.as({ userId: 'linked' })
    const { session } = await linked.ask('hello')
    const answer = await fetch(`${turnkeep.address}${session?.resumeUrl}`)
    await answer.text()
    expect(limitsIn(answer.headers)).toMatchObject({ limit: 20, remaining: 18 })
  })
})

inBothPhases('a tenant', ({ valkey }) => {
  let turnkeep: Turnkeep
  beforeAll(async () => {
    turnkeep = await startTurnkeep({
      name: 'tenant_limits',
      valkey,
      environment: { ...DEFAULTS, RATE_LIMIT_TENANT: '30' },
    })
  })
  afterAll(() => turnkeep.close())

  test('has one limit for all of its users, and another tenant has its own', async () => {
    const users = Array.from({ length: 60 }, (_, index) => turnkeep.as({ userId: `user ${index}` }))
    const replies = await Promise.all(users.map((user) => user.ask('hello')))
    expect(replies.filter(({ terminal }) => terminal?.type === 'done')).toHaveLength(30)
    const refused = replies.find(({ status }) => status === 429)
    expect(refused?.error).toMatchObject({ code: 'rate_limited', details: { limit: 'tenant' } })
    const other = await turnkeep.as({ companyId: 'other' }).call('GET', '/api/sessions')
    expect([other.status, limitsIn(other.headers).remaining]).toEqual([200, 29])
  })
})

inProxiedPhases((phase) => {
  const inValkey = phase.redis !== undefined
  let cloud: DrillCloud
  beforeAll(async () => {
    cloud = await startDrillCloud({ name: 'unchecked', phase, environment: DEFAULTS })
  })
  afterAll(() => cloud.close())

  /** The operations that were called since; what saves in the background is another matter. */
  let operations: string[] = []
  const watch = (isRefused: (operation: string) => boolean = () => false) => {
    operations = []
    cloud.proxy.decide = ({ service, moment, operation }) => {
      if (!['database', 'cache'].includes(service) || moment !== 'before') return 'pass'
      if (/admit|open|session/.test(operation)) operations.push(operation)
      return isRefused(operation) ? { status: 500 } : 'pass'
    }
  }

  test('where the limiter is out of reach requests go on, without headers, and are counted', async () => {
    watch((operation) => operation === 'admit')
    const user = cloud.as({ userId: 'unchecked' })
    for (const [status, method, body] of [
      [200, 'GET'],
      [201, 'POST', {}],
    ] as const) {
      const answer = await user.call(method, '/api/sessions', body)
      expect([answer.status, answer.headers.get('x-ratelimit-limit')]).toEqual([status, null])
    }
    const unchecked = () => uncheckedIn(cloud.output())
    await expect.poll(unchecked, { timeout: 10_000 }).toBe(2)
    if (inValkey) {
      // Postgres is not asked instead, before every turn.
      operations = []
      expect((await user.ask('hello')).terminal?.type).toBe('done')
      expect((await user.ask({ message: '?', sessionId: UNKNOWN })).terminal?.type).toBe('done')
      // Nor the limiter again, where a request is refused for itself.
      const refused = await user.stream('POST', `/api/messages/${UNKNOWN}/regenerate`)
      expect(refused).toMatchObject({ status: 404, error: { code: 'not_found' } })
      const asked = operations.filter((operation) => /admit|open_within/.test(operation))
      expect(asked).toEqual(['admit', 'admit', 'admit'])
      await expect.poll(unchecked, { timeout: 10_000 }).toBe(5)
    }
    cloud.proxy.decide = passAll
  })

  test('a question costs at most a script for its limits, a read and a write one call each', async () => {
    const user = cloud.as({ userId: 'frugal' })
    await user.call('GET', '/api/sessions')
    await user.ask('hello')
    watch()
    const reply = await user.ask('hello')
    expect(reply.terminal?.type).toBe('done')
    // A session that Valkey has made is written to Postgres beside the answer.
    expect(operations.filter((operation) => operation !== 'load_session')).toEqual(
      inValkey ? ['admit', 'open'] : ['open_within_limits'],
    )
    watch()
    await user.call('GET', '/api/sessions')
    expect([...operations].sort()).toEqual(['admit', 'list_sessions'])
    watch()
    await user.call('POST', '/api/sessions', {})
    expect(operations).toEqual(['admit', 'create_session'])
    watch()
    await fetch(`${cloud.address}/api/sessions`)
    expect(operations).toEqual([])
    cloud.proxy.decide = passAll
  })
})

/** A request from another address of this machine, which fetch has no way to make. */
function statusOf(url: string, localAddress: string, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    const agent = new Agent({ keepAlive: false })
    request(url, { agent, localAddress, headers }, (response) => {
      response.resume()
      response.once('end', () => resolve(response.statusCode ?? 0))
    })
      .once('error', reject)
      .end()
  })
}
