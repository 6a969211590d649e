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

interface Row {
  kind: 'session' | 'message' | 'large' | 'unfit'
  /** Of a message. */
  sequence_number: number
  /** JSON. */
  body: string
}

/** Half of what a response of the Data API holds: it is in memory some five times while it is parsed, and two of them are. */
const RESPONSE_BYTES = 500_000
/** Looked at in one call, which takes some microseconds each. */
const SESSIONS_IN_CALL = 5_000

/** Rows of archivable_messages (sql/operations/archive.sql), one call ahead of whoever takes them. */
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
    return database.callFor<Row | { kind: 'place'; body: string }>(tenant, 'archivable_messages', [
      { jsonb: request },
    ])
  }
  let page = await readPage()
  for (;;) {
    const last = page.at(-1)
    const next = last?.kind === 'place' ? readPage(JSON.parse(last.body)) : undefined
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
  text: Buffer
}

/** A segment is what a reader has to fetch for one message of it. */
const MAX_SEGMENT_BYTES = 1_000_000
/** It leaves in one transaction, for which who writes in its session waits: some milliseconds. */
const MAX_SEGMENT_MESSAGES = 250

interface Open {
  sessionId: string
  lastActiveAt: string | null
  user: string
  firstSequence: number
  lastSequence: number
  lines: string[]
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
    if (row.kind === 'unfit') {
      const { session_id, message_id, why } = JSON.parse(row.body)
      services.onUnfit(session_id, message_id, why)
    } else if (row.kind === 'session') {
      const { session_id, user_id, last_active_at } = JSON.parse(row.body)
      // The next page of the same session names it again.
      if (open?.sessionId === session_id && open?.lastActiveAt === last_active_at) continue
      if (open !== undefined && open.lines.length > 0) yield closed(open)
      const user = pseudonymOf(services.pseudonymKey, tenant, user_id)
      open = { ...EMPTY, sessionId: session_id, lastActiveAt: last_active_at, user, lines: [] }
    } else if (open !== undefined) {
      const line = await lineOf(services, row, open.user)
      if (line === undefined) continue
      const bytes = Buffer.byteLength(line)
      const isFull =
        open.lines.length >= MAX_SEGMENT_MESSAGES ||
        (open.lines.length > 0 && open.bytes + bytes > MAX_SEGMENT_BYTES)
      if (isFull) {
        yield closed(open)
        open = { ...open, ...EMPTY, lines: [] }
      }
      if (open.lines.length === 0) open.firstSequence = row.sequence_number
      open.lastSequence = row.sequence_number
      open.bytes += bytes
      open.lines.push(line)
    }
  }
  if (open !== undefined && open.lines.length > 0) yield closed(open)
}

const EMPTY = { firstSequence: 0, lastSequence: 0, bytes: 0 }

const closed = ({ sessionId, lastActiveAt, firstSequence, lastSequence, lines }: Open): Segment => ({
  id: uuidv7(),
  sessionId,
  lastActiveAt,
  firstSequence,
  lastSequence,
  messages: lines.length,
  text: Buffer.from(lines.join('')),
})

/** The row's own JSON goes in as Postgres wrote it: parsed and written again, its larger numbers would be others. */
async function lineOf(
  { bucket, onUnfit }: SegmentServices,
  { kind, body }: Row,
  user: string,
): Promise<string | undefined> {
  const end = `,"user":${JSON.stringify(user)}}\n`
  if (kind === 'message') return body.slice(0, -1) + end
  const { id, session_id, content_key } = JSON.parse(body)
  const text = await bucket.get(content_key)
  if (text === undefined) {
    onUnfit(session_id, id, 'its text is gone')
    return undefined
  }
  return `{"content":${JSON.stringify(text)},${body.slice(1, -1)}${end}`
}
