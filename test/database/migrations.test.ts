import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { migrate, readSqlFiles } from '../../lambdas/migrations/migrate.ts'
import { splitStatements } from '../../lambdas/services/sql-text.ts'
import { onBothEngines, startTestDatabase, type TestDatabase } from '../harness/database.ts'
import { describeSchema } from '../harness/schema.ts'

const SQL = resolve(import.meta.dirname, '../../sql')

onBothEngines('the migrations', (engine) => {
  let database: TestDatabase
  beforeAll(async () => {
    database = await startTestDatabase(engine, 'migrations')
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
      splitStatements(text),
    ).length
    const fresh = await startTestDatabase(engine, 'cut')
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
        await expect(migrate(dying, files, splitStatements)).rejects.toThrow('killed')
        await migrate(fresh.owner, files, splitStatements)
      }
      expect(await describeSchema((sql) => fresh.owner.execute(sql))).toBe(
        await readFile(resolve(SQL, 'schema.sql'), 'utf8'),
      )
    } finally {
      await fresh.close()
    }
  })

  test('refuse a numbered file that was edited after it was applied', async () => {
    const files = await readSqlFiles(SQL)
    const [first, ...rest] = files.numbered
    if (first === undefined) throw new Error('there are no migrations')
    const edited = { ...files, numbered: [{ ...first, checksum: 'other' }, ...rest] }
    await expect(migrate(database.owner, edited, splitStatements)).rejects.toThrow(
      `${first.name} was edited after it was applied`,
    )
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
      'delete from chat_messages',
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
