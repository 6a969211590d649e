/** What the archive is compared with: the same rows leave Postgres and come back, and nothing else is done with them. */
import type pg from 'pg'
import { startTestDatabase } from '../../test/harness/database.ts'
import { connect } from '../connect.ts'
import { MESSAGES_PER_SESSION, seed } from './seed.ts'

/** Of one statement: 1,000 messages, of whose cells an insert can still have a parameter each. */
const SESSIONS_AT_ONCE = 1_000 / MESSAGES_PER_SESSION
const COMPANY = 'bench'

export interface Bare {
  /** `delete … returning *`. */
  deletedPerSecond: number
  /** `insert … values (…), (…)`. */
  insertedPerSecond: number
}

interface Batch {
  columns: string[]
  rows: (string | null)[][]
}

/** In a database of its own, on one connection, a commit for each batch. */
export async function measureBare(serverUrl: string, messages: number): Promise<Bare> {
  const server = { url: serverUrl, close: async () => undefined }
  const database = await startTestDatabase('real', 'bench_bare', { server })
  const client = await connect(database.url, COMPANY)
  try {
    await seed(database.url, COMPANY, messages)
    const { rows } = await client.query<{ id: string }>('select id from public.chat_sessions order by id')
    const sessions = rows.map(({ id }) => id)
    const batches: Batch[] = []
    const deleting = await secondsOf(async () => {
      for (let from = 0; from < sessions.length; from += SESSIONS_AT_ONCE)
        batches.push(await takeOut(client, sessions.slice(from, from + SESSIONS_AT_ONCE)))
    })
    const inserting = await secondsOf(async () => {
      for (const batch of batches) await putBack(client, batch)
    })
    const moved = batches.reduce((sum, batch) => sum + batch.rows.length, 0)
    if (moved !== messages) throw new Error(`${moved} of ${messages} were moved`)
    return {
      deletedPerSecond: Math.round(messages / deleting),
      insertedPerSecond: Math.round(messages / inserting),
    }
  } finally {
    await client.end()
    await database.close()
  }
}

async function secondsOf(work: () => Promise<void>): Promise<number> {
  const startedAt = performance.now()
  await work()
  return (performance.now() - startedAt) / 1_000
}

/** Cells stay the texts that Postgres sends. */
async function takeOut(client: pg.Client, sessions: readonly string[]): Promise<Batch> {
  const { fields, rows } = await client.query<(string | null)[]>({
    name: 'take out',
    text: `delete from public.chat_messages where company_id = $1 and platform = 'web' and session_id = any ($2) returning *`,
    values: [COMPANY, sessions],
    rowMode: 'array',
    types: { getTypeParser: () => (text: string) => text },
  })
  return { columns: fields.map(({ name }) => name), rows }
}

async function putBack(client: pg.Client, { columns, rows }: Batch): Promise<void> {
  const row = (_: unknown, at: number) =>
    `(${columns.map((_column, column) => `$${at * columns.length + column + 1}`).join()})`
  await client.query({
    name: `put back ${rows.length}`,
    text: `insert into public.chat_messages (${columns.join()}) values ${rows.map(row).join()}`,
    values: rows.flat(),
  })
}
