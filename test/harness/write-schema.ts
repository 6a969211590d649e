/** `npm run schema`: writes sql/schema.sql from the migrations. */
import { writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { migrate, readSqlFiles } from '../../lambdas/migrations/migrate.ts'
import * as sqlText from '../../lambdas/services/sql-text.ts'
import { startPostgres } from '../../local/cloud/postgres.ts'
import { describeSchema } from './schema.ts'

const SQL = resolve(import.meta.dirname, '../../sql')
const postgres = await startPostgres({})
const query = async (sql: string): Promise<Record<string, unknown>[]> => {
  const { fields, rows } = await postgres.query('owner', sql, [])
  return rows.map((row) => Object.fromEntries(row.map((cell, index) => [fields[index]?.name, cell])))
}
// The ledger's own statements have parameters, which only the Data API has names for; they are not part of the schema.
const execute = async <Row>(statement: string, values?: Record<string, string>): Promise<Row[]> =>
  values ? [] : ((await query(statement)) as Row[])
await migrate({ execute }, await readSqlFiles(SQL), sqlText)
await writeFile(resolve(SQL, 'schema.sql'), await describeSchema(query))
await postgres.close()
