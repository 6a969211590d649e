/** Messages of a session in order, wherever they stand by now: in their table, with their turns, in the archive. */
import { type Copy, newestOf, readCopies, SEGMENTS_IN_CALL, segmentsOf } from '../ageing/copies.ts'
import { messageOf } from '../ageing/segments.ts'
import type { Caller, Tenant } from '../protocol/callers.ts'
import { CodedError } from '../protocol/errors.ts'
import type { MessageListQuery } from '../protocol/messages.ts'
import type { Bucket } from '../services/bucket.ts'
import type { Database } from '../services/database.ts'
import type { ArchivedSegment, StoredMessage } from '../services/hot-store.ts'
import { actorBody } from '../tenants/audit.ts'
import { tenantPath } from '../tenants/tenant-path.ts'
import { readText } from './large-text.ts'

export interface ReadMessage {
  row: StoredMessage
  text: string
}

/**
 * Of one list: each is a range read of some 20 ms and up to 1 MB of text. Where a thread is asked for that was used long
 * ago, or segments have a message each, a page is shorter than its limit rather than slower than a client waits.
 */
const MAX_SEGMENTS_READ = 20

/** The Data API's response holds 1 MiB. */
const RESPONSE_BYTES = 1_000_000
/** Of a segment in it, as base64, without the names of its tenant, which stand in its object's key. */
const SEGMENT_BYTES = 600

/** For the messages of one call: as many segments of the session as one gives may be in its response, too. */
function bytesFor(tenant: Tenant): number {
  const names = tenantPath(tenant).length
  return RESPONSE_BYTES - SEGMENTS_IN_CALL * (SEGMENT_BYTES + Math.ceil((names * 4) / 3))
}

interface Services {
  database: Database
  bucket: Pick<Bucket, 'get' | 'getRange'>
}

type Position = Pick<StoredMessage, 'sequence_number' | 'id'>

/** After which a list goes on: without an id after the whole position, without a sequence at its start. */
interface Place {
  sequence: number | null
  id: string | null
}

/** What a list asks for, in its direction: 1 or -1. */
interface List {
  sessionId: string
  query: MessageListQuery
  direction: 1 | -1
}

const compare = ({ direction }: List, a: Position, b: Position): number =>
  direction * (a.sequence_number - b.sequence_number || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0))

function isAfter(list: List, position: Position, { sequence, id }: Place): boolean {
  if (sequence === null) return true
  if (id === null) return list.direction * (position.sequence_number - sequence) > 0
  return compare(list, position, { sequence_number: sequence, id }) > 0
}

/** One call's worth of rows from a place on, and where the archive goes on from there. */
async function readRows(
  database: Database,
  caller: Caller,
  { sessionId, query, direction }: List,
  after: Place,
): Promise<{ rows: StoredMessage[]; segments: ArchivedSegment[] }> {
  const found = await database.callFor<{ kind: 'session' | 'message' | 'segment'; body: string }>(
    caller,
    'read_messages',
    [
      { jsonb: actorBody(caller) },
      { uuid: sessionId },
      { text: query.threadId ?? null },
      { boolean: direction === -1 },
      { integer: after.sequence },
      { uuid: after.id },
      { integer: query.limit + 1 },
      { integer: bytesFor(caller) },
    ],
  )
  if (found.length === 0) throw new CodedError('not_found', 'There is no such session.')
  const linesOf = (wanted: string): string[] =>
    found.filter(({ kind }) => kind === wanted).map(({ body }) => Buffer.from(body, 'base64').toString())
  return {
    rows: linesOf('message').map(messageOf),
    segments: linesOf('segment').map((line) => JSON.parse(line)),
  }
}

/** A list that has cost enough: everything up to this position was in it, and no more. */
interface End {
  upTo: number
}

/** Of each message that the archive holds the newest copy, in order, those before a position; without one, all. */
type NextCopy = (before: Position | undefined) => Promise<Copy | End | undefined>

interface Reading {
  /** Once for each segment. */
  read: (segment: ArchivedSegment) => Promise<Copy[]>
  /** Where the list ends instead of reading this one; undefined: it is to be read. */
  endBefore: (segment: ArchivedSegment) => End | undefined
}

/** Reads a segment when the list comes to its first message, and no sooner. */
function openCopies(
  list: List,
  segments: AsyncGenerator<ArchivedSegment, void>,
  { read, endBefore }: Reading,
): NextCopy {
  const { direction } = list
  const beginsBy = (sequence: number, { first_sequence, last_sequence }: ArchivedSegment): boolean =>
    direction * ((direction === 1 ? first_sequence : last_sequence) - sequence) <= 0
  let waiting: Copy[] = []
  let following: Promise<IteratorResult<ArchivedSegment, void>> | undefined

  /** Segments in which the next copy may stand, or a newer one of the same message. */
  async function due(before: Position | undefined): Promise<Promise<Copy[]>[] | End> {
    const reading: Promise<Copy[]>[] = []
    for (;;) {
      following ??= segments.next()
      const { value: segment } = await following
      if (!segment || (before && !beginsBy(before.sequence_number, segment))) return reading
      const [first] = waiting
      if (first === undefined ? reading.length > 0 : !beginsBy(first.message.sequence_number, segment))
        return reading
      const end = endBefore(segment)
      if (end) return reading.length > 0 ? reading : end
      const copies = read(segment)
      copies.catch(() => undefined) // Whoever waits for it is told.
      reading.push(copies)
      following = undefined
    }
  }

  return async (before) => {
    for (;;) {
      const reading = await due(before)
      if ('upTo' in reading) return reading
      const [first] = waiting
      if (reading.length === 0)
        return first && (!before || compare(list, first.message, before) < 0) ? waiting.shift() : undefined
      const newest = newestOf([...waiting, ...(await Promise.all(reading)).flat()])
      waiting = [...newest.values()].sort((a, b) => compare(list, a.message, b.message))
    }
  }
}

function openReading(bucket: Services['bucket'], { query, direction }: List): Reading {
  const read = new Map<string, Promise<Copy[]>>()
  /** The last position before it, as the list goes. */
  const before = ({ first_sequence, last_sequence }: ArchivedSegment): number =>
    direction === 1 ? first_sequence - 1 : last_sequence + 1
  let start = query.after
  return {
    read: (segment) => {
      const reading = read.get(segment.id) ?? readCopies(bucket, segment)
      read.set(segment.id, reading)
      start ??= before(segment)
      return reading
    },
    endBefore: (segment) => {
      if (read.size < MAX_SEGMENTS_READ || read.has(segment.id)) return undefined
      const upTo = before(segment)
      return start === undefined || direction * (upTo - start) > 0 ? { upTo } : undefined
    },
  }
}

/**
 * In the query's order, from its place on. A row of Postgres wins over what the archive holds of it; deleted ones are in
 * neither. Where nothing has left, nothing but Postgres is asked; else each segment is read once, when the list comes to
 * it. Throws as readLines does where one cannot be read: never are there silently fewer.
 *
 * Returns null where that was all. After so many segments it ends before the next one, wherever that does not stop it from
 * going on at all, and returns the position up to which everything was in it.
 */
export async function* messagesInSequence(
  { database, bucket }: Services,
  caller: Caller,
  sessionId: string,
  query: MessageListQuery,
): AsyncGenerator<ReadMessage, number | null> {
  const list: List = { sessionId, query, direction: query.order === 'desc' ? -1 : 1 }
  const { threadId } = query
  const reading = openReading(bucket, list)
  let place: Place = { sequence: query.after ?? null, id: null }
  for (;;) {
    const after = place
    const { rows, segments } = await readRows(database, caller, list, after)
    const texts = await Promise.all(rows.map((row) => (row.is_deleted ? '' : readText(bucket, row))))
    const ofRows = new Set(rows.map(({ id }) => id))
    const next = openCopies(list, segmentsOf(database, caller, beyond(list, after, segments)), {
      ...reading,
      read: async (segment) =>
        (await reading.read(segment)).filter(
          ({ message }) =>
            isAfter(list, message, after) && (threadId === undefined || message.thread_id === threadId),
        ),
    })
    // Without rows: all that is left is in the archive.
    for (const [index, row] of rows.length === 0 ? [[0, undefined] as const] : rows.entries()) {
      for (let copy = await next(row); copy !== undefined; copy = await next(row)) {
        if ('upTo' in copy) return copy.upTo
        const { message } = copy
        if (!ofRows.has(message.id) && !message.is_deleted) yield { row: message, text: message.content }
      }
      if (row === undefined) return null
      if (!row.is_deleted) yield { row, text: texts[index] ?? '' }
      place = { sequence: row.sequence_number, id: row.id }
    }
  }
}

const beyond = ({ sessionId, direction }: List, { sequence, id }: Place, known: ArchivedSegment[]) => ({
  sessionId,
  descending: direction === -1,
  known,
  ...(sequence !== null && { from: id === null ? sequence + direction : sequence }),
})
