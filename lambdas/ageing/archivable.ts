/** What is to leave, as Postgres gives it out, and the segments that are made of it. */
import { v7 as uuidv7 } from 'uuid'
import type { Tenant } from '../protocol.ts'
import type { Bucket } from '../services/bucket.ts'
import type { Database } from '../services/database.ts'
import { pseudonymOf } from './pseudonym.ts'

/** What acts where a tenant has set nothing. */
export interface ArchiveDefaults {
  archiveAfterDays: number
  archiveAboveMessages: number
}

/** Messages of one session, as archivable_lines (sql/operations/archive.sql) returns them. */
interface Row {
  kind: 'lines' | 'large' | 'unfit'
  /** JSON. The next page of the same session names it again, in the same words. */
  session: string
  messages: number
  first_sequence: number
  last_sequence: number
  ids: string
  versions: string
  /** JSON in base64: for `lines` one a line, for `unfit` the message and why. */
  body: string
}

type Place = Pick<Row, 'body'> & { kind: 'place' }

const parsed = (body: string) => JSON.parse(Buffer.from(body, 'base64').toString())

/** With what it may go beyond it, less than a response of the Data API holds, which is in memory a few times over. */
const RESPONSE_BYTES = 800_000
/** Looked at in one call, which takes some microseconds each. */
const SESSIONS_IN_CALL = 5_000

/** Page after page, one call ahead of whoever takes them. */
export async function* readArchivable(
  database: Database,
  tenant: Tenant,
  { archiveAfterDays, archiveAboveMessages }: ArchiveDefaults,
): AsyncGenerator<Row, void> {
  const readPage = (place?: object) => {
    const request = {
      after_days: archiveAfterDays,
      above_messages: archiveAboveMessages,
      sessions: SESSIONS_IN_CALL,
      bytes: RESPONSE_BYTES,
      place,
    }
    return database.callFor<Row | Place>(tenant, 'archivable_lines', [{ jsonb: request }])
  }
  let page = await readPage()
  for (;;) {
    const last = page.at(-1)
    const next = last?.kind === 'place' ? readPage(parsed(last.body)) : undefined
    next?.catch(() => undefined) // It is told when it is awaited.
    for (const row of page) if (row.kind !== 'place') yield row
    if (next === undefined) return
    page = await next
  }
}

/** Messages of one session, as lines. */
export interface Segment {
  id: string
  sessionId: string
  /** Of the session when it was read, where all of it is to leave; null: only a part is. */
  lastActiveAt: string | null
  firstSequence: number
  lastSequence: number
  messages: number
  /** Of the messages, and when their rows were changed last, between commas. */
  ids: string
  versions: string
  text: Buffer
}

/** A segment is what a reader has to fetch for one message of it. */
const MAX_SEGMENT_BYTES = 1_000_000
/** It leaves in one transaction, for which who writes in its session waits: some milliseconds. */
const MAX_SEGMENT_MESSAGES = 250

interface Open {
  session: string
  sessionId: string
  lastActiveAt: string | null
  user: string
  rows: Row[]
  lines: Buffer[]
  messages: number
  bytes: number
}

export interface SegmentServices {
  bucket: Pick<Bucket, 'get'>
  /** The secret that users are hashed under. */
  pseudonymKey: string
  /** A row that cannot be archived, by its message's id, and why. It stays in Postgres. */
  onUnfit(sessionId: string, messageId: string, why: string): void
}

export async function* segmentsOf(
  services: SegmentServices,
  tenant: Tenant,
  rows: AsyncIterable<Row>,
): AsyncGenerator<Segment, void> {
  let open: Open | undefined
  for await (const row of rows) {
    if (open?.session !== row.session) {
      if (open !== undefined && open.messages > 0) yield closed(open)
      const { session_id, user_id, last_active_at } = JSON.parse(row.session)
      const user = pseudonymOf(services.pseudonymKey, tenant, user_id)
      open = { ...empty(), session: row.session, sessionId: session_id, lastActiveAt: last_active_at, user }
    }
    const lines = await linesOf(services, row, open)
    if (lines === undefined) continue
    const isFull =
      open.messages + row.messages > MAX_SEGMENT_MESSAGES || open.bytes + lines.length > MAX_SEGMENT_BYTES
    if (isFull && open.messages > 0) {
      yield closed(open)
      open = { ...open, ...empty() }
    }
    open.rows.push(row)
    open.lines.push(lines)
    open.messages += row.messages
    open.bytes += lines.length
  }
  if (open !== undefined && open.messages > 0) yield closed(open)
}

const empty = () => ({ rows: [], lines: [], messages: 0, bytes: 0 })

const closed = ({ sessionId, lastActiveAt, rows, lines, messages }: Open): Segment => ({
  id: uuidv7(),
  sessionId,
  lastActiveAt,
  firstSequence: rows[0]?.first_sequence ?? 0,
  lastSequence: rows.at(-1)?.last_sequence ?? 0,
  messages,
  ids: rows.map(({ ids }) => ids).join(','),
  versions: rows.map(({ versions }) => versions).join(','),
  text: lines.length === 1 ? (lines[0] as Buffer) : Buffer.concat(lines),
})

/** Each row's JSON goes in as Postgres wrote it: parsed and written again, its larger numbers would be others. */
async function linesOf(
  { bucket, onUnfit }: SegmentServices,
  { kind, body }: Row,
  { sessionId, user }: Open,
): Promise<Buffer | undefined> {
  const end = `,"user":${JSON.stringify(user)}}\n`
  // A byte a character: that is fast. In JSON no line feed stands within a string.
  if (kind === 'lines') return Buffer.from(atob(body).split('}\n').join(end), 'latin1')
  if (kind === 'unfit') {
    const { message_id, why } = parsed(body)
    onUnfit(sessionId, message_id, why)
    return undefined
  }
  const row = Buffer.from(body, 'base64').toString()
  const { id, content_key } = JSON.parse(row)
  const text = await bucket.get(content_key)
  if (text === undefined) {
    onUnfit(sessionId, id, 'its text is gone')
    return undefined
  }
  return Buffer.from(`{"content":${JSON.stringify(text)},${row.slice(1, -1)}${end}`)
}
