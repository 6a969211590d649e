import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { migrate, readSqlFiles } from '../../lambdas/migrations/migrate.ts'
import * as sqlText from '../../lambdas/services/sql-text.ts'
import { LANDED_MIGRATIONS } from '../fixtures/landed-migrations.ts'
import { onBothEngines, startTestDatabase, type TestDatabase } from '../harness/database.ts'
import { describeSchema } from '../harness/schema.ts'

const SQL = resolve(import.meta.dirname, '../../sql')

test('migrations that have landed stay as they are', async () => {
  const { numbered } = await readSqlFiles(SQL)
  const found = new Map(numbered.map(({ name, checksum }) => [name, checksum]))
  const changed = Object.entries(LANDED_MIGRATIONS)
    .filter(([name, checksum]) => found.get(name) !== checksum)
    .map(
      ([name]) =>
        `sql/${name} has landed and stays as it is: databases that have it would refuse every later one. ` +
        'Add a new numbered file.',
    )
  const unlisted = numbered
    .filter(({ name }) => !(name in LANDED_MIGRATIONS))
    .map(
      ({ name, checksum }) =>
        `sql/${name} is new. Once it is as it shall land, add to test/fixtures/landed-migrations.ts:\n` +
        `  '${name}': '${checksum}',`,
    )
  expect([...changed, ...unlisted].join('\n')).toBe('')
})

onBothEngines('the migrations', (engine) => {
  let database: TestDatabase
  beforeAll(async () => {
    database = await startTestDatabase(engine, 'migrations', { empty: true })
  })
  afterAll(() => database.close())

  test('make the committed schema', async () => {
    const schema = await describeSchema((sql) => database.owner.execute(sql))
    expect(schema).toBe(await readFile(resolve(SQL, 'schema.sql'), 'utf8'))
  })

  test('applied again change nothing', async () => {
    expect(await database.migrate()).toEqual([])
  })

  test('cut short at any statement are completed by the next run', async () => {
    const files = await readSqlFiles(SQL)
    const statements = [...files.numbered, ...files.repeatable].flatMap(({ text }) =>
      sqlText.splitStatements(text),
    ).length
    const fresh = await startTestDatabase(engine, 'cut', { empty: true })
    try {
      for (const cut of [1, 7, 15, statements - 2]) {
        await fresh.owner.execute('delete from turnkeep.migrations')
        let left = cut
        const dying = {
          execute: async <Row>(sql: string, values?: Record<string, string>): Promise<Row[]> => {
            if (left === 0) throw new Error('killed')
            left -= 1
            return fresh.owner.execute<Row>(sql, values)
          },
        }
        await expect(migrate(dying, files, sqlText)).rejects.toThrow('killed')
        await migrate(fresh.owner, files, sqlText)
      }
      expect(await describeSchema((sql) => fresh.owner.execute(sql))).toBe(
        await readFile(resolve(SQL, 'schema.sql'), 'utf8'),
      )
    } finally {
      await fresh.close()
    }
  }, 60_000)

  test('refuse a numbered file that was edited after it was applied', async () => {
    const files = await readSqlFiles(SQL)
    const [first, ...rest] = files.numbered
    if (first === undefined) throw new Error('there are no migrations')
    const edited = { ...files, numbered: [{ ...first, checksum: 'other' }, ...rest] }
    await expect(migrate(database.owner, edited, sqlText)).rejects.toThrow(
      `${first.name} was edited after it was applied`,
    )
  })

  /** The migrations with more files, by their names. */
  async function withFiles(files: Record<string, string>) {
    const directory = await mkdtemp(join(tmpdir(), 'turnkeep-sql-'))
    await cp(SQL, directory, { recursive: true })
    for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text)
    const read = await readSqlFiles(directory)
    await rm(directory, { recursive: true })
    return read
  }
  const exists = async (table: string) => {
    const [row] = await database.owner.execute<{ there: boolean }>(
      'select to_regclass(:table) is not null as there',
      { table },
    )
    return row?.there
  }

  test('that lose data are refused before anything is applied, file and statement named', async () => {
    const files = await withFiles({
      '9001_harmless.sql': 'create table if not exists public.early (a int);',
      '9002_cleaning.sql': `select 1;\n\ndrop table if exists public.chat_messages;\n\ntruncate tenants;`,
    })
    const refusal = expect.stringMatching(
      /^Nothing was applied.*9002_cleaning\.sql: drop table if exists public\.chat_messages; 9002_cleaning\.sql: truncate tenants$/,
    )
    await expect(migrate(database.owner, files, sqlText)).rejects.toMatchObject({ message: refusal })
    expect([await exists('public.early'), await exists('public.chat_messages')]).toEqual([false, true])
  })

  test('that lose data and say why are applied', async () => {
    await database.owner.execute('create table public.outworn (a int)')
    const files = await withFiles({
      '9003_outworn.sql':
        '-- loses data: nothing has written to it for a year\ndrop table if exists public.outworn;',
    })
    expect(await migrate(database.owner, files, sqlText)).toContain('9003_outworn.sql')
    expect(await exists('public.outworn')).toBe(false)
  })

  test('of an older version succeed on a newer schema, leave alone what they do not know, and the newer come back', async () => {
    const operation = (answer: number) =>
      `create or replace function turnkeep.has_lapsed_days() returns integer language sql as $$ select ${answer} $$;`
    const older = await withFiles({ 'operations/zz_known.sql': operation(1) })
    const newer = await withFiles({
      '9004_newer.sql': 'create table if not exists public.newer (a int);',
      'operations/zz_known.sql': operation(2),
      'operations/zz_new.sql':
        'create or replace function turnkeep.is_newer() returns boolean language sql as $$ select true $$;',
    })
    const days = async () =>
      (await database.owner.execute<{ n: number }>('select turnkeep.has_lapsed_days() as n'))[0]?.n
    await migrate(database.owner, older, sqlText)
    await migrate(database.owner, newer, sqlText)
    await database.owner.execute('insert into public.newer values (1)')
    expect(await days()).toBe(2)

    expect(await migrate(database.owner, older, sqlText)).not.toContain('9004_newer.sql')
    expect(await days()).toBe(1)
    expect(
      await database.app.execute('select turnkeep.is_newer() as newer, current_user::text as me'),
    ).toEqual([{ newer: true, me: 'turnkeep_app_1' }])
    expect(await database.owner.execute('select a from public.newer')).toEqual([{ a: 1 }])
    expect(await migrate(database.owner, older, sqlText)).toEqual([])

    expect(await migrate(database.owner, newer, sqlText)).toContain('operations/zz_known.sql')
    expect(await days()).toBe(2)
    for (const statement of [
      'drop table public.newer',
      'drop function turnkeep.has_lapsed_days(), turnkeep.is_newer()',
    ])
      await database.owner.execute(statement)
  })

  test('that are not there, or not all, are refused', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'turnkeep-sql-'))
    const refused = () => expect(readSqlFiles(directory)).rejects
    await refused().toThrow(`The SQL files of ${directory} cannot be read: ENOENT`)
    await mkdir(join(directory, 'operations'))
    await refused().toThrow('it holds no migrations')
    await writeFile(join(directory, '0001_first.sql'), 'select 1')
    await writeFile(join(directory, 'operations/one.sql'), 'select 1')
    await refused().toThrow('grants.sql')
    await rm(directory, { recursive: true })
  })

  test('leave the role of the functions without a table, a superpower or a way around row-level security', async () => {
    const [role] = await database.owner.execute<Record<string, boolean>>(
      `select rolsuper, rolbypassrls, rolcreaterole, rolcreatedb,
        exists (select from pg_class where relowner = r.oid) as owns from pg_roles r where rolname = 'turnkeep_app'`,
    )
    expect(role).toEqual({
      rolsuper: false,
      rolbypassrls: false,
      rolcreaterole: false,
      rolcreatedb: false,
      owns: false,
    })
    for (const statement of [
      'alter table chat_messages disable row level security',
      'drop policy tenant on chat_messages',
      'delete from tenants',
      'truncate chat_messages',
      'create table public.mine (id int)',
      'select * from turnkeep.migrations',
    ])
      await expect(database.app.execute(statement), statement).rejects.toMatchObject({ sqlState: '42501' })
  })

  test('begin every index with the tenant, but for the one that keeps session ids apart', async () => {
    const indexes = await database.owner.execute<{ name: string; columns: string }>(
      `select c.relname as name, string_agg(a.attname, ',' order by k.place) as columns
       from pg_index i join pg_class c on c.oid = i.indexrelid join pg_class t on t.oid = i.indrelid
       join pg_namespace n on n.oid = t.relnamespace and n.nspname = 'public'
       cross join lateral unnest(i.indkey::int[]) with ordinality k (attnum, place)
       join pg_attribute a on a.attrelid = t.oid and a.attnum = k.attnum
       where t.relkind = 'r' group by 1 order by 1`,
    )
    expect(
      indexes.filter(({ columns }) => !columns.startsWith('company_id,platform')).map(({ name }) => name),
    ).toEqual(['chat_sessions_id'])
    expect(indexes.length).toBeGreaterThan(10)
  })
})
