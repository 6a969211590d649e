/** Saving: from queue bodies to rows, in as few statements as the Data API allows. */
import * as v from 'valibot'
import { type MessageRecord, messageRecordSchema } from '../protocol.ts'
import type { Database, RefusedStatement } from '../services/database.ts'

/**
 * A request of the Data API holds 4 MiB, and a JSON document inside a JSON request has its quotes escaped once more;
 * half leaves room for that. Measured on the document as it is sent.
 */
const MAX_STATEMENT_BYTES = 3_500_000

export interface QueueItem {
  id: string
  body: string
}

interface Parsed {
  id: string
  records: MessageRecord[]
  bytes: number
}

const bodySchema = v.pipe(v.array(messageRecordSchema), v.minLength(1))

function parse(item: QueueItem): Parsed | undefined {
  try {
    const records = v.parse(bodySchema, JSON.parse(item.body))
    return { id: item.id, records, bytes: Buffer.byteLength(JSON.stringify(JSON.stringify(records))) }
  } catch {
    return undefined
  }
}

/** Consecutive items that fit into one statement together. */
function inStatements(items: readonly Parsed[]): Parsed[][] {
  const statements: Parsed[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const item of items) {
    if (bytes + item.bytes > MAX_STATEMENT_BYTES) {
      statements.push([])
      bytes = 0
    }
    statements.at(-1)?.push(item)
    bytes += item.bytes
  }
  return statements
}

/**
 * Saves every item and returns the ids of those that could not be saved for what they are: unreadable, or refused by
 * Postgres. They fail alone. Throws when Postgres cannot be reached or is not as it should be: nothing is known to
 * be bad then. Saving an item again changes nothing.
 */
export async function saveItems(database: Database, items: readonly QueueItem[]): Promise<string[]> {
  const refused: string[] = []
  const readable: Parsed[] = []
  for (const item of items) {
    const parsed = parse(item)
    if (parsed) readable.push(parsed)
    else refused.push(item.id)
  }
  for (const statement of inStatements(readable)) refused.push(...(await saveStatement(database, statement)))
  return refused
}

/** SQLSTATE 22 (a value) and 23 (a constraint) are the record's own fault; all else is the environment's. */
const isAboutTheData = (error: unknown): boolean =>
  /^2[23]/.test((error as Partial<RefusedStatement>).sqlState ?? '')

/** Halves a statement that Postgres refuses until what it refuses stands alone. */
async function saveStatement(database: Database, items: readonly Parsed[]): Promise<string[]> {
  try {
    await database.call('save_messages', [{ jsonb: items.flatMap(({ records }) => records) }])
    return []
  } catch (error) {
    if (!isAboutTheData(error)) throw error
    if (items.length === 1) return items.map(({ id }) => id)
    const middle = Math.ceil(items.length / 2)
    return [
      ...(await saveStatement(database, items.slice(0, middle))),
      ...(await saveStatement(database, items.slice(middle))),
    ]
  }
}
