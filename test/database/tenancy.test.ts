import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { LimitCheck, MessageRecord } from '../../lambdas/protocol.ts'
import type { Argument } from '../../lambdas/services/database.ts'
import { openPostgresLimiter } from '../../lambdas/services/postgres-limiter.ts'
import { onBothEngines, startTestDatabase, type TestDatabase } from '../harness/database.ts'
import { record } from '../harness/records.ts'

const ACME = { companyId: 'acme', platform: 'web' }
/** Who may touch anybody's in its tenant. */
const ADMIN = { jsonb: { user_id: 'admin', role: 'admin' } }
const OTHERS = [
  { companyId: 'other', platform: 'web' },
  { companyId: 'acme', platform: 'app' },
  { companyId: "acme' or '1'='1", platform: 'web' },
  { companyId: '', platform: '' },
]

const checksOf = (tenant: typeof ACME): LimitCheck[] => [
  { kind: 'user', tenant, key: 'u1', limit: 10, windowSeconds: 3_600 },
  { kind: 'tenant', tenant, key: '', limit: 10, windowSeconds: 3_600 },
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
    await openPostgresLimiter(database.app).admit(checksOf(ACME))
    await database.app.callFor(ACME, 'change_tenant', [
      ADMIN,
      { jsonb: { systemPrompt: 'secret' } },
      { integer: null },
    ])
    await database.app.callFor(ACME, 'get_session', [ADMIN, { uuid: sessionId }])
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
         (select jsonb_agg(k) from idempotency_keys k) as keys,
         (select jsonb_agg(l order by l.kind, l.key) from rate_limits l) as limits,
         (select jsonb_agg(s) from tenant_settings s) as settings,
         (select jsonb_agg(a order by a.at, a.id) from audit_log a) as audit`,
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
      args: [ADMIN, { uuid: sessionId }, { jsonb: { title: 'stolen' } }],
      gets: [],
    }),
    close_turn: () => ({
      args: [{ uuid: running }, { integer: 1 }, { 'double precision': 1 }, { jsonb: [] }, { jsonb: answer }],
      gets: [{ close_turn: null }],
    }),
    delete_message: () => ({
      args: [ADMIN, { uuid: answer.id }],
      gets: [{ delete_message: false }],
    }),
    end_session: () => ({
      args: [ADMIN, { uuid: sessionId }, { boolean: true }],
      gets: [{ end_session: false }],
    }),
    find_key: () => ({ args: [{ text: 'u1' }, { text: 'k' }], gets: [] }),
    finish_turn: () => ({
      args: [{ uuid: running }, { integer: 1 }, { integer: 9 }, { jsonb: {} }],
      gets: [{ finish_turn: false }],
    }),
    get_session: () => ({ args: [ADMIN, { uuid: sessionId }], gets: [] }),
    get_tenant: () => ({ args: [], gets: [] }),
    leave_feedback: () => ({
      args: [ADMIN, { uuid: answer.id }, { integer: 1 }, { text: null }],
      gets: [{ leave_feedback: false }],
    }),
    list_audit: () => ({
      args: [{ text: 'u1' }, { timestamptz: null }, { uuid: null }, { integer: 100 }],
      gets: [],
    }),
    list_messages: () => ({
      args: [
        ADMIN,
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
      args: [
        { jsonb: { user_id: 'u1', role: 'user' } },
        { text: 'u1' },
        { boolean: null },
        { timestamptz: null },
        { uuid: null },
        { integer: 100 },
      ],
      gets: [],
    }),
    load_session: () => ({
      args: [
        {
          jsonb: {
            session_id: sessionId,
            thread_id: 'main',
            from: answer.id,
            named: true,
            owner: 'u1',
            count: 9,
            bytes: 9,
          },
        },
      ],
      gets: [{ kind: 'refused', body: expect.stringContaining('not_found') }],
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
    'admit',
    'audit',
    'audit_other',
    'audit_reply',
    'chain',
    'change_other_login',
    'change_tenant',
    'count_users',
    'create_session',
    'ensure_saved',
    'find_message',
    'has_lapsed',
    'history',
    'lapsed_turns',
    'limit_checks',
    'lock_limit',
    'login_stands',
    'may_act_for',
    'may_touch',
    'newest_answer',
    'open_turn',
    'open_within_limits',
    'save_messages',
    'seconds_until',
    'set_login',
    'set_tenant',
    'settings_of',
    'sweep_turns',
    'touched_message',
    'unfinished_turns',
    'unsaved_message',
    'version_rank',
    'with_own_limits',
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

  test('is told nothing of another’s session by its id, and cannot make it', async () => {
    const before = await everything()
    const wanted = {
      session_id: sessionId,
      thread_id: 'main',
      from: null,
      named: false,
      owner: 'u1',
      count: 9,
      bytes: 9,
    }
    for (const stranger of OTHERS.slice(0, 3))
      expect(await database.app.callFor(stranger, 'load_session', [{ jsonb: wanted }])).toEqual([
        { kind: 'refused', body: expect.stringContaining('not_found') },
      ])
    expect(await everything()).toEqual(before)
  })

  test('changes settings of its own only, and its turns are opened with its own', async () => {
    const before = await everything()
    const stranger = { companyId: 'other', platform: 'web' }
    const change = [ADMIN, { jsonb: { systemPrompt: 'mine' } }, { integer: null }]
    expect(await database.app.callFor(stranger, 'change_tenant', change)).toMatchObject([{ version: 1 }])
    expect(await everything()).toEqual(before)
    const rows = await open(stranger, { session_id: uuidv7() })
    expect(rows.find(({ kind }) => kind === 'settings')?.body).toBe('{"systemPrompt": "mine"}')
  })

  test('has limits of its own: another’s requests use up nothing of them', async () => {
    const before = await everything()
    for (const stranger of OTHERS.slice(0, 3))
      for (const { remaining } of await openPostgresLimiter(database.app).admit(checksOf(stranger)))
        expect(remaining).toBe(9)
    expect(await everything()).toEqual(before)
  })

  test('records what it does in its own audit log', async () => {
    const before = await everything()
    const args = [ADMIN, { text: 'reply.read' }, { text: 'u1' }, { uuid: running }]
    expect(await database.app.callFor(OTHERS[1] ?? ACME, 'audit_reply', args)).toEqual([
      { audit_reply: true },
    ])
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
      'tenant_settings',
      'audit_log',
      'rate_limits',
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
        if (index % 2 === 0) await database.app.callFor(ACME, 'get_session', [ADMIN, { uuid: sessionId }])
        else
          expect(await database.app.execute('select count(*)::int as n from chat_messages')).toEqual([
            { n: 0 },
          ])
      }),
    )
  })
})
