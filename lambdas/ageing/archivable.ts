/** What is to leave, as Postgres gives it out, and the segments that are made of it. */
import { isDeepStrictEqual } from 'node:util'
import { v7 as uuidv7 } from 'uuid'
import type { Tenant } from '../protocol/callers.ts'
import type { Bucket } from '../services/bucket.ts'
import type { Database } from '../services/database.ts'
import { inOrder } from './in-order.ts'
import { pseudonymOf } from './pseudonym.ts'

/** What acts where a tenant has set nothing. */
export interface ArchiveDefaults {
  archiveAfterDays: number
  archiveAboveMessages: number
}

/** Messages of one session: where the first and the last stand, and a hash of their versions. */
export interface Run {
  messages: number
  first_sequence: number
  first_id: string
  last_sequence: number
  last_id: string
  /** 64 bits, as a number. That of several runs is put together by exclusive or. */
  versions: string
}

/** Of one session, 250 messages at most, as list_archivable (sql/operations/archivable.sql) returns it. */
interface Span {
  session_id: string
  user_id: string
  /** Of the session, where all of it is to leave; null: only a part is. */
  last_active_at: string | null
  /** Which part, in the words of Postgres. */
  due: unknown
  from_sequence: number
  from_id: string
  to_sequence: number
  to_id: string
  messages: number
}

/** As archivable_lines returns it. */
interface Lines extends Run {
  kind: 'lines' | 'large' | 'unfit' | 'place'
  span: number
  /** JSON in base64: for `lines` one a line, for `unfit` the message and why. For `place` null. */
  body: string
}

/** With what it may go beyond it, less than a response of the Data API holds, which is in memory a few times over. */
const RESPONSE_BYTES = 500_000
/** Of a message, until it is known how long those of this tenant are. Most are shorter. */
const LIKELY_BYTES = 4_000
/** Looked at in one call, which takes some microseconds each. */
const SESSIONS_IN_CALL = 5_000
/** While one is taken in, Postgres makes the next. */
const CALLS_AT_ONCE = 2

async function* spansOf(
  database: Database,
  tenant: Tenant,
  { archiveAfterDays, archiveAboveMessages }: ArchiveDefaults,
): AsyncGenerator<Span, void> {
  const readPage = (place?: object) => {
    const request = {
      after_days: archiveAfterDays,
      above_messages: archiveAboveMessages,
      sessions: SESSIONS_IN_CALL,
      bytes: RESPONSE_BYTES,
      place,
    }
    return database.callFor<{ kind: 'span' | 'place'; body: string }>(tenant, 'list_archivable', [
      { jsonb: request },
    ])
  }
  let page = await readPage()
  for (;;) {
    const last = page.at(-1)
    const next = last?.kind === 'place' ? readPage(JSON.parse(last.body)) : undefined
    next?.catch(() => undefined) // It is told when it is awaited.
    for (const { kind, body } of page) if (kind === 'span') yield JSON.parse(body)
    if (next === undefined) return
    page = await next
  }
}

interface Seen {
  messages: number
  /** As base64. */
  bytes: number
}

/** How many of these spans, one at least, a response is likely to hold. */
function fitting(spans: readonly Span[], { bytes, messages }: Seen): number {
  let left = (RESPONSE_BYTES * messages) / bytes
  const first = spans.findIndex((span) => {
    left -= span.messages
    return left < 0
  })
  return first === -1 ? spans.length : Math.max(1, first)
}

async function* inResponses(spans: AsyncIterable<Span>, seen: Seen): AsyncGenerator<Span[], void> {
  const some: Span[] = []
  for await (const span of spans) {
    some.push(span)
    const count = fitting(some, seen)
    if (count < some.length) yield some.splice(0, count)
  }
  if (some.length > 0) yield some
}

/** Rows of spans, each with its span. */
type Row = Lines & { of: Span }

async function readSpans(database: Database, tenant: Tenant, spans: Span[], seen: Seen): Promise<Row[]> {
  const read: Row[] = []
  // Where they are longer than others were, less fits, and what is left is asked for once more.
  for (let left = spans; left.length > 0; ) {
    const asked = left.slice(0, fitting(left, seen))
    const rows = await database.callFor<Lines>(tenant, 'archivable_lines', [
      { jsonb: asked.map(({ user_id, last_active_at, messages, ...span }) => span) },
      { integer: RESPONSE_BYTES },
    ])
    for (const row of rows) {
      if (row.kind === 'place') continue
      read.push({ ...row, of: left[row.span - 1] as Span })
      seen.messages += row.messages
      seen.bytes += row.body.length
    }
    const last = rows.at(-1)
    if (last?.kind !== 'place') left = left.slice(asked.length)
    else {
      const [begun, ...others] = left.slice(last.span - 1)
      left = [{ ...(begun as Span), from_sequence: last.last_sequence, from_id: last.last_id }, ...others]
    }
  }
  return read
}

/** What is to leave, a little ahead of whoever takes it. */
export async function* readArchivable(
  database: Database,
  tenant: Tenant,
  defaults: ArchiveDefaults,
): AsyncGenerator<Row, void> {
  const seen = { messages: 1, bytes: LIKELY_BYTES }
  const spans = inResponses(spansOf(database, tenant, defaults), seen)
  const read = (some: Span[]) => readSpans(database, tenant, some, seen)
  for await (const rows of inOrder(spans, CALLS_AT_ONCE, read)) yield* rows
}

/** All messages of one session that are to leave, from the first to the last, as lines. */
export interface Segment extends Run {
  id: string
  session_id: string
  /** Of the session when it was read, where all of it is to leave; null: only a part is. */
  last_active_at: string | null
  /** Which part, in the words of Postgres. */
  due: unknown
  text: Buffer
}

/** A segment is what a reader has to fetch for one message of it. */
const MAX_SEGMENT_BYTES = 1_000_000
/** It leaves in one transaction, for which who writes in its session waits: some milliseconds. */
const MAX_SEGMENT_MESSAGES = 250

interface Open {
  span: Span
  user: string
  run: Run | undefined
  lines: Buffer[]
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
    if (open === undefined || !isSame(open.span, row.of)) {
      if (open?.run !== undefined) yield closed(open, open.run)
      open = { span: row.of, user: pseudonymOf(services.pseudonymKey, tenant, row.of.user_id), ...empty() }
    }
    const lines = await linesOf(services, row, open)
    const isFull =
      open.run !== undefined &&
      (open.run.messages + row.messages > MAX_SEGMENT_MESSAGES ||
        open.bytes + (lines?.length ?? 0) > MAX_SEGMENT_BYTES)
    // Where one cannot leave the segment ends: all that is due between its first and its last message leaves with it.
    if ((isFull || lines === undefined) && open.run !== undefined) {
      yield closed(open, open.run)
      open = { ...open, ...empty() }
    }
    if (lines === undefined) continue
    open.run = joined(open.run, row)
    open.lines.push(lines)
    open.bytes += lines.length
  }
  if (open?.run !== undefined) yield closed(open, open.run)
}

/** A session in use may have other messages to leave when it is looked at once more. */
const isSame = (one: Span, other: Span): boolean =>
  one === other ||
  (one.session_id === other.session_id &&
    one.last_active_at === other.last_active_at &&
    isDeepStrictEqual(one.due, other.due))

const empty = () => ({ run: undefined, lines: [], bytes: 0 })

const joined = (run: Run | undefined, next: Run): Run => ({
  messages: next.messages + (run?.messages ?? 0),
  first_sequence: (run ?? next).first_sequence,
  first_id: (run ?? next).first_id,
  last_sequence: next.last_sequence,
  last_id: next.last_id,
  versions: run === undefined ? next.versions : String(BigInt(run.versions) ^ BigInt(next.versions)),
})

const closed = ({ span: { session_id, last_active_at, due }, lines }: Open, run: Run): Segment => ({
  id: uuidv7(),
  session_id,
  last_active_at,
  due,
  ...run,
  text: lines.length === 1 ? (lines[0] as Buffer) : Buffer.concat(lines),
})

/**
 * Undefined: it stays. Each row's JSON goes in as Postgres wrote it: parsed and written again, its larger numbers would be
 * others.
 */
async function linesOf(
  { bucket, onUnfit }: SegmentServices,
  { kind, body }: Row,
  { span: { session_id }, user }: Open,
): Promise<Buffer | undefined> {
  const end = `,"user":${JSON.stringify(user)}}\n`
  // A byte a character: that is fast. In JSON no line feed stands within a string.
  if (kind === 'lines') return Buffer.from(atob(body).split('}\n').join(end), 'latin1')
  if (kind === 'unfit') {
    const { message_id, why } = JSON.parse(Buffer.from(body, 'base64').toString())
    onUnfit(session_id, message_id, why)
    return undefined
  }
  const row = Buffer.from(body, 'base64').toString()
  const { id, content_key } = JSON.parse(row)
  const text = await bucket.get(content_key)
  if (text === undefined) {
    onUnfit(session_id, id, 'its text is gone')
    return undefined
  }
  return Buffer.from(`{"content":${JSON.stringify(text)},${row.slice(1, -1)}${end}`)
}
