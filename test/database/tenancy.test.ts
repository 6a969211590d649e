import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { LimitCheck } from '../../lambdas/protocol/limits.ts'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'
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
  /** A message that has left for the archive, the only one of its thread, and the segment that it lies in. */
  const [left, segmentId] = [uuidv7(), uuidv7()]
  const exportId = uuidv7()
  const erasureId = uuidv7()
  const gone = record({ user_id: 'gone' })
  /** As the steps of an erasure say whose it is. */
  const erasing = [{ uuid: erasureId }, { jsonb: ['u1', 'gone'] }, { timestamptz: '2100-01-01 00:00:00' }]

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
    await database.app.call('save_records', [{ jsonb: [question, answer] }])
    await openPostgresLimiter(database.app).admit(checksOf(ACME))
    await database.app.callFor(ACME, 'change_tenant', [
      ADMIN,
      { jsonb: { systemPrompt: 'secret' } },
      { integer: null },
    ])
    await database.app.callFor(ACME, 'get_session', [ADMIN, { uuid: sessionId }])
    for (const insert of [
      `archive_segments values ('acme', 'web', '${sessionId}', '${segmentId}', 'archive/secret', 0, 1, 1, 1, 1, 1, '', 'live', now(), '{${left}}')`,
      `archived_messages values ('acme', 'web', '${left}', '${segmentId}', '${sessionId}')`,
      `archived_threads values ('acme', 'web', '${sessionId}', 'left', '${left}', now())`,
      `archive_objects (company_id, platform, key, state, upload_id, schema_version, created_at) values
        ('acme', 'web', 'archive/secret', 'complete', null, 1, now()), ('acme', 'web', 'archive/secret, too', 'complete', null, 1, now()),
        ('acme', 'web', 'archive/begun', 'writing', 'upload', 1, now() - interval '2 hours')`,
    ])
      await database.inTenant('acme', `insert into ${insert}`)
    await database.app.callFor(ACME, 'request_export', [ADMIN, { text: 'u1' }, { uuid: exportId }])
    await database.app.call('save_records', [{ jsonb: [gone] }])
    await database.app.callFor(ACME, 'request_erasure', [
      ADMIN,
      { text: 'gone' },
      { jsonb: ['gone'] },
      { uuid: erasureId },
    ])
    await database.app.callFor(ACME, 'mark_erased_sessions', [
      { uuid: erasureId },
      { jsonb: ['gone'] },
      { timestamptz: '2100-01-01 00:00:00' },
      { integer: 9 },
    ])
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
         (select jsonb_agg(s) from archive_segments s) as segments,
         (select jsonb_agg(m) from archived_messages m) as archived,
         (select jsonb_agg(t) from archived_threads t) as archived_threads,
         (select jsonb_agg(s) from tenant_settings s) as settings,
         (select jsonb_agg(a order by a.at, a.id) from audit_log a) as audit,
         (select jsonb_agg(u order by u.user_id) from usage_daily u) as usage,
         (select jsonb_agg(j order by j.id) from user_jobs j) as jobs,
         (select jsonb_agg(e) from erasures e) as erasures,
         (select jsonb_agg(e) from erased_sessions e) as erased`,
    )
    for (const rows of Object.values(all ?? {})) expect(rows).not.toBeNull()
    return all
  }

  // Each operation, with arguments that name the other tenant's data, and what a stranger gets.
  const attempts: Record<string, () => { args: Argument[]; gets: unknown[] }> = {
    adopt_archive_object: () => ({
      args: [
        { text: 'archive/secret' },
        {
          jsonb: {
            schema_version: 1,
            messages: 0,
            segments: 0,
            bytes: 0,
            written_at: new Date().toISOString(),
          },
        },
        { jsonb: [] },
      ],
      gets: [{ adopt_archive_object: true }],
    }),
    archivable_lines: () => ({
      args: [
        {
          jsonb: [
            {
              session_id: sessionId,
              due: null,
              from_sequence: 0,
              from_id: '00000000-0000-0000-0000-000000000000',
              to_sequence: 99,
              to_id: sessionId,
            },
          ],
        },
        { integer: 100_000 },
      ],
      gets: [],
    }),
    list_archivable: () => ({
      args: [{ jsonb: { after_days: 0, above_messages: 0, sessions: 9, bytes: 100_000 } }],
      gets: [],
    }),
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
    complete_archive_object: () => ({
      args: [{ text: 'archive/begun' }, { jsonb: { messages: 1, segments: 1, bytes: 1, sha256: '' } }],
      gets: [{ complete_archive_object: false }],
    }),
    delete_message: () => ({
      args: [ADMIN, { uuid: answer.id }],
      gets: [{ delete_message: false }],
    }),
    drop_dead_objects: () => ({ args: [{ integer: 9 }], gets: [] }),
    erase_exports: () => ({ args: [...erasing, { jsonb: [exportId] }], gets: [] }),
    erase_next: () => ({
      args: [
        { uuid: erasureId },
        { jsonb: { messages: [gone.id], archived: [gone.id], sessions: [gone.session_id] } },
        { integer: 9 },
      ],
      gets: [],
    }),
    erase_user_rows: () => ({ args: [...erasing, { integer: 9 }], gets: [{ erase_user_rows: 0 }] }),
    export_sessions: () => ({
      args: [{ jsonb: ['u1'] }, { uuid: '00000000-0000-0000-0000-000000000000' }, { integer: 9 }],
      gets: [],
    }),
    export_usage: () => ({ args: [{ jsonb: ['u1'] }, { jsonb: null }, { integer: 9 }], gets: [] }),
    give_up_archive_object: () => ({
      args: [{ text: 'archive/begun' }],
      gets: [{ give_up_archive_object: false }],
    }),
    give_up_written_objects: () => ({
      args: [{ uuid: erasureId }],
      gets: [{ give_up_written_objects: 0 }],
    }),
    list_dropped_objects: () => ({ args: [{ integer: 9 }], gets: [] }),
    find_left: () => ({ args: [{ jsonb: [left] }], gets: [] }),
    forget_spent: () => ({ args: [], gets: [{ forget_spent: 0 }] }),
    get_user_job: () => ({ args: [ADMIN, { text: 'export' }, { uuid: exportId }], gets: [] }),
    mark_erased_sessions: () => ({ args: [...erasing, { integer: 9 }], gets: [] }),
    next_object_to_rewrite: () => ({
      args: [{ uuid: erasureId }, { text: '' }],
      gets: [{ next_object_to_rewrite: null }],
    }),
    purged_lines: () => ({
      args: [
        { uuid: sessionId },
        { uuid: segmentId },
        { uuid: '00000000-0000-0000-0000-000000000000' },
        { integer: 9 },
      ],
      gets: [],
    }),
    note_erased: () => ({
      args: [{ uuid: erasureId }, { jsonb: { sessions: 9 } }],
      gets: [{ note_erased: true }],
    }),
    note_archive_upload: () => ({
      args: [{ text: 'archive/begun' }, { text: 'stolen' }],
      gets: [{ note_archive_upload: false }],
    }),
    note_user_job: () => ({
      args: [{ uuid: exportId }, { integer: 0 }, { jsonb: { shown: 9 } }, { text: 'done' }],
      gets: [{ note_user_job: false }],
    }),
    segment_messages: () => ({ args: [{ uuid: sessionId }, { uuid: segmentId }], gets: [] }),
    last_copies: () => ({ args: [{ uuid: sessionId }, { uuid: segmentId }], gets: [] }),
    read_object_segments: () => ({
      args: [{ text: 'archive/a' }, { integer: 0 }, { integer: 9 }],
      gets: [],
    }),
    read_user: () => ({
      args: [{ jsonb: { user_id: 'u1', role: 'user' } }, { text: 'u1' }, { jsonb: ['u1'] }],
      gets: [{ kind: 'counts', body: '{"messages": 0, "sessions": 0}' }],
    }),
    reclaim_sessions: () => ({
      args: [{ text: 'stranger' }, { text: 'u1' }, { integer: 9 }],
      gets: [{ reclaim_sessions: 0 }],
    }),
    drop_overdue_object: () => ({ args: [{ text: 'archive/a' }], gets: [{ drop_overdue_object: 0 }] }),
    hide_users: () => ({
      args: [{ jsonb: [{ user_id: 'u1', pseudonym: 'anon_' }] }, { integer: 9 }],
      gets: [{ hide_users: 0 }],
    }),
    mark_overdue_sessions: () => ({ args: [{ integer: 9 }], gets: [{ deleted: 0, expired: 0 }] }),
    newer_copies: () => ({
      args: [{ text: 'archive/secret' }, { uuid: '00000000-0000-0000-0000-000000000000' }, { integer: 9 }],
      gets: [],
    }),
    overdue_messages: () => ({ args: [{ integer: 9 }], gets: [] }),
    overdue_object: () => ({ args: [], gets: [{ overdue_object: null }] }),
    remove_expired: () => ({ args: [{ integer: 9 }], gets: [{ audit_lines: 0, tombstones: 0 }] }),
    remove_overdue_messages: () => ({
      args: [{ jsonb: [answer.id] }],
      gets: [{ remove_overdue_messages: 0 }],
    }),
    retention_due: () => ({
      args: [],
      gets: [
        'deletedSessions',
        'overdueSessions',
        'archiveObjects',
        'archivedMessages',
        'usersToHide',
        'auditLines',
      ].map((kind) => ({ kind, rows: 0 })),
    }),
    users_to_hide: () => ({ args: [{ integer: 9 }], gets: [] }),
    running_in_erased: () => ({ args: [{ uuid: erasureId }, { integer: 9 }], gets: [] }),
    start_user_job: () => ({ args: [{ uuid: exportId }], gets: [] }),
    remove_archived: () => ({
      args: [
        { text: 'archive/secret' },
        {
          jsonb: [
            {
              id: segmentId,
              session_id: sessionId,
              byte_offset: 0,
              last_active_at: null,
              messages: 1,
              first_sequence: 1,
              first_id: answer.id,
              last_sequence: 1,
              last_id: answer.id,
              versions: '1',
            },
          ],
        },
      ],
      gets: [],
    }),
    switch_object: () => ({
      args: [{ uuid: erasureId }, { text: 'archive/a' }, { jsonb: null }, { jsonb: [] }, { jsonb: [] }],
      gets: [{ switch_object: false }],
    }),
    end_session: () => ({
      args: [ADMIN, { uuid: sessionId }, { boolean: true }],
      gets: [{ end_session: false }],
    }),
    find_archived: () => ({ args: [ADMIN, { uuid: left }], gets: [] }),
    find_key: () => ({ args: [{ text: 'u1' }, { text: 'k' }], gets: [] }),
    finish_turn: () => ({
      args: [{ uuid: running }, { integer: 1 }, { integer: 9 }, { jsonb: {} }],
      gets: [{ finish_turn: false }],
    }),
    forget_archive_object: () => ({
      args: [{ text: 'archive/begun' }],
      gets: [{ forget_archive_object: false }],
    }),
    get_session: () => ({ args: [ADMIN, { uuid: sessionId }], gets: [] }),
    get_tenant: () => ({ args: [], gets: [] }),
    leave_feedback: () => ({
      args: [ADMIN, { uuid: answer.id }, { integer: 1 }, { text: null }],
      gets: [{ leave_feedback: false }],
    }),
    read_audit: () => ({
      args: [{ jsonb: ['u1'] }, { timestamptz: null }, { uuid: null }, { integer: 100 }],
      gets: [],
    }),
    read_messages: () => ({
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
    list_segments: () => ({
      args: [{ uuid: sessionId }, { boolean: false }, { integer: 0 }, { integer: null }, { uuid: null }],
      gets: [],
    }),
    list_users: () => ({ args: [{ text: '' }, { integer: 9 }], gets: [] }),
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
    // After the one whose key the strangers have adopted.
    read_objects: () => ({ args: [{ text: 'archive/secret' }, { integer: 9 }], gets: [] }),
    forget_lost_object: () => ({ args: [{ text: 'archive/a' }], gets: [{ forget_lost_object: 0 }] }),
    copies_elsewhere: () => ({ args: [{ text: 'archive/a' }, { jsonb: [running] }], gets: [] }),
    restore_messages: () => ({ args: [{ text: '[]' }], gets: [] }),
    read_reply: () => ({
      args: [{ text: null }, { uuid: running }, { integer: -1 }, { integer: 100_000 }],
      gets: [],
    }),
    read_usage: () => ({
      args: [
        { jsonb: { user_id: 'u1', role: 'user' } },
        { text: 'u1' },
        { jsonb: { from: '2000-01-01', to: '2100-01-01', by: 'day', limit: 9 } },
        { jsonb: [] },
      ],
      gets: [{ kind: 'total', body: expect.stringContaining('"turns": 0') }],
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
    settle_archive: () => ({
      args: [{ integer: 1 }, { integer: 9 }],
      gets: [{ expired: 0, oldest_seconds: null, due_seconds: 86_400 }],
    }),
    settle_archived_thread: () => ({
      args: [{ uuid: sessionId }, { text: 'left' }, { uuid: left }, { jsonb: [] }],
      gets: [{ settle_archived_thread: false }],
    }),
    thaw_messages: () => ({
      args: [{ text: JSON.stringify([{ segment_id: segmentId, row: { ...answer, id: left } }]) }],
      gets: [{ thaw_messages: 0 }],
    }),
    take_over_turn: () => ({ args: [{ uuid: running }, { 'double precision': 1 }], gets: [] }),
    tokens_used: () => ({
      args: [{ text: 'u1' }, { timestamptz: answer.created_at }],
      gets: [{ user_day: 0, user_month: 0, tenant_day: 0, tenant_month: 0 }],
    }),
  }
  // These take no tenant as an argument of a stranger, make something new, or are parts of others; tried below. Those
  // of logins concern no tenant: logins.test.ts.
  const others = [
    'message_line',
    'add_usage',
    'admit',
    'archived_message',
    'audit',
    'audit_other',
    'audit_reply',
    'begin_archive_object',
    'begin_rewritten_object',
    'budgets_of',
    'chain',
    'change_other_login',
    'change_tenant',
    'context_tokens',
    'count_erased',
    'count_in',
    'count_users',
    'create_session',
    'ensure_saved',
    'estimate_tokens',
    'find_message',
    'has_copy',
    'has_data',
    'has_lapsed',
    'held_by_turns',
    'history',
    'is_due',
    'is_titled_by',
    'keep_spent',
    'is_erased',
    'is_erased_session',
    'lapsed_turns',
    'left_again',
    'limit_checks',
    'list_tenants',
    'lock_erasures',
    'lock_limit',
    'login_stands',
    'may_act_for',
    'may_act_on_user',
    'may_touch',
    'newest_answer',
    'open_turn',
    'open_within_limits',
    'record_segments',
    'refuse_archived',
    'release_tokens',
    'repeat_erasure',
    'purged_in',
    'request_erasure',
    'unknown_erasures',
    'request_export',
    'reserve_tokens',
    'response_bytes',
    'retention_times',
    'save_records',
    'seconds_until',
    'segment_place',
    'segments_from',
    'set_back',
    'set_login',
    'set_tenant',
    'settings_of',
    'sweep_turns',
    'texts_of',
    'tokens_of_answer',
    'touched_message',
    'unfinished_turns',
    'unread_answer',
    'unsaved_message',
    'usage_of',
    'version_of',
    'version_rank',
    'waits_for_purge',
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

  test('writes archive objects of its own, whatever their names are', async () => {
    const before = await everything()
    const segment = {
      id: segmentId,
      session_id: sessionId,
      byte_offset: 0,
      byte_length: 1,
      text_bytes: 1,
      messages: 1,
      first_sequence: 1,
      last_sequence: 1,
      sha256: 'stolen',
    }
    for (const stranger of OTHERS.slice(0, 3)) {
      const key = { text: 'archive/begun' }
      expect(
        await database.app.callFor(stranger, 'begin_archive_object', [key, { integer: 1 }]),
      ).toHaveLength(1)
      expect(
        await database.app.callFor(stranger, 'record_segments', [key, { jsonb: [segment] }]),
      ).toHaveLength(1)
    }
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

  test('has erasures of its own: another’s user of the same name stays', async () => {
    const before = await everything()
    for (const stranger of OTHERS.slice(0, 3)) {
      const args = [ADMIN, { text: 'u1' }, { jsonb: ['u1'] }, { uuid: uuidv7() }]
      expect(await database.app.callFor(stranger, 'request_erasure', args)).toHaveLength(1)
      const late = record({ company_id: stranger.companyId, platform: stranger.platform, user_id: 'u1' })
      const dropped = { ...late, created_at: '2001-01-01T00:00:00.000Z' }
      expect(await database.app.call('save_records', [{ jsonb: [dropped] }])).toMatchObject([{ id: late.id }])
    }
    expect(await everything()).toEqual(before)
  })

  test('cannot save over another’s message, and an id of its own may be the same', async () => {
    const before = await everything()
    const mine = record({ id: answer.id, company_id: 'other', content: 'mine' })
    await database.app.call('save_records', [{ jsonb: [mine] }])
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
      'usage_daily',
      'archive_segments',
      'archived_messages',
      'archived_threads',
      'user_jobs',
      'erasures',
      'erased_sessions',
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
