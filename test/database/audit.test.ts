/** The audit log: nobody who writes it can take anything of it back. */
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { onBothEngines, startTestDatabase, type TestDatabase } from '../harness/database.ts'

const TENANT = { companyId: 'acme', platform: 'web' }
const ADMIN = { jsonb: { user_id: 'admin', role: 'admin' } }
const OWNER = { jsonb: { user_id: 'u1', role: 'user' } }
const STRANGER = { jsonb: { user_id: 'u2', role: 'user' } }

onBothEngines('the audit log', (engine) => {
  let database: TestDatabase
  const sessionId = uuidv7()
  beforeAll(async () => {
    database = await startTestDatabase(engine, 'audit')
    await database.app.callFor(TENANT, 'create_session', [
      ADMIN,
      { jsonb: { id: sessionId, user_id: 'u1', metadata: {} } },
    ])
  })
  afterAll(() => database.close())

  const lines = () =>
    database.inTenant<{ action: string; actor_id: string }>('acme', 'select * from audit_log order by at, id')
  const actions = async () => (await lines()).map(({ action }) => action)

  test('can be added to and read by the functions’ login, and neither changed nor emptied', async () => {
    const before = await lines()
    expect(before).toMatchObject([{ action: 'session.created', actor_id: 'admin', user_id: 'u1' }])
    // As an operation would try it, with the tenant set; the privilege alone refuses it.
    await database.owner.execute(`
      create or replace function public.as_tenant(p_sql text) returns boolean language plpgsql as $$
      begin
        perform turnkeep.set_tenant('acme', 'web');
        execute p_sql;
        return true;
      end $$`)
    for (const statement of [
      `update audit_log set actor_id = 'nobody'`,
      'truncate audit_log',
      'drop policy append on audit_log',
      'alter table audit_log disable row level security',
      `insert into audit_log (company_id, platform, actor_id, actor_role, action) values ('other', 'web', 'a', 'admin', 'x')`,
    ])
      await expect(
        database.app.execute('select public.as_tenant(:statement)', { statement }),
        statement,
      ).rejects.toMatchObject({ sqlState: '42501' })
    expect(await lines()).toEqual(before)
  })

  test('is kept by row-level security too, should somebody grant too much', async () => {
    const before = await lines()
    await database.owner.execute('grant update on public.audit_log to turnkeep_app')
    try {
      for (const statement of [`update audit_log set actor_id = 'nobody'`, 'delete from audit_log'])
        await database.app.execute('select public.as_tenant(:statement)', { statement })
    } finally {
      await database.owner.execute('revoke update on public.audit_log from turnkeep_app')
    }
    expect(await lines()).toEqual(before)
  })

  test('is part of what it records: what cannot be recorded is not read and not changed', async () => {
    const before = await lines()
    await database.owner.execute('revoke insert on public.audit_log from turnkeep_app')
    try {
      for (const [operation, args] of [
        ['get_session', [ADMIN, { uuid: sessionId }]],
        ['change_session', [ADMIN, { uuid: sessionId }, { jsonb: { title: 'changed' } }]],
        ['end_session', [OWNER, { uuid: sessionId }, { boolean: true }]],
        ['change_tenant', [ADMIN, { jsonb: { historyMessages: 1 } }, { integer: null }]],
      ] as const)
        await expect(database.app.callFor(TENANT, operation, args), operation).rejects.toMatchObject({
          sqlState: '42501',
        })
      expect(await database.app.callFor(TENANT, 'get_session', [OWNER, { uuid: sessionId }])).toMatchObject([
        { title: null, ended_at: null, deleted_at: null },
      ])
    } finally {
      await database.owner.execute('grant insert on public.audit_log to turnkeep_app')
    }
    expect(await lines()).toEqual(before)
    expect(await database.app.callFor(TENANT, 'get_tenant', [])).toEqual([])
  })

  test('says nothing of what a user does with its own, nor of what was refused, but for erasing and ending', async () => {
    const before = await actions()
    const touch = async (caller: typeof OWNER) => {
      await database.app.callFor(TENANT, 'get_session', [caller, { uuid: sessionId }])
      await database.app.callFor(TENANT, 'change_session', [caller, { uuid: sessionId }, { jsonb: {} }])
    }
    await touch(OWNER)
    await touch(STRANGER)
    for (const caller of [STRANGER, OWNER, OWNER])
      await database.app.callFor(TENANT, 'end_session', [caller, { uuid: sessionId }, { boolean: false }])
    expect(await actions()).toEqual([...before, 'session.ended'])
  })

  test('is not opened by a role that nobody has', async () => {
    const caller = { jsonb: { user_id: 'u2', role: 'superuser' } }
    expect(await database.app.callFor(TENANT, 'get_session', [caller, { uuid: sessionId }])).toEqual([])
    const nobody = { jsonb: {} }
    expect(await database.app.callFor(TENANT, 'get_session', [nobody, { uuid: sessionId }])).toEqual([])
    const everybody = [
      STRANGER,
      { text: null },
      { boolean: null },
      { timestamptz: null },
      { uuid: null },
      { integer: 9 },
    ]
    expect(await database.app.callFor(TENANT, 'list_sessions', everybody)).toEqual([])
  })

  test('gives away what is older than a year, to retention, and nothing that is not', async () => {
    const before = await lines()
    await database.inTenant(
      'acme',
      `insert into audit_log (company_id, platform, at, actor_id, actor_role, action)
       select 'acme', 'web', now() - make_interval(days => d), 'admin', 'admin', 'old' from unnest(array[300, 367]) d`,
    )
    await database.app.execute('select public.as_tenant(:statement)', { statement: 'delete from audit_log' })
    expect(await lines()).toMatchObject([{ action: 'old' }, ...before.map(({ action }) => ({ action }))])
  })
})
