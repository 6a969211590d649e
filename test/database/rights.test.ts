/** What the operations behind exports and erasures promise of themselves. */
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'
import type { Argument } from '../../lambdas/services/database.ts'
import { openPostgresHotStore } from '../../lambdas/services/postgres-hot-store.ts'
import { onBothEngines, startTestDatabase, type TestDatabase } from '../harness/database.ts'
import { askIn, opened } from '../harness/hot-store.ts'
import { record } from '../harness/records.ts'
import { spending } from '../harness/spending.ts'

const ACME = { companyId: 'acme', platform: 'web' }
const ADMIN = { jsonb: { user_id: 'admin', role: 'admin' } }
const HOUR_MS = 3_600_000
const OTHERS = 1_000

onBothEngines('the rights of users', (engine) => {
  let database: TestDatabase
  beforeAll(async () => {
    database = await startTestDatabase(engine, 'rights')
  })
  afterAll(() => database.close())

  const call = <Row = Record<string, unknown>>(operation: string, ...args: Argument[]) =>
    database.app.callFor<Row>(ACME, operation, args)
  const requestErasure = async (userId: string): Promise<string> => {
    const [row] = await call<{ id: string }>(
      'request_erasure',
      ADMIN,
      { text: userId },
      { jsonb: [userId] },
      { uuid: uuidv7() },
    )
    return row?.id ?? ''
  }
  const requestExport = async (userId: string): Promise<string> => {
    const [row] = await call<{ id: string }>('request_export', ADMIN, { text: userId }, { uuid: uuidv7() })
    return row?.id ?? ''
  }
  const save = (...records: MessageRecord[]) =>
    database.app.call<{ id: string }>('save_records', [{ jsonb: records }])
  const stored = async (...records: MessageRecord[]): Promise<number> =>
    (
      await database.inTenant(
        'acme',
        `select 1 from chat_messages where id in (${records.map(({ id }) => `'${id}'`).join()})`,
      )
    ).length
  const at = (offsetMs: number): string => new Date(Date.now() + offsetMs).toISOString()

  test('an export that is not done is the same one, however many ask at once', async () => {
    const ids = await Promise.all(Array.from({ length: 8 }, () => requestExport('asked')))
    expect(new Set(ids).size).toBe(1)
    const [id = ''] = ids
    await call('start_user_job', { uuid: id })
    await call('note_user_job', { uuid: id }, { integer: 1 }, { jsonb: {} }, { text: 'done' })
    expect(await requestExport('asked')).not.toBe(id)
  })

  test('an erasure that is asked for by many at once is one', async () => {
    await save(record({ user_id: 'crowd' }))
    const ids = await Promise.all(Array.from({ length: 8 }, () => requestErasure('crowd')))
    expect(new Set(ids).size).toBe(1)
  })

  test('what was made up to the cutoff is dropped whenever it comes, and what is made later lives', async () => {
    const before = record({ user_id: 'u1', created_at: at(-HOUR_MS) })
    const other = record({ user_id: 'u2', created_at: at(-HOUR_MS) })
    await requestErasure('u1')
    const after = record({ user_id: 'u1', created_at: at(HOUR_MS) })
    expect(await save(before, other, after)).toMatchObject([{ id: before.id, session_id: before.session_id }])
    expect([await stored(before), await stored(other), await stored(after)]).toEqual([0, 1, 1])
    // And again, alone.
    expect(await save(before)).toMatchObject([{ id: before.id }])
    expect(await stored(before)).toBe(0)
  })

  test('asked for again it takes what was made since, also while it is under way', async () => {
    const start = async (id: string) => {
      const [row] = await call<{ job: string }>('start_user_job', { uuid: id })
      return row && JSON.parse(row.job)
    }
    const end = ({ id, attempt }: { id: string; attempt: number }, state: 'done' | null = 'done') =>
      call('note_user_job', { uuid: id }, { integer: attempt }, { jsonb: {} }, { text: state })
    await save(record({ user_id: 'twice' }))
    const id = await requestErasure('twice')
    const first = await start(id)
    const between = record({ user_id: 'twice', created_at: new Date().toISOString() })
    await save(between)
    expect(await requestErasure('twice')).toBe(id)
    // Who works on it knows nothing of what came since, and does not end it.
    expect(await end(first)).toEqual([{ note_user_job: false }])
    expect(await end(first, null)).toEqual([{ note_user_job: true }])
    const second = await start(id)
    expect(second.cutoff > between.created_at && second.cutoff > first.cutoff).toBe(true)
    expect(await end(second)).toEqual([{ note_user_job: true }])
    expect(await start(id)).toBeUndefined()
  })

  test('asked for again when nothing is there it drops what is on its way', async () => {
    const id = await requestErasure('on the way')
    const [row] = await call<{ job: string }>('start_user_job', { uuid: id })
    const { attempt } = JSON.parse(row?.job ?? '{}')
    await call('note_user_job', { uuid: id }, { integer: attempt }, { jsonb: {} }, { text: 'done' })
    const queued = record({ user_id: 'on the way', created_at: new Date().toISOString() })
    expect(await requestErasure('on the way')).toBe(id)
    expect(await save(queued)).toMatchObject([{ id: queued.id }])
    expect(await stored(queued)).toBe(0)
  })

  test('nothing comes into a session that was erased, whatever clock it was made by', async () => {
    const first = record({ user_id: 'skewed' })
    await save(first)
    const job = await requestErasure('skewed')
    const marked = await call(
      'mark_erased_sessions',
      { uuid: job },
      { jsonb: ['skewed'] },
      { timestamptz: at(0) },
      { integer: 9 },
    )
    expect(marked).toEqual([{ session_id: first.session_id }])
    const late = record({ user_id: 'skewed', session_id: first.session_id, created_at: at(HOUR_MS) })
    expect(await save(late)).toMatchObject([{ id: late.id }])
    const wanted = {
      session_id: first.session_id,
      thread_id: 'main',
      from: null,
      named: false,
      owner: 'skewed',
      count: 1,
      bytes: 9,
    }
    expect(await call('load_session', { jsonb: wanted })).toEqual([
      { kind: 'refused', body: expect.stringContaining('not_found') },
    ])
  })

  test('what was made while the clock was ahead is erased, and stops nothing that comes later', async () => {
    const ahead = record({ user_id: 'ahead', created_at: at(HOUR_MS) })
    await save(ahead)
    const exportId = await requestExport('ahead')
    await database.inTenant(
      'acme',
      `update user_jobs set created_at = now() + interval '1 hour' where id = '${exportId}'`,
    )
    const id = await requestErasure('ahead')
    await sleep(2) // The cutoff has microseconds, what is made after it milliseconds.
    const back = record({ user_id: 'ahead', created_at: new Date().toISOString() })
    expect(await save(back)).toEqual([])
    const [row] = await call<{ job: string }>('start_user_job', { uuid: id })
    const { cutoff } = JSON.parse(row?.job ?? '{}')
    const upToIt = [{ uuid: id }, { jsonb: ['ahead'] }, { timestamptz: cutoff }] as const
    expect(await call('mark_erased_sessions', ...upToIt, { integer: 9 })).toEqual([
      { session_id: ahead.session_id },
    ])
    expect(await call('erase_exports', ...upToIt, { jsonb: [] })).toMatchObject([{ id: exportId }])
  })

  test('what an erased user has used counts until the month is over, saved or not', async () => {
    const used = async () =>
      (await call('tokens_used', { text: 'spender' }, { timestamptz: at(0) }))[0] as Record<string, number>
    const answer = record({
      ...{ user_id: 'spender', role: 'assistant', created_at: at(0) },
      ...{ token_count: 30, metadata: { promptTokens: 40 } },
    })
    await save(answer)
    const store = openPostgresHotStore(database.app, { leaseSeconds: 60, historyMessages: 5 })
    const asked = askIn(ACME, { owner: 'spender', spending: spending({ userTokensPerDay: 9_000 }) })
    const { question } = await opened(store.openTurn(asked))
    const before = await used()
    expect(before.user_day).toBeGreaterThan(70)
    expect(before.user_month).toBe(before.user_day)

    const job = await requestErasure('spender')
    const upToIt = [{ uuid: job }, { jsonb: ['spender'] }, { timestamptz: at(HOUR_MS) }] as const
    await call('mark_erased_sessions', ...upToIt, { integer: 9 })
    const late = record({ ...question, id: asked.messageId, role: 'assistant', token_count: 30 })
    expect(await save(late)).toMatchObject([{ id: late.id }])
    const sessions = [answer.session_id, question.session_id]
    const gone = { jsonb: { messages: [answer.id, question.id, late.id], sessions } }
    await call('erase_next', { uuid: job }, gone, { integer: 9 })
    await call('erase_user_rows', ...upToIt, { integer: 9 })
    const tables = ['chat_messages', 'chat_turns', 'chat_sessions', 'usage_daily']
    for (const table of tables) {
      const whose = table === 'chat_messages' ? `id = '${answer.id}'` : `user_id = 'spender'`
      expect(await database.inTenant('acme', `select 1 from ${table} where ${whose}`)).toEqual([])
    }
    expect(await used()).toMatchObject({ user_day: before.user_day, user_month: before.user_month })

    expect(await call('forget_spent')).toEqual([{ forget_spent: 0 }])
    await database.inTenant(
      'acme',
      `update erasures set spent = '{"2020-01-31": 70}' where user_id = 'spender'`,
    )
    expect(await used()).toMatchObject({ user_day: 0, user_month: 0 })
    expect(await call('forget_spent')).toEqual([{ forget_spent: 1 }])
  })

  test('an export that is made while an erasure waits has nothing of what that is to remove', async () => {
    const exported = async () =>
      (
        await call<{ id: string }>(
          'export_sessions',
          { jsonb: ['leaving', 'anon_0'] },
          { uuid: '00000000-0000-0000-0000-000000000000' },
          { integer: 9 },
        )
      ).map(({ id }) => id)
    const usage = async () =>
      (await call('export_usage', { jsonb: ['leaving', 'anon_0'] }, { jsonb: null }, { integer: 9 })).length
    const before = record({ user_id: 'leaving', role: 'assistant', created_at: at(-1) })
    await save(before)
    expect([await exported(), await usage()]).toEqual([[before.session_id], 1])
    const job = await requestErasure('leaving')
    const after = record({ user_id: 'leaving', created_at: at(HOUR_MS) })
    await save(after)
    expect([await exported(), await usage()]).toEqual([[after.session_id], 0])
    // Once it is done, what is there is of after it.
    await database.inTenant('acme', `update user_jobs set state = 'done' where id = '${job}'`)
    expect(await usage()).toBe(1)
  })

  test('a session that is made late for a turn of before the erasure is not made', async () => {
    const wanted = (opened_at: string) => ({
      jsonb: {
        session_id: uuidv7(),
        thread_id: 'main',
        from: null,
        named: false,
        owner: 'late',
        channel: null,
        title: 'what was asked',
        opened_at,
        count: 0,
        bytes: 9,
      },
    })
    const before = wanted(at(-HOUR_MS))
    await requestErasure('late')
    expect(await call('load_session', before)).toMatchObject([{ kind: 'refused' }])
    expect(await database.inTenant('acme', `select 1 from chat_sessions where user_id = 'late'`)).toEqual([])
    expect(await call('load_session', wanted(at(HOUR_MS)))).toMatchObject([{ kind: 'session' }])
  })

  test.skipIf(engine === 'embedded')(
    'a session that begins while an erasure is asked for waits for it, and is younger',
    async () => {
      const client = new pg.Client({ connectionString: database.url })
      await client.connect()
      try {
        await client.query('begin')
        await client.query(`select turnkeep.lock_erasures('acme', 'web', false)`)
        const store = openPostgresHotStore(database.app, { leaseSeconds: 60, historyMessages: 5 })
        const opening = [
          store.openTurn(askIn(ACME, { owner: 'begins' })),
          call('create_session', ADMIN, { jsonb: { id: uuidv7(), user_id: 'begins', metadata: {} } }),
          call('load_session', {
            jsonb: {
              ...{ session_id: uuidv7(), thread_id: 'main', from: null, named: false },
              ...{ owner: 'begins', count: 0, bytes: 9 },
            },
          }),
        ]
        const waiting = `select count(*)::int as n from pg_locks where locktype = 'advisory' and not granted
          and database = (select oid from pg_database where datname = current_database())`
        await expect.poll(async () => (await client.query(waiting)).rows[0].n).toBe(opening.length)
        const { rows } = await client.query('select clock_timestamp()::text as cutoff')
        await client.query('commit')
        await Promise.all(opening)
        expect(
          await database.inTenant(
            'acme',
            `select created_at > '${rows[0].cutoff}' as is_younger from chat_sessions where user_id = 'begins'`,
          ),
        ).toEqual(opening.map(() => ({ is_younger: true })))
      } finally {
        await client.end()
      }
    },
  )

  test.each(['leave_feedback', 'delete_message'])(
    '%s makes no row of an unsaved message whose user is being erased',
    async (operation) => {
      const userId = `rates by ${operation}`
      const store = openPostgresHotStore(database.app, { leaseSeconds: 60, historyMessages: 5 })
      const { question } = await opened(store.openTurn(askIn(ACME, { owner: userId })))
      await requestErasure(userId)
      const rating = operation === 'leave_feedback' ? [{ integer: 5 }, { text: 'a comment' }] : []
      expect(await call(operation, ADMIN, { uuid: question.id }, ...rating)).toEqual([{ [operation]: false }])
      expect(await stored(question)).toBe(0)
    },
  )

  test.skipIf(engine === 'embedded')('an erasure waits for a rating that makes a row', async () => {
    const store = openPostgresHotStore(database.app, { leaseSeconds: 60, historyMessages: 5 })
    const { question } = await opened(store.openTurn(askIn(ACME, { owner: 'rates' })))
    const client = new pg.Client({ connectionString: database.url })
    await client.connect()
    try {
      await client.query('begin')
      const rating = ['acme', 'web', { user_id: 'rates', role: 'user' }, question.id, 5, 'a comment']
      const { rows } = await client.query('select turnkeep.leave_feedback($1, $2, $3, $4, $5, $6)', rating)
      expect(rows).toEqual([{ leave_feedback: true }])
      let isAsked = false
      const asking = requestErasure('rates').then((id) => {
        isAsked = true
        return id
      })
      const waiting = `select count(*)::int as n from pg_locks where locktype = 'advisory' and not granted
        and database = (select oid from pg_database where datname = current_database())`
      await expect.poll(async () => (await client.query(waiting)).rows[0].n).toBe(1)
      expect(isAsked).toBe(false)
      await client.query('commit')
      await asking
    } finally {
      await client.end()
    }
  })

  test('saves and erasures at once leave nothing of what was made before', async () => {
    const records = Array.from({ length: 200 }, () => record({ user_id: 'racing', created_at: at(-1_000) }))
    const saves = records.map((one) => save(one))
    const job = await requestErasure('racing')
    await Promise.all(saves)
    const users = { jsonb: ['racing'] }
    await call('mark_erased_sessions', { uuid: job }, users, { timestamptz: at(HOUR_MS) }, { integer: 500 })
    let gone = {}
    for (;;) {
      const rows = await call<{ kind: string; body: string }>(
        'erase_next',
        { uuid: job },
        { jsonb: gone },
        { integer: 30 },
      )
      if (rows.length === 0) break
      const ids = rows.map(({ body }) => JSON.parse(body).id)
      gone = { [rows[0]?.kind === 'message' ? 'messages' : 'sessions']: ids }
    }
    expect(await stored(...records)).toBe(0)
    const [{ places } = { places: {} }] = await database.inTenant<{ places: Record<string, number> }>(
      'acme',
      `select progress -> 'places' as places from user_jobs where id = '${job}'`,
    )
    expect(places.messages).toBe(places.sessions)
  })

  test('whoever has lost a job writes nothing more', async () => {
    const id = await requestExport('lost')
    await call('start_user_job', { uuid: id })
    await call('start_user_job', { uuid: id })
    const note = (attempt: number, state: string | null) =>
      call('note_user_job', { uuid: id }, { integer: attempt }, { jsonb: { seen: attempt } }, { text: state })
    expect(await note(1, 'done')).toEqual([{ note_user_job: false }])
    expect(await note(2, 'done')).toEqual([{ note_user_job: true }])
    expect(await note(2, null)).toEqual([{ note_user_job: false }])
  })

  test('users may ask about themselves, admins about anybody, agents about themselves', async () => {
    const may = async (user_id: string, role: string) =>
      (await call('request_export', { jsonb: { user_id, role } }, { text: 'whom' }, { uuid: uuidv7() }))
        .length === 1
    expect([await may('whom', 'user'), await may('whom', 'agent'), await may('x', 'admin')]).toEqual([
      true,
      true,
      true,
    ])
    expect([await may('x', 'user'), await may('x', 'agent')]).toEqual([false, false])
  })

  test.each([
    ['mark_erased_sessions', `'${uuidv7()}', '["somebody"]', now(), 100`],
    ['reclaim_sessions', `'somebody', 'anon_0', 100`],
    ['hide_users', `'[{"user_id": "somebody", "pseudonym": "anon_1"}]', 100`],
    ['settle_archive', `30, 100`],
  ])(
    '%s looks through the sessions of others once, also where Postgres thinks they are few',
    async (name, args) => {
      const company = `many-${name}`
      // What stays in a new database for a minute: nobody has counted them.
      await database.inTenant(
        company,
        `insert into public.chat_sessions (id, company_id, platform, user_id, last_active_at, expires_at)
       select gen_random_uuid(), '${company}', 'web', 'user ' || n, now() - interval '2 years', now() - interval '1 year'
       from generate_series(1, ${OTHERS}) n`,
      )
      const [row] = await database.app.execute<{ 'QUERY PLAN': string }>(
        `explain (analyze, buffers, format json) select * from turnkeep.${name}('${company}', 'web', ${args})`,
      )
      const [{ Plan }] = JSON.parse(row?.['QUERY PLAN'] ?? '[{}]')
      expect(Plan['Shared Hit Blocks'] + Plan['Shared Read Blocks']).toBeLessThan(20 * OTHERS)
    },
  )
})
