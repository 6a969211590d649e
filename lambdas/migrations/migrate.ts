/** Brings a database to the schema of this version: the same run at a local start and at every deployment. */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Database } from '../services/database.ts'

interface SqlFile {
  /** Path below the SQL directory. */
  name: string
  text: string
  checksum: string
}

export interface SqlFiles {
  /** Forward only, each applied once, in order of their numbers. */
  numbered: SqlFile[]
  /** The operations and their grants: replaced as a whole whenever one of them has changed. */
  repeatable: SqlFile[]
}

async function readSqlFile(directory: string, name: string): Promise<SqlFile> {
  const text = await readFile(join(directory, name), 'utf8')
  return { name, text, checksum: createHash('sha256').update(text).digest('hex') }
}

export async function readSqlFiles(directory: string): Promise<SqlFiles> {
  const numbered = (await readdir(directory)).filter((name) => /^\d{4}_\w+\.sql$/.test(name)).sort()
  const operations = (await readdir(join(directory, 'operations')))
    .filter((name) => name.endsWith('.sql'))
    .sort()
  return {
    numbered: await Promise.all(numbered.map((name) => readSqlFile(directory, name))),
    repeatable: await Promise.all(
      [...operations.map((name) => join('operations', name)), 'grants.sql'].map((name) =>
        readSqlFile(directory, name),
      ),
    ),
  }
}

const CREATE_LEDGER = [
  'create schema if not exists turnkeep',
  `create table if not exists turnkeep.migrations (
    name text primary key, checksum text not null, applied_at timestamptz not null default now()
  )`,
]

/**
 * Applies what has not been applied, one statement a call. Each statement may be repeated, so a run that is cut short
 * or that meets another one is simply run again. Returns the names of the files it applied. Refuses when a numbered
 * file that was applied has been edited since: what stands in databases cannot be changed by editing history.
 */
export async function migrate(
  database: Pick<Database, 'execute'>,
  files: SqlFiles,
  splitStatements: (sql: string) => string[],
): Promise<string[]> {
  for (const statement of CREATE_LEDGER) await database.execute(statement)
  const rows = await database.execute<{ name: string; checksum: string }>(
    'select name, checksum from turnkeep.migrations',
  )
  const applied = new Map(rows.map(({ name, checksum }) => [name, checksum]))

  const edited = files.numbered.find(({ name, checksum }) => (applied.get(name) ?? checksum) !== checksum)
  if (edited)
    throw new Error(`${edited.name} was edited after it was applied; add a new numbered file instead`)

  const pending = files.numbered.filter(({ name }) => !applied.has(name))
  if (files.repeatable.some(({ name, checksum }) => applied.get(name) !== checksum) || pending.length > 0)
    pending.push(...files.repeatable)
  for (const file of pending) {
    for (const statement of splitStatements(file.text)) await database.execute(statement)
    await database.execute(
      `insert into turnkeep.migrations (name, checksum) values (:name, :checksum)
       on conflict (name) do update set checksum = excluded.checksum, applied_at = now()`,
      { name: file.name, checksum: file.checksum },
    )
  }
  return pending.map(({ name }) => name)
}
