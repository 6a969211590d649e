/** Saving: from message records to rows, in as few statements as the Data API allows. */
import type { MessageRecord } from '../protocol/queue.ts'
import type { Database, RefusedStatement } from '../services/database.ts'

/**
 * A request of the Data API holds 4 MiB, and a JSON document inside a JSON request has its quotes and backslashes escaped once
 * more, which doubles it at most. To know by how much, each document would have to be written twice.
 */
const MAX_STATEMENT_BYTES = 2_000_000

/** Records that are saved or refused together: what one queue message held. */
export interface SaveItem {
  id: string
  records: readonly MessageRecord[]
}

/** Why an item can never be saved: the SQLSTATE. */
export interface RefusedItem {
  id: string
  reason: string
}

/** A record that was not saved, because its user or its session was erased. */
export interface ErasedRecord {
  company_id: string
  platform: string
  id: string
  session_id: string
  thread_id: string
}

type OnErased = (erased: readonly ErasedRecord[]) => void

/** With its records as JSON, without the brackets around them. */
interface WrittenItem {
  id: string
  json: string
}

/** Consecutive items that fit into one statement together. */
function inStatements(items: readonly SaveItem[]): WrittenItem[][] {
  const statements: WrittenItem[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const { id, records } of items) {
    if (records.length === 0) continue
    const json = JSON.stringify(records).slice(1, -1)
    const size = Buffer.byteLength(json)
    if (bytes + size > MAX_STATEMENT_BYTES) {
      statements.push([])
      bytes = 0
    }
    statements.at(-1)?.push({ id, json })
    bytes += size
  }
  return statements
}

/**
 * Saves every item and returns those that Postgres refuses for what they are; they fail alone. Throws when Postgres
 * cannot be reached or is not as it should be: nothing is known to be bad then. Saving an item again changes nothing. What was
 * erased is passed over; `onErased` is told.
 */
export async function saveItems(
  database: Database,
  items: readonly SaveItem[],
  onErased: OnErased = () => undefined,
): Promise<RefusedItem[]> {
  const refused: RefusedItem[] = []
  for (const statement of inStatements(items))
    refused.push(...(await saveStatement(database, statement, onErased)))
  return refused
}

/** SQLSTATE 22 (a value) and 23 (a constraint) are the record's own fault; all else is the environment's. */
export function faultOfTheData(error: unknown): string | undefined {
  const { sqlState = '' } = error as Partial<RefusedStatement>
  return /^2[23]/.test(sqlState) ? sqlState : undefined
}

/**
 * A unique key that is taken. `on conflict` looks at one index, and sessions have two: who makes a session at the same
 * instant as somebody else may be refused, and finds it there the next time.
 */
const TAKEN = '23505'

/** Halves a statement that Postgres refuses until what it refuses stands alone. */
async function saveStatement(
  database: Database,
  items: readonly WrittenItem[],
  onErased: OnErased,
  isAgain = false,
): Promise<RefusedItem[]> {
  try {
    onErased(
      await database.call<ErasedRecord>('save_records', [
        { jsonb: `[${items.map(({ json }) => json).join(',')}]` },
      ]),
    )
    return []
  } catch (error) {
    const reason = faultOfTheData(error)
    if (reason === undefined) throw error
    if (reason === TAKEN && !isAgain) return saveStatement(database, items, onErased, true)
    if (items.length === 1) return items.map(({ id }) => ({ id, reason }))
    const middle = Math.ceil(items.length / 2)
    return [
      ...(await saveStatement(database, items.slice(0, middle), onErased)),
      ...(await saveStatement(database, items.slice(middle), onErased)),
    ]
  }
}

/**
 * Saves records before the queue delivers them. What is refused for itself is left to the queue, which buries it.
 */
export const saveEarly =
  (database: Database) =>
  async (records: readonly MessageRecord[]): Promise<void> => {
    await saveItems(
      database,
      records.map((record) => ({ id: record.id, records: [record] })),
    )
  }
