/** The functions' logins: what they may do, how their passwords change, and that these are passwords indeed. */
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { verifierOf } from '../../lambdas/logins/verifier.ts'
import { migrate, readSqlFiles } from '../../lambdas/migrations/migrate.ts'
import { openDatabase } from '../../lambdas/services/database.ts'
import * as sqlText from '../../lambdas/services/sql-text.ts'
import { startDataApi } from '../../local/cloud/data-api.ts'
import { startPostgres } from '../../local/cloud/postgres.ts'
import { onBothEngines, startTestDatabase, type TestDatabase } from '../harness/database.ts'
import { SQL } from '../harness/migrated.ts'
import { createDatabase, startEmbeddedServer } from '../harness/postgres-server.ts'

const FIRST = 'turnkeep_app_1'
const SECOND = 'turnkeep_app_2'
const INVALID = { sqlState: '22023' }
const NOT_ALLOWED = { sqlState: '42501' }

onBothEngines('the logins of the functions', (engine) => {
  let database: TestDatabase
  let verifier: string
  beforeAll(async () => {
    database = await startTestDatabase(engine, 'logins')
    verifier = await verifierOf('a password of theirs')
  })
  afterAll(() => database.close())

  /** The tests act as the first one. */
  const change = (login: string | null, version = 'v1', text: string | null = verifier) =>
    database.app.call('change_other_login', [{ text: login }, { text }, { text: version }])
  const stands = async (login: string, version: string) => {
    const [row] = await database.app.call<{ login_stands: boolean }>('login_stands', [
      { text: login },
      { text: version },
    ])
    return row?.login_stands
  }

  test('may log in, have the rights of the app role, and no others', async () => {
    expect(
      await database.owner.execute(
        `select rolname::text as name, rolcanlogin, rolinherit, rolsuper or rolbypassrls or rolcreaterole or rolcreatedb
             or rolreplication as mighty, exists (select from pg_class where relowner = r.oid)
             or exists (select from pg_proc where proowner = r.oid) as owns,
           array(select roleid::regrole::text from pg_auth_members where member = r.oid) as roles
         from pg_roles r where rolname in ('${FIRST}', '${SECOND}', 'turnkeep_app') order by 1`,
      ),
    ).toEqual([
      { name: 'turnkeep_app', rolcanlogin: false, rolinherit: true, mighty: false, owns: false, roles: [] },
      ...[FIRST, SECOND].map((name) => ({
        name,
        rolcanlogin: true,
        rolinherit: true,
        mighty: false,
        owns: false,
        roles: ['turnkeep_app'],
      })),
    ])
  })

  test.each([
    `alter role ${SECOND} password 'stolen'`,
    `alter role turnkeep_app login`,
    `alter role ${FIRST} createrole`,
    `create role mine`,
    `drop role ${SECOND}`,
    `grant ${SECOND} to ${FIRST}`,
    'create schema mine',
    'create table public.mine (a int)',
    'create table turnkeep.mine (a int)',
    'create function turnkeep.mine() returns int language sql as $$ select 1 $$',
    'create or replace function turnkeep.login_stands(p_login text, p_secret_version text) returns boolean language sql as $$ select true $$',
    'alter table chat_messages disable row level security',
    'select * from turnkeep.logins',
    'select rolpassword from pg_authid',
  ])('may not: %s', async (statement) => {
    await expect(database.app.execute(statement)).rejects.toMatchObject(NOT_ALLOWED)
  })

  test('see nothing of a tenant that is not set', async () => {
    await database.inTenant('acme', `insert into tenants (company_id, platform) values ('acme', 'web')`)
    expect(await database.app.execute('select count(*)::int as n from tenants')).toEqual([{ n: 0 }])
  })

  test('change the other’s password, again and again, and know when it stands', async () => {
    expect(await stands(SECOND, 'v1')).toBe(false)
    for (const version of ['v1', 'v1', 'v2'])
      expect(await change(SECOND, version)).toEqual([{ change_other_login: true }])
    expect(await stands(SECOND, 'v2')).toBe(true)
    expect(await stands(SECOND, 'v1')).toBe(false)
    expect(await stands('turnkeep_app', 'v2')).toBe(false)
  })

  test.each([
    ['their own', FIRST, NOT_ALLOWED],
    ['nobody’s', null, NOT_ALLOWED],
    ['the app role’s', 'turnkeep_app', INVALID],
    ['a superuser’s', 'postgres', INVALID],
    ['a stranger’s', 'turnkeep_app_3', INVALID],
  ])('do not change %s', async (_title, login, refusal) => {
    await expect(change(login)).rejects.toMatchObject(refusal)
  })

  test.each([
    ['a plain password', 'a password of theirs'],
    ['an MD5', `md5${'a'.repeat(32)}`],
    ['a verifier that is cut', 'SCRAM-SHA-256$4096:c2FsdA==$a:b'],
    [
      'more than a verifier',
      `SCRAM-SHA-256$4096:${'a'.repeat(22)}==$${'a'.repeat(43)}=:${'a'.repeat(43)}=' valid until 'now`,
    ],
    ['nothing', null],
  ])('do not set %s', async (_title, text) => {
    const failure = await change(SECOND, 'v3', text).catch((error) => error)
    expect(failure).toMatchObject(INVALID)
    if (text) expect(failure.message).not.toContain(text)
    expect(await stands(SECOND, 'v3')).toBe(false)
  })

  test('do not change the other’s by taking another role first, and cannot set one past the check', async () => {
    await expect(
      database.app.execute(`select turnkeep.set_login('${SECOND}', '${verifier}', 'v4')`),
    ).rejects.toMatchObject(NOT_ALLOWED)
    await expect(
      database.owner.execute(`select turnkeep.change_other_login('${SECOND}', '${verifier}', 'v4')`),
    ).rejects.toMatchObject(NOT_ALLOWED)
  })

  test('have the only two functions that run as the owner, whose search path is fixed', async () => {
    expect(
      await database.owner.execute(
        `select proname::text as name, proconfig::text as config from pg_proc p join pg_namespace n on n.oid = p.pronamespace
         where nspname in ('public', 'turnkeep') and prosecdef order by 1`,
      ),
    ).toEqual(
      ['change_other_login', 'login_stands'].map((name) => ({
        name,
        config: '{"search_path=pg_catalog, pg_temp"}',
      })),
    )
  })
})

test('the logins are set by several databases of one server at the same moment', async () => {
  const databases: TestDatabase[] = []
  for (const name of ['a', 'b', 'c', 'd']) databases.push(await startTestDatabase('real', `logins_${name}`))
  try {
    const verifier = await verifierOf('a password of theirs')
    const set = ({ owner }: TestDatabase) =>
      owner.call('set_login', [{ text: SECOND }, { text: verifier }, { text: 'v1' }])
    for (let round = 0; round < 10; round += 1)
      expect(await Promise.all(databases.map(set))).toEqual(Array(4).fill([{ set_login: true }]))
  } finally {
    for (const one of databases) await one.close()
  }
})

describe('a login with a password, on a server that asks for it', () => {
  let url: string
  const closers: (() => unknown)[] = []
  beforeAll(async () => {
    const server = await startEmbeddedServer()
    closers.unshift(server.close)
    url = await createDatabase(server.url, 'passwords')
    const postgres = await startPostgres({ databaseUrl: url, realLogins: true })
    closers.unshift(postgres.close)
    passwords = { [FIRST]: 'unset', [SECOND]: 'unset' }
    const dataApi = await startDataApi({
      postgres,
      secretOf: (arn) => {
        const username = arn.slice(arn.lastIndexOf(':') + 1)
        return JSON.stringify({ username, password: passwords[username] ?? '' })
      },
    })
    closers.unshift(dataApi.close)
    Object.assign(process.env, {
      AWS_REGION: 'us-east-1',
      AWS_ACCESS_KEY_ID: 'test',
      AWS_SECRET_ACCESS_KEY: 'test',
      AWS_ENDPOINT_URL_RDS_DATA: dataApi.url,
    })
    as = (username) =>
      openDatabase({
        databaseClusterArn: 'arn:aws:rds:us-east-1:000000000000:cluster:turnkeep',
        databaseSecretArn: `arn:aws:secretsmanager:us-east-1:000000000000:secret:${username}`,
        databaseName: 'turnkeep',
      })
    await migrate(as(postgres.owner), await readSqlFiles(SQL), sqlText)
    owner = postgres.owner
  })
  afterAll(async () => {
    for (const close of closers) await close()
  })
  let passwords: Record<string, string>
  let as: (username: string) => ReturnType<typeof openDatabase>
  let owner: string

  /** A connection past the Data API; the SQLSTATE of its refusal. */
  async function connect(user: string, password: string): Promise<string> {
    const { hostname, port, pathname } = new URL(url)
    const client = new pg.Client({
      host: hostname,
      port: Number(port),
      database: pathname.slice(1),
      user,
      password,
    })
    try {
      await client.connect()
      return (await client.query('select session_user::text as me')).rows[0].me
    } catch (error) {
      return (error as { code: string }).code
    } finally {
      await client.end().catch(() => undefined)
    }
  }
  const set = async (login: string, password: string) =>
    as(owner).call('set_login', [{ text: login }, { text: await verifierOf(password) }, { text: 'v' }])

  test('is refused before it has one, which is unavailable to the functions and can be tried again', async () => {
    expect(await connect(FIRST, 'unset')).toBe('28P01')
    await expect(as(FIRST).execute('select 1')).rejects.toMatchObject({
      code: 'unavailable',
      cause: { name: 'DatabaseErrorException', message: expect.stringContaining('SQLState: 28P01') },
    })
  })

  test('gets in with the password whose verifier was set, and with no other', async () => {
    const verifier = await verifierOf('the first password')
    await as(owner).call('set_login', [{ text: FIRST }, { text: verifier }, { text: 'v' }])
    expect(await connect(FIRST, 'the first password')).toBe(FIRST)
    expect(await connect(FIRST, 'another password')).toBe('28P01')
    expect(await connect(FIRST, verifier)).toBe('28P01')
    passwords[FIRST] = 'the first password'
    const who = 'select session_user::text as session, current_user::text as me'
    expect(await as(FIRST).execute(who)).toEqual([{ session: FIRST, me: FIRST }])
  })

  test('gives the other one a new password and cannot touch its own, also in another role', async () => {
    await as(FIRST).call('change_other_login', [
      { text: SECOND },
      { text: await verifierOf('the second password') },
      { text: 'v2' },
    ])
    expect(await connect(SECOND, 'the second password')).toBe(SECOND)
    const verifier = await verifierOf('stolen password')
    for (const login of [FIRST, owner, 'turnkeep_app', 'postgres'])
      await expect(
        as(FIRST).call('change_other_login', [{ text: login }, { text: verifier }, { text: 'v3' }]),
      ).rejects.toMatchObject({ sqlState: expect.stringMatching(/^(42501|22023)$/) })
    const inRole = (role: string) =>
      as(FIRST).execute(`do $$ begin
        perform set_config('role', '${role}', true);
        perform turnkeep.change_other_login('${FIRST}', '${verifier}', 'v3');
      end $$`)
    for (const role of ['turnkeep_app', 'none', SECOND])
      await expect(inRole(role)).rejects.toMatchObject({ sqlState: '42501' })
    expect(await connect(FIRST, 'the first password')).toBe(FIRST)
  })

  test('reads no tenant that is not set, also past the operations', async () => {
    await as(FIRST).callFor({ companyId: 'acme', platform: 'web' }, 'create_session', [
      { jsonb: { user_id: 'u1', role: 'user' } },
      { jsonb: { id: crypto.randomUUID(), user_id: 'u1', metadata: {} } },
    ])
    expect(await as(FIRST).execute('select count(*)::int as n from chat_sessions')).toEqual([{ n: 0 }])
    await expect(as(FIRST).execute(`set role ${owner}`)).rejects.toMatchObject({ sqlState: '42501' })
  })

  test('keeps its connections when its password changes; new ones need the new password', async () => {
    await as(FIRST).execute('select 1')
    await set(FIRST, 'a newer password')
    expect(await as(FIRST).execute('select 1 as one')).toEqual([{ one: 1 }])
    expect(await connect(FIRST, 'the first password')).toBe('28P01')
    passwords[FIRST] = 'a newer password'
    expect(await as(FIRST).execute('select 1 as one')).toEqual([{ one: 1 }])
  })
})
