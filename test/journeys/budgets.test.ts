/** Token budgets and usage as clients meet them: set, used up, refused, added up. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { AuditEntry } from '../../lambdas/protocol/audit.ts'
import type { ErrorBody } from '../../lambdas/protocol/errors.ts'
import type { Page } from '../../lambdas/protocol/lists.ts'
import type { TenantAnswer } from '../../lambdas/protocol/tenants.ts'
import type { UsageAnswer } from '../../lambdas/protocol/usage.ts'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

let turnkeep: Turnkeep
/** Times that the model was asked. */
let asked = 0

beforeAll(async () => {
  turnkeep = await startTurnkeep({
    name: 'budgets',
    scriptedModel: {
      tokenDelayMs: 0,
      respond: () => {
        asked += 1
        return { content: '이틀 안에 도착합니다. '.repeat(30) }
      },
    },
    environment: { TOKENS_TENANT_MONTH: '1000000', RATE_LIMIT_USER: '1000' },
  })
})
afterAll(() => turnkeep.close())

const as = (companyId: string, role: 'user' | 'agent' | 'admin', userId: string = role) =>
  turnkeep.as({ companyId, role, userId })
const change = (company: string, patch: object) =>
  as(company, 'admin').call<TenantAnswer & ErrorBody>('PATCH', '/api/tenant', patch)
const usage = async (client: ReturnType<typeof as>, query = '') =>
  (await client.call<UsageAnswer>('GET', `/api/usage${query}`)).body

/** Asks until something else than an answer comes; the tokens that each answer said it took. */
async function useUp(client: ReturnType<typeof as>): Promise<number[]> {
  const taken: number[] = []
  for (;;) {
    const { status, terminal } = await client.ask('배송은 얼마나 걸려요? 😀')
    if (status !== 200) return taken
    if (terminal?.type !== 'done') expect.fail('it was not answered')
    taken.push(terminal.metadata.tokenUsage)
    if (taken.length > 50) expect.fail('the budget is never used up')
  }
}

const secondsToTomorrow = () => Math.ceil((new Date().setUTCHours(24, 0, 0, 0) - Date.now()) / 1_000)

describe('a budget', () => {
  test('that an admin sets is used up, refuses before anything is done, and is there again when it is raised', async () => {
    expect((await change('spenders', { userTokensPerDay: 2_500 })).body.settings).toMatchObject({
      userTokensPerDay: 2_500,
      userTokensPerMonth: null,
      tenantTokensPerMonth: 1_000_000,
    })
    const user = as('spenders', 'user', '한울')
    const used = (await useUp(user)).reduce((sum, tokens) => sum + tokens, 0)
    expect(used).toBeGreaterThan(1_000)
    const before = asked

    const { status, body, headers } = await user.call<ErrorBody>('POST', '/api/chat', {
      message: '또 물어볼게요',
    })
    expect(status).toBe(429)
    expect(body.error).toMatchObject({
      code: 'quota_exceeded',
      details: { budget: 'user', period: 'day', limit: 2_500, used },
    })
    const { resetsAt } = body.error.details as { resetsAt: string }
    expect(resetsAt).toMatch(/T00:00:00\.000Z$/)
    const retryAfter = Number(headers.get('retry-after'))
    expect(Math.abs(retryAfter - secondsToTomorrow())).toBeLessThanOrEqual(60)
    // It counts as a request like any other.
    const left = Number(headers.get('x-ratelimit-remaining'))
    expect(left).toBeGreaterThan(0)

    const sessions = async () =>
      (await user.call<Page<{ sessionId: string; messageCount: number }>>('GET', '/api/sessions')).body.items
    const conversations = await sessions()
    const [newest] = conversations
    const [, answer] = await user.messages(newest?.sessionId ?? '')
    for (const again of [
      await user.ask('새 대화'),
      await user.ask({ message: '이어서', sessionId: newest?.sessionId }),
      await user.stream('POST', `/api/messages/${answer?.messageId}/regenerate`),
    ])
      expect([again.status, again.error?.code]).toEqual([429, 'quota_exceeded'])
    expect(await sessions()).toEqual(conversations)
    expect(asked).toBe(before)
    // Others of the tenant have their own.
    expect((await as('spenders', 'user', 'other').ask('안녕')).terminal?.type).toBe('done')

    await change('spenders', { userTokensPerDay: 10_000 })
    expect((await user.ask('이제 되나요?')).terminal?.type).toBe('done')
    await change('spenders', { userTokensPerDay: 0 })
    expect((await user.ask('그럼 이제는요?')).error?.details).toMatchObject({ limit: 0 })
    await change('spenders', { userTokensPerDay: null })
    expect((await user.ask('다시 됩니다')).terminal?.type).toBe('done')
  })

  test('of the environment acts where the tenant has set nothing, and a tenant cannot have more', async () => {
    const { body } = await change('greedy', { tenantTokensPerMonth: 1_000_001 })
    expect(body.error).toMatchObject({
      code: 'invalid_request',
      details: [{ field: 'tenantTokensPerMonth', message: 'must be a whole number from 0 to 1000000' }],
    })
    for (const [field, value] of [
      ['userTokensPerDay', -1],
      ['userTokensPerMonth', 1.5],
      ['tenantTokensPerDay', '100'],
    ] as const)
      expect((await change('greedy', { [field]: value })).body.error).toMatchObject({ details: [{ field }] })
    expect((await change('greedy', { tenantTokensPerMonth: 500 })).body.settings.tenantTokensPerMonth).toBe(
      500,
    )
    expect((await as('greedy', 'user').ask('안녕')).error).toMatchObject({
      code: 'quota_exceeded',
      details: { budget: 'tenant', period: 'month', limit: 500, used: 0 },
    })
  })

  test('refuses no repeated request: its answer is there', async () => {
    const user = as('repeaters', 'user')
    const ask = () => user.ask('한 번만 답해 주세요', { headers: { 'idempotency-key': 'once' } })
    const first = await ask()
    await change('repeaters', { userTokensPerDay: 0 })
    const second = await ask()
    expect(second.text).toBe(first.text)
    expect(second.terminal?.type).toBe('done')
    expect((await user.ask('다른 질문')).error?.code).toBe('quota_exceeded')
  })
})

describe('usage', () => {
  test('adds up to what the answers said, by day, user and model', async () => {
    const [first, second] = [as('counters', 'user', '한울'), as('counters', 'user', 'bora')]
    const taken: Record<string, { prompt: number; completion: number; turns: number }> = {}
    for (const [name, client] of [
      ['한울', first],
      ['bora', second],
      ['한울', first],
    ] as const) {
      const { terminal } = await client.ask('배송은요?')
      if (terminal?.type !== 'done') expect.fail('it was not answered')
      const { prompt, completion, turns } = taken[name] ?? { prompt: 0, completion: 0, turns: 0 }
      taken[name] = {
        prompt: prompt + terminal.metadata.promptTokens,
        completion: completion + terminal.metadata.completionTokens,
        turns: turns + 1,
      }
    }
    await turnkeep.drained()
    const sums = ({ prompt, completion, turns } = { prompt: 0, completion: 0, turns: 0 }) => ({
      turns,
      promptTokens: prompt,
      completionTokens: completion,
      tokens: prompt + completion,
      cost: 0,
      unpricedTokens: prompt + completion, // the scripted model costs nothing
    })
    const [hanul, bora] = [sums(taken.한울), sums(taken.bora)]
    const both = Object.fromEntries(
      Object.entries(hanul).map(([name, value]) => [name, value + bora[name as keyof typeof bora]]),
    )
    const today = new Date().toISOString().slice(0, 10)
    const agent = as('counters', 'agent')
    expect(await usage(agent)).toEqual({
      from: `${today.slice(0, 8)}01`,
      to: today,
      by: 'day',
      currency: 'USD',
      pricesAsOf: expect.stringMatching(/^\d{4}-\d\d-\d\d$/),
      items: [{ day: today, ...both }],
      total: both,
      nextCursor: null,
    })
    expect((await usage(agent, '?by=model')).items).toEqual([{ model: 'scripted-chat', ...both }])
    const page = await usage(agent, '?by=user&limit=1')
    expect(page).toMatchObject({ items: [{ userId: '한울', ...hanul }], total: both })
    const rest = await usage(agent, `?by=user&limit=1&cursor=${page.nextCursor}`)
    expect(rest).toMatchObject({ items: [{ userId: 'bora', ...bora }], total: both, nextCursor: null })
    expect((await usage(agent, `?userId=${encodeURIComponent('한울')}`)).total).toEqual(hanul)
    expect(await usage(agent, '?from=2020-02-29&to=2020-03-01')).toMatchObject({
      items: [],
      total: { turns: 0 },
    })
    expect((await usage(as('nobody', 'admin'))).total.turns).toBe(0)
  })

  test('is a user’s own for users, and who looks at others’ is recorded', async () => {
    await as('watched', 'user', 'mine').ask('내 질문')
    await as('watched', 'user', 'other').ask('남의 질문')
    await turnkeep.drained()
    const mine = as('watched', 'user', 'mine')
    for (const query of ['', '?userId=mine', '?by=model'])
      expect((await usage(mine, query)).total.turns).toBe(1)
    expect((await usage(mine, '?by=user')).items).toMatchObject([{ userId: 'mine' }])
    expect((await mine.call('GET', '/api/usage?userId=other')).status).toBe(403)
    await usage(as('watched', 'agent'), '?userId=other')
    await usage(as('watched', 'admin'))
    await usage(as('watched', 'admin'), '?userId=admin')
    const { body } = await as('watched', 'admin').call<Page<AuditEntry>>('GET', '/api/audit')
    expect(body.items.map(({ action, actorId, userId }) => [action, actorId, userId])).toEqual([
      ['usage.read', 'admin', null],
      ['usage.read', 'agent', 'other'],
    ])
  })

  test.each([
    ['from=yesterday', 'from'],
    ['from=2026-02-31', 'from'],
    ['from=0000-01-01', 'from'],
    ['to=2026-13-01', 'to'],
    ['from=2026-02-02&to=2026-02-01', 'from'],
    ['from=2024-01-01&to=2025-01-01', 'from'],
    ['by=hour', 'by'],
    ['by=user&limit=101', 'limit'],
    ['by=user&cursor=garbage', 'cursor'],
    [`by=user&cursor=${Buffer.from('["many","u"]').toString('base64url')}`, 'cursor'],
    [`by=user&cursor=${Buffer.from('[1,"\\u0000"]').toString('base64url')}`, 'cursor'],
  ])('is refused for %s', async (query, field) => {
    const { status, body } = await as('wrong', 'admin').call<ErrorBody>('GET', `/api/usage?${query}`)
    expect([status, body.error?.details]).toEqual([400, [{ field, message: expect.any(String) }]])
  })

  test('of a leap year is read at once', async () => {
    const { status } = await as('patient', 'admin').call('GET', '/api/usage?from=2024-01-01&to=2024-12-31')
    expect(status).toBe(200)
  })
})
