import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { MessageRecord } from '../../lambdas/protocol.ts'
import type { Argument } from '../../lambdas/services/database.ts'
import { onBothEngines, startTestDatabase, type TestDatabase } from '../harness/database.ts'
import { record } from '../harness/records.ts'

const ACME = { companyId: 'acme', platform: 'web' }
const OTHERS = [
  { companyId: 'other', platform: 'web' },
  { companyId: 'acme', platform: 'app' },
  { companyId: "acme' or '1'='1", platform: 'web' },
  { companyId: '', platform: '' },
]

onBothEngines('a tenant', (engine) => {
  let database: TestDatabase
  const sessionId = uuidv7()
  const running = uuidv7()
  let question: MessageRecord
  let answer: MessageRecord

  beforeAll(async () => {
    database = await startTestDatabase(engine, 'tenancy')
    question = record({ session_id: sessionId })
    answer = record({
      session_id: sessionId,
      role: 'assistant',
      parent_message_id: question.id,
      sequence_number: 2,
    })
    await open(ACME, { key: 'k', body_hash: 'h', caller: 'u1', message_id: running })
    await database.app.callFor(ACME, 'append_events', [
      { uuid: running },
      { integer: 1 },
      { 'double precision': 60 },
      { jsonb: [{ first: 0, events: [{ type: 'token', content: 'secret' }] }] },
    ])
    await database.app.call('save_messages', [{ jsonb: [question, answer] }])
  })
  afterAll(() => database.close())

  const open = (tenant: typeof ACME, changes: Record<string, unknown> = {}) => {
    const { session_id, user_id, parent_message_id, sequence_number, created_at, ...unplaced } = record({
      company_id: tenant.companyId,
      platform: tenant.platform,
    })
    const request = {
      session_id: sessionId,
      thread_id: 'main',
      owner: 'u1',
      owned_by: null,
      title: 'secret',
      message_id: uuidv7(),
      question: unplaced,
      lease_seconds: 60,
      history_count: 5,
      history_bytes: 100_000,
      ...changes,
    }
    return database.app.callFor<{ kind: string; body: string }>(tenant, 'open_turn', [{ jsonb: request }])
  }

  /** Everything that stands in the tenant's tables. */
  const everything = async () => {
    const [all] = await database.inTenant<Record<string, unknown[] | null>>(
      'acme',
      `select (select jsonb_agg(s order by id) from chat_sessions s) as sessions,
         (select jsonb_agg(m order by id) from chat_messages m) as messages,
         (select jsonb_agg(t order by message_id) from chat_turns t) as turns,
         (select jsonb_agg(e order by first_event_id) from chat_reply_events e) as events,
         (select jsonb_agg(k) from idempotency_keys k) as keys`,
    )
    for (const rows of Object.values(all ?? {})) expect(rows).not.toBeNull()
    return all
  }

  // Each operation, with arguments that name the other tenant's data, and what a stranger gets.
  const attempts: Record<string, () => { args: Argument[]; gets: unknown[] }> = {
    append_events: () => ({
      args: [
        { uuid: running },
        { integer: 1 },
        { 'double precision': 1 },
        { jsonb: [{ first: 1, events: [{}] }] },
      ],
      gets: [{ held: false, stop_requested: false }],
    }),
    change_session: () => ({
      args: [{ text: null }, { uuid: sessionId }, { jsonb: { title: 'stolen' } }],
      gets: [],
    }),
    close_turn: () => ({
      args: [{ uuid: running }, { integer: 1 }, { 'double precision': 1 }, { jsonb: [] }, { jsonb: answer }],
      gets: [{ close_turn: null }],
    }),
    delete_message: () => ({
      args: [{ text: null }, { uuid: answer.id }],
      gets: [{ delete_message: false }],
    }),
    end_session: () => ({
      args: [{ text: null }, { uuid: sessionId }, { boolean: true }],
      gets: [{ end_session: false }],
    }),
    finish_turn: () => ({
      args: [{ uuid: running }, { integer: 1 }, { integer: 9 }, { jsonb: {} }],
      gets: [{ finish_turn: false }],
    }),
    get_session: () => ({ args: [{ text: null }, { uuid: sessionId }], gets: [] }),
    leave_feedback: () => ({
      args: [{ text: null }, { uuid: answer.id }, { integer: 1 }, { text: null }],
      gets: [{ leave_feedback: false }],
    }),
    list_messages: () => ({
      args: [
        { text: null },
        { uuid: sessionId },
        { text: null },
        { boolean: false },
        { integer: null },
        { uuid: null },
        { integer: 100 },
        { integer: 100_000 },
      ],
      gets: [],
    }),
    list_sessions: () => ({
      args: [{ text: null }, { boolean: null }, { timestamptz: null }, { uuid: null }, { integer: 100 }],
      gets: [],
    }),
    read_reply: () => ({
      args: [{ text: null }, { uuid: running }, { integer: -1 }, { integer: 100_000 }],
      gets: [],
    }),
    read_turn: () => ({ args: [{ uuid: question.id }, { uuid: answer.id }], gets: [] }),
    reopen_turn: () => ({
      args: [
        {
          jsonb: {
            target: question.id,
            message_id: uuidv7(),
            lease_seconds: 1,
            history_count: 1,
            history_bytes: 1,
          },
        },
      ],
      gets: [{ kind: 'refused', body: expect.stringContaining('not_found') }],
    }),
    request_stop: () => ({ args: [{ text: null }, { uuid: running }], gets: [] }),
    take_over_turn: () => ({ args: [{ uuid: running }, { 'double precision': 1 }], gets: [] }),
  }
  // These take no tenant as an argument of a stranger, make something new, or are parts of others; tried below. Those
  // of logins concern no tenant: logins.test.ts.
  const others = [
    'change_other_login',
    'count_users',
    'create_session',
    'ensure_saved',
    'find_message',
    'has_lapsed',
    'history',
    'lapsed_turns',
    'login_stands',
    'may_touch',
    'newest_answer',
    'open_turn',
    'save_messages',
    'set_login',
    'set_tenant',
    'sweep_turns',
    'unfinished_turns',
    'unsaved_message',
    'version_rank',
  ]

  test('has an attempt for every operation', async () => {
    const rows = await database.owner.execute<{ name: string }>(
      `select distinct proname::text as name from pg_proc p join pg_namespace n on n.oid = p.pronamespace
       where nspname = 'turnkeep' order by 1`,
    )
    expect(rows.map(({ name }) => name)).toEqual([...Object.keys(attempts), ...others].sort())
  })

  test.each(Object.entries(attempts))(
    'finds nothing of another by %s, and changes nothing',
    async (operation, make) => {
      const before = await everything()
      const { args, gets } = make()
      for (const stranger of OTHERS)
        expect(await database.app.callFor(stranger, operation, args)).toEqual(gets)
      expect(await everything()).toEqual(before)
    },
  )

  test('cannot open a turn in another’s session, nor use its keys', async () => {
    const before = await everything()
    for (const stranger of OTHERS.slice(0, 3)) {
      const [row] = await open(stranger)
      expect(row).toMatchObject({ kind: 'refused', body: expect.stringContaining('not_found') })
      const own = await open(stranger, { session_id: uuidv7(), key: 'k', body_hash: 'other', caller: 'u1' })
      expect(own[0]?.kind).toBe('turn')
    }
    expect(await everything()).toEqual(before)
  })

  test('cannot save over another’s message, and an id of its own may be the same', async () => {
    const before = await everything()
    const mine = record({ id: answer.id, company_id: 'other', content: 'mine' })
    await database.app.call('save_messages', [{ jsonb: [mine] }])
    expect(await everything()).toEqual(before)
  })

  test('is not told how another’s turns stand', async () => {
    const watched = OTHERS.map(({ companyId, platform }) => ({
      company_id: companyId,
      platform,
      message_id: running,
    }))
    expect(await database.app.call('unfinished_turns', [{ jsonb: watched }])).toEqual([])
  })

  test('is named to a sweep, and nothing else of it is', async () => {
    await database.inTenant('acme', `update chat_turns set lease_until = now() - interval '1 second'`)
    expect(await database.app.call('lapsed_turns', [{ integer: 10 }])).toEqual([
      { company_id: 'acme', platform: 'web', message_id: running },
    ])
    expect(await database.app.execute('select count(*)::int as n from tenants')).toEqual([{ n: 0 }])
  })

  test('is counted among all users, and only the sum is told', async () => {
    expect(await database.app.call('count_users', [{ integer: 100 }])).toEqual([
      { active: expect.any(Number), monthly: expect.any(Number) },
    ])
    expect(await database.app.execute('select count(*)::int as n from chat_sessions')).toEqual([{ n: 0 }])
  })

  test('sees nothing where a query forgets the tenant, and may write nothing for another', async () => {
    for (const table of [
      'chat_sessions',
      'chat_messages',
      'chat_turns',
      'chat_reply_events',
      'idempotency_keys',
      'tenants',
    ]) {
      expect(await database.app.execute(`select count(*)::int as n from ${table}`)).toEqual([{ n: 0 }])
      expect(await database.inTenant('nobody', `select count(*)::int as n from ${table}`)).toEqual([{ n: 0 }])
    }
    await expect(
      database.app.execute(`insert into tenants (company_id, platform) values ('smuggled', 'web')`),
    ).rejects.toMatchObject({ sqlState: '42501' })
    await expect(
      database.app.execute(
        `insert into chat_messages (id, company_id, platform, session_id, role, content, status, sequence_number)
         values (gen_random_uuid(), 'acme', 'web', gen_random_uuid(), 'user', '', 'complete', 1)`,
      ),
    ).rejects.toMatchObject({ sqlState: '42501' })
  })

  test('does not stay set for the next caller of the same connection', async () => {
    await Promise.all(
      Array.from({ length: 40 }, async (_, index) => {
        if (index % 2 === 0)
          await database.app.callFor(ACME, 'get_session', [{ text: null }, { uuid: sessionId }])
        else
          expect(await database.app.execute('select count(*)::int as n from chat_messages')).toEqual([
            { n: 0 },
          ])
      }),
    )
  })
})
