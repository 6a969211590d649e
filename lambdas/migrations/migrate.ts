/** Brings a database to the schema of this version: the same run at a local start and at every deployment. */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Database } from '../services/database.ts'
import { type SqlText, unexplainedLosses } from './loses-data.ts'

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

/** Refuses a directory that cannot be read as a whole: a deployment without its files must not pass for a migrated one. */
export async function readSqlFiles(directory: string): Promise<SqlFiles> {
  try {
    const numbered = (await readdir(directory)).filter((name) => /^\d{4}_\w+\.sql$/.test(name)).sort()
    const operations = (await readdir(join(directory, 'operations')))
      .filter((name) => name.endsWith('.sql'))
      .sort()
    if (numbered.length === 0 || operations.length === 0) throw new Error('it holds no migrations')
    const read = (names: string[]) => Promise.all(names.map((name) => readSqlFile(directory, name)))
    return {
      numbered: await read(numbered),
      repeatable: await read([...operations.map((name) => join('operations', name)), 'grants.sql']),
    }
  } catch (cause) {
    throw new Error(`The SQL files of ${directory} cannot be read: ${(cause as Error).message}`, { cause })
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
 * or that meets another one is simply run again. Returns the names of the files it applied.
 *
 * Refuses, before it applies anything: a numbered file that was edited after it was applied, since what stands in
 * databases cannot be changed by editing history; and one that loses data without saying why (loses-data.ts).
 *
 * Older files on a newer database are applied as well: that is a deployment that is rolled back. What they do not know
 * stays as it is; the operations that they know are theirs again, until the newer files come back.
 */
export async function migrate(
  database: Pick<Database, 'execute'>,
  files: SqlFiles,
  sql: SqlText,
): Promise<string[]> {
  for (const statement of CREATE_LEDGER) await database.execute(statement)
  const rows = await database.execute<{ name: string; checksum: string }>(
    'select name, checksum from turnkeep.migrations',
  )
  const pending = pendingOf(files, new Map(rows.map(({ name, checksum }) => [name, checksum])))
  const losses = pending.flatMap(({ name, text }) =>
    unexplainedLosses(text, sql).map((statement) => `${name}: ${statement}`),
  )
  if (losses.length > 0)
    throw new Error(
      `Nothing was applied, because data would be lost. Where that is meant, say so in a comment directly ` +
        `above the statement, "-- loses data: <reason>". ${losses.join('; ')}`,
    )
  for (const { name, text, checksum } of pending) {
    for (const statement of sql.splitStatements(text)) await database.execute(statement)
    await database.execute(
      `insert into turnkeep.migrations (name, checksum) values (:name, :checksum)
       on conflict (name) do update set checksum = excluded.checksum, applied_at = now()`,
      { name, checksum },
    )
  }
  return pending.map(({ name }) => name)
}

function pendingOf({ numbered, repeatable }: SqlFiles, applied: Map<string, string>): SqlFile[] {
  const edited = numbered.find(({ name, checksum }) => (applied.get(name) ?? checksum) !== checksum)
  if (edited)
    throw new Error(`${edited.name} was edited after it was applied; add a new numbered file instead`)
  const pending = numbered.filter(({ name }) => !applied.has(name))
  const isCurrent = repeatable.every(({ name, checksum }) => applied.get(name) === checksum)
  return pending.length > 0 || !isCurrent ? [...pending, ...repeatable] : []
}
