/** Databases that are migrated already: each is made once in a run of tests, and copied. */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { vector } from '@electric-sql/pglite-pgvector'
import { migrate, readSqlFiles } from '../../lambdas/migrations/migrate.ts'
import * as sqlText from '../../lambdas/services/sql-text.ts'
import { bindParameters } from '../../local/cloud/data-api-parameters.ts'
import { type Postgres, type PostgresOptions, startPostgres } from '../../local/cloud/postgres.ts'
import { madeOnce } from './made-once.ts'
import { createDatabase, dropDatabase } from './postgres-server.ts'
import { runDirectory } from './run.ts'

export const SQL = resolve(import.meta.dirname, '../../sql')
const ON_SERVER = 'migrated-on-server-'

/** A database on that server, for `createDatabase` to copy; undefined outside of a run. Nobody else may connect to it. */
export async function migratedTemplate(serverUrl: string): Promise<string | undefined> {
  const directory = runDirectory()
  if (directory === undefined) return undefined
  const file = await madeOnce(directory, `${ON_SERVER}${await version()}`, async (unfinished) => {
    const url = await createDatabase(serverUrl, 'migrated', { keep: true })
    await migrated({ databaseUrl: url })
    await writeFile(unfinished, new URL(url).pathname.slice(1))
  })
  return readFile(file, 'utf8')
}

/** On a server that outlives the run. */
export async function dropMigratedTemplates(serverUrl: string): Promise<void> {
  const directory = runDirectory() ?? ''
  for (const file of readdirSync(directory).filter((name) => name.startsWith(ON_SERVER)))
    await dropDatabase(serverUrl, readFileSync(join(directory, file), 'utf8'))
}

/** For an embedded Postgres in memory to begin with: a file; undefined outside of a run. */
export async function migratedDump(): Promise<string | undefined> {
  const made = await migratedFiles()
  return made && join(made, DUMP)
}

/** Into the data directory of an `npm start` that is to come: its own making and migrating takes seconds. */
export async function copyMigrated(dataDir: string): Promise<void> {
  const made = await migratedFiles()
  if (made) await cp(join(made, FILES), join(dataDir, 'postgres'), { recursive: true })
}

const FILES = 'files'
const DUMP = 'dump.tar'

async function migratedFiles(): Promise<string | undefined> {
  const directory = runDirectory()
  if (directory === undefined) return undefined
  return madeOnce(directory, `migrated-files-${await version()}`, async (unfinished) => {
    const dataDir = join(unfinished, FILES)
    await migrated({ dataDir })
    const database = await PGlite.create({ dataDir, extensions: { vector } })
    await writeFile(join(unfinished, DUMP), (await database.dumpDataDir('none')).stream())
    await database.close()
  })
}

/** Whoever edits SQL while vitest watches is given the edited one. */
async function version(): Promise<string> {
  const { numbered, repeatable } = await readSqlFiles(SQL)
  const hash = createHash('sha256')
  for (const { name, checksum } of [...numbered, ...repeatable]) hash.update(`${name} ${checksum}\n`)
  return hash.digest('hex').slice(0, 16)
}

async function migrated(options: PostgresOptions): Promise<void> {
  const postgres = await startPostgres(options)
  try {
    await migrate({ execute: executeOn(postgres) }, await readSqlFiles(SQL), sqlText)
  } finally {
    await postgres.close()
  }
}

/** As through the Data API, which would have to be started. */
const executeOn =
  (postgres: Postgres) =>
  async <Row>(statement: string, values: Record<string, string> = {}): Promise<Row[]> => {
    const parameters = Object.entries(values).map(([name, stringValue]) => ({ name, value: { stringValue } }))
    const bound = bindParameters(statement, parameters)
    const { fields, rows } = await postgres.query('owner', bound.text, bound.values)
    return rows.map((row) => Object.fromEntries(row.map((cell, index) => [fields[index]?.name, cell])) as Row)
  }
