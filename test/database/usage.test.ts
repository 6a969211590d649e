/** What was used: counted once with the save of each answer, and read with its cost. */
import fc from 'fast-check'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'
import { estimateTokens } from '../../lambdas/protocol/text.ts'
import { openPostgresHotStore } from '../../lambdas/services/postgres-hot-store.ts'
import { type Engine, onBothEngines, startTestDatabase, type TestDatabase } from '../harness/database.ts'
import { answerTo, askIn, converse, opened, tell } from '../harness/hot-store.ts'
import { record } from '../harness/records.ts'
import { spending } from '../harness/spending.ts'

const ADMIN = { user_id: 'admin', role: 'admin' }
const DAY = '2026-03-31'

interface Daily {
  user_id: string
  day: string
  model: string
  turns: number
  prompt_tokens: number
  completion_tokens: number
  answer_characters: number
  response_ms: number
  responses: number
}

/** An answer that used so much. */
const answer = (company_id: string, changes: Partial<MessageRecord> = {}): MessageRecord =>
  record({
    company_id,
    role: 'assistant',
    content: '네 😀',
    model: 'gpt-5-mini',
    token_count: 10,
    response_time_ms: 500,
    metadata: { promptTokens: 100 },
    sequence_number: 2,
    created_at: `${DAY}T23:59:59.999Z`,
    ...changes,
  })

const spent = (changes: Partial<Daily> = {}): Daily => ({
  user_id: 'u1',
  day: DAY,
  model: 'gpt-5-mini',
  turns: 1,
  prompt_tokens: 100,
  completion_tokens: 10,
  answer_characters: 3,
  response_ms: 500,
  responses: 1,
  ...changes,
})

let companies = 0
const newCompany = () => {
  companies += 1
  return `company ${companies}`
}

onBothEngines('usage', (engine: Engine) => {
  let database: TestDatabase
  beforeAll(async () => {
    database = await startTestDatabase(engine, 'usage')
  })
  afterAll(() => database.close())

  const save = (...records: MessageRecord[]) => database.app.call('save_records', [{ jsonb: records }])
  const daily = (company: string) =>
    database.inTenant<Daily>(
      company,
      `select user_id, day::text, model, turns, prompt_tokens, completion_tokens, answer_characters, response_ms, responses
       from usage_daily order by user_id, day, model`,
    )
  const read = async (company: string, query: object, prices: object[] = [], owner: string | null = null) => {
    const rows = await database.app.callFor<{ kind: string; body: string }>(
      { companyId: company, platform: 'web' },
      'read_usage',
      [
        { jsonb: ADMIN },
        { text: owner },
        { jsonb: { from: '2026-01-01', to: '2026-12-31', by: 'day', limit: 100, ...query } },
        { jsonb: prices },
      ],
    )
    const bodies = rows.map(({ body }) => JSON.parse(body))
    return { items: bodies.slice(0, -1), total: bodies.at(-1) }
  }

  describe('is counted', () => {
    test('by user, day and model, and for all users together', async () => {
      const company = newCompany()
      await save(
        answer(company),
        answer(company),
        answer(company, { user_id: '한울', model: 'gpt-5' }),
        answer(company, { created_at: '2026-04-01T00:00:00.000Z' }),
        record({ company_id: company, token_count: 1_000 }),
      )
      const [next, other] = [{ day: '2026-04-01' }, { model: 'gpt-5' }]
      const twice = {
        turns: 2,
        prompt_tokens: 200,
        completion_tokens: 20,
        answer_characters: 6,
        response_ms: 1_000,
      }
      expect(await daily(company)).toEqual([
        spent({ user_id: '', ...other }),
        spent({ user_id: '', ...twice, responses: 2 }),
        spent({ user_id: '', ...next }),
        spent({ ...twice, responses: 2 }),
        spent(next),
        spent({ user_id: '한울', ...other }),
      ])
    })

    test('once, in any order, any split and any repetition', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.infiniteStream(fc.nat()),
          fc.integer({ min: 1, max: 6 }),
          async (stream, size) => {
            const company = newCompany()
            const other = newCompany()
            const records = Array.from({ length: 8 }, (_, index) =>
              answer(index % 4 === 3 ? other : company, { user_id: `u${index % 2}` }),
            )
            const order = [...records, ...records]
              .map((one) => ({ one, key: stream.next().value ?? 0 }))
              .sort((a, b) => a.key - b.key)
              .map(({ one }) => one)
            for (let from = 0; from < order.length; from += size)
              await save(...order.slice(from, from + size))
            const sums = async (name: string) =>
              (await daily(name)).map(({ user_id, turns }) => [user_id, turns])
            expect(await sums(company)).toEqual([
              ['', 6],
              ['u0', 4],
              ['u1', 2],
            ])
            expect(await sums(other)).toEqual([
              ['', 2],
              ['u1', 2],
            ])
          },
        ),
        { numRuns: 10 },
      )
    })

    test('as its first version has it: a better one adds nothing', async () => {
      const company = newCompany()
      const half = answer(company, { status: 'interrupted', content: '네', metadata: {}, model: null })
      await save(half)
      await save({ ...answer(company), id: half.id, session_id: half.session_id })
      const first = { model: '', prompt_tokens: 0, answer_characters: 1 }
      expect(await daily(company)).toEqual([spent({ user_id: '', ...first }), spent(first)])
    })

    test('with the length of a text that stands elsewhere, and without what is no number', async () => {
      const company = newCompany()
      const large = { content: '', content_key: 'content/x', response_time_ms: null, token_count: null }
      await save(answer(company, { ...large, metadata: { promptTokens: 'many', characters: 70_000 } }))
      const known = {
        prompt_tokens: 0,
        completion_tokens: 0,
        answer_characters: 70_000,
        response_ms: 0,
        responses: 0,
      }
      expect(await daily(company)).toEqual([spent({ user_id: '', ...known }), spent(known)])
    })

    test.each(['leave_feedback', 'delete_message'])('once where %s overtakes the save', async (operation) => {
      const company = newCompany()
      const tenant = { companyId: company, platform: 'web' }
      const store = openPostgresHotStore(database.app, { leaseSeconds: 60, historyMessages: 5 })
      const request = askIn(tenant, { spending: spending({ userTokensPerDay: 10_000 }) })
      const told = await converse(store, request, '네 😀', {
        token_count: 10,
        metadata: { promptTokens: 100 },
      })
      const used = () =>
        database.app.callFor(tenant, 'tokens_used', [{ text: 'u1' }, { timestamptz: told.turn.openedAt }])
      const [before] = await used()
      expect(before).toMatchObject({ user_day: 110, tenant_month: 110 })
      const more = operation === 'leave_feedback' ? [{ integer: 5 }, { text: null }] : []
      for (let time = 0; time < 2; time += 1)
        await database.app.callFor(tenant, operation, [{ jsonb: ADMIN }, { uuid: told.messageId }, ...more])
      expect(await daily(company)).toMatchObject([
        { user_id: '', turns: 1 },
        { user_id: 'u1', turns: 1 },
      ])
      expect(await used()).toEqual([before])
      await save(told.question, told.answer)
      expect(await daily(company)).toMatchObject([
        { user_id: '', turns: 1 },
        { user_id: 'u1', turns: 1 },
      ])
      expect(await used()).toEqual([before])
    })

    test('exactly, by many savers at once, while turns are opened, closed and deleted', async () => {
      const companies = [newCompany(), newCompany()]
      const tenants = companies.map((companyId) => ({ companyId, platform: 'web' }))
      const store = openPostgresHotStore(database.app, { leaseSeconds: 60, historyMessages: 5 })
      const limits = { spending: spending({ tenantTokensPerDay: 1_000_000 }) }
      const each = engine === 'real' ? 40 : 10
      // Two turns in each session, saved together with others' in one batch, each batch twice at once.
      const turns = await Promise.all(
        Array.from({ length: each }, async (_, index) => {
          const tenant = tenants[index % 2] ?? { companyId: '', platform: 'web' }
          const first = await converse(store, askIn(tenant, limits), 'one', { metadata: { promptTokens: 9 } })
          const request = askIn(tenant, { ...limits, sessionId: first.turn.sessionId })
          return { tenant, first, request, turn: await opened(store.openTurn(request)) }
        }),
      )
      const firsts = turns.flatMap(({ first }) => [first.question, first.answer])
      const answers = turns.map(({ turn, request }) => ({
        ...answerTo(turn, request.messageId, 'two'),
        metadata: { promptTokens: 9 },
      }))
      const batch = (from: number) => [...firsts.slice(from), ...firsts.slice(0, from), ...answers]
      await Promise.all([
        ...[0, 4, 7, 10].map((from) => save(...batch(from))),
        ...turns.map(({ tenant, turn, request }) =>
          tell(store, tenant, turn, request.messageId, 'two', { metadata: { promptTokens: 9 } }),
        ),
        ...turns.map(({ tenant, first }) =>
          database.app.callFor(tenant, 'delete_message', [{ jsonb: ADMIN }, { uuid: first.messageId }]),
        ),
        ...turns.map(({ tenant }) => store.openTurn(askIn(tenant, limits))),
      ])
      for (const company of companies)
        expect(await daily(company)).toMatchObject([
          { user_id: '', turns: each, prompt_tokens: 9 * each },
          { user_id: 'u1', turns: each, prompt_tokens: 9 * each },
        ])
    })
  })

  describe('is read', () => {
    const prices = [
      { model: 'gpt-5-mini', from: '2026-01-01', promptPerMillion: 0.25, completionPerMillion: 2 },
      { model: 'gpt-5-mini', from: '2026-04-01', promptPerMillion: 0.5, completionPerMillion: 4 },
    ]
    const million = { token_count: 1_000_000, metadata: { promptTokens: 1_000_000 } }

    test('with the price of its day, and by the name of a dated model', async () => {
      const company = newCompany()
      const on = (day: string, model: string | null) =>
        answer(company, { ...million, model, created_at: `${day}T12:00:00.000Z` })
      await save(
        on('2026-03-31', 'gpt-5-mini'),
        on('2026-04-01', 'gpt-5-mini-2025-08-07'),
        on('2025-12-31', 'gpt-5-mini'),
        on('2026-04-02', 'gpt-5-mini-large'),
        on('2026-04-02', null),
      )
      const { items, total } = await read(company, { from: '2025-12-31' }, prices)
      expect(items).toMatchObject([
        { name: '2025-12-31', cost: 0, unpriced_tokens: 2_000_000 },
        { name: '2026-03-31', cost: 2.25, unpriced_tokens: 0, tokens: 2_000_000 },
        { name: '2026-04-01', cost: 4.5, unpriced_tokens: 0 },
        { name: '2026-04-02', cost: 0, unpriced_tokens: 4_000_000, turns: 2 },
      ])
      expect(total).toMatchObject({ turns: 5, tokens: 10_000_000, cost: 6.75, unpriced_tokens: 6_000_000 })
      const { items: models } = await read(company, { by: 'model' }, prices)
      expect(models.map(({ name }) => name)).toEqual([
        '',
        'gpt-5-mini',
        'gpt-5-mini-2025-08-07',
        'gpt-5-mini-large',
      ])
    })

    test('of one user, from and to included, and empty where there is none', async () => {
      const company = newCompany()
      await save(answer(company), answer(company, { user_id: 'u2', created_at: '2026-04-01T00:00:00.000Z' }))
      expect((await read(company, { from: DAY, to: DAY })).items).toMatchObject([{ name: DAY, turns: 1 }])
      expect((await read(company, { from: '2026-04-01' }, [], 'u1')).items).toEqual([])
      expect((await read(company, {}, [], 'u2')).total).toMatchObject({ turns: 1 })
      expect((await read(company, { by: 'user' }, [], 'u2')).items).toMatchObject([{ name: 'u2' }])
      expect(await read(company, {}, [], 'nobody')).toMatchObject({ items: [], total: { turns: 0, cost: 0 } })
    })

    test('by user in pages, most tokens first, and the total is everybody’s', async () => {
      const company = newCompany()
      const users = Array.from({ length: 7 }, (_, index) => `u${index}`)
      for (const [index, user_id] of users.entries())
        await save(answer(company, { user_id, token_count: 10 + Math.floor(index / 2) }))
      const names: string[] = []
      let after: object = {}
      for (;;) {
        const { items, total } = await read(company, { by: 'user', limit: 2, ...after })
        expect(total.turns).toBe(7)
        if (items.length === 0) break
        names.push(...items.map(({ name }) => name))
        after = { after_name: items.at(-1)?.name, after_tokens: items.at(-1)?.tokens }
      }
      expect(names).toEqual(['u6', 'u4', 'u5', 'u2', 'u3', 'u0', 'u1'])
    })
  })

  test('tokens are estimated in SQL as in a context, in any script', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.oneof(
            fc.string({ unit: 'grapheme' }),
            fc.constantFrom('가나다 abc\n', '\u007f\u0080', '😀', '', '[^]\\'),
          ),
        ),
        async (parts) => {
          const text = parts.join('').replaceAll('\0', '')
          const [row] = await database.app.execute('select turnkeep.estimate_tokens(:text) as tokens', {
            text,
          })
          expect(row).toEqual({ tokens: estimateTokens(text) })
        },
      ),
      { numRuns: 200 },
    )
  })

  test('a tenant’s rows are found by their key: no look at another month or user', async () => {
    const id = uuidv7()
    const company = newCompany()
    await save(answer(company, { id }))
    expect(
      await database.app.callFor({ companyId: company, platform: 'web' }, 'tokens_used', [
        { text: 'u1' },
        { timestamptz: '2026-04-01T00:00:00Z' },
      ]),
    ).toEqual([{ user_day: 0, user_month: 0, tenant_day: 0, tenant_month: 0 }])
    expect(
      await database.app.callFor({ companyId: company, platform: 'web' }, 'tokens_used', [
        { text: 'u2' },
        { timestamptz: '2026-03-01T00:00:00Z' },
      ]),
    ).toEqual([{ user_day: 0, user_month: 0, tenant_day: 0, tenant_month: 110 }])
  })
})
