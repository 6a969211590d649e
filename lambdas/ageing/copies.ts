/** Archived messages as those find them who need them. docs/archive-format.md. */
import type { Tenant } from '../protocol/callers.ts'
import { CodedError } from '../protocol/errors.ts'
import type { Count } from '../protocol/metrics.ts'
import type { Bucket } from '../services/bucket.ts'
import type { Database } from '../services/database.ts'
import type { ArchivedSegment } from '../services/hot-store.ts'
import { type ArchivedMessage, BrokenSegment, messageOf, readLines } from './segments.ts'

export interface Copy {
  message: ArchivedMessage
  /** As the archive has it: parsed and written again, its larger numbers would be others. */
  line: string
  segment: ArchivedSegment
}

/** One range read. Throws as readLines does. */
export async function readCopies(
  bucket: Pick<Bucket, 'getRange'>,
  segment: ArchivedSegment,
): Promise<Copy[]> {
  const lines = await readLines(bucket, segment)
  return lines.map((line) => ({ message: messageOf(line), line, segment }))
}

/** A message that was put back is archived again, so its session has several copies: the last one counts. */
export function newestOf(copies: Iterable<Copy>): Map<string, Copy> {
  const newest = new Map<string, Copy>()
  for (const copy of copies) {
    const known = newest.get(copy.message.id)
    if (known === undefined || isNewer(copy.segment, known.segment)) newest.set(copy.message.id, copy)
  }
  return newest
}

const isNewer = (one: ArchivedSegment, other: ArchivedSegment): boolean =>
  one.recorded_at === other.recorded_at ? one.id > other.id : one.recorded_at > other.recorded_at

/** Whether a part of the archive is not what was written; a bucket that cannot be reached is something else. */
export const isBroken = (error: unknown): boolean =>
  error instanceof BrokenSegment || (error instanceof CodedError && error.cause instanceof BrokenSegment)

/**
 * What works on the archive, once more where a segment is not what Postgres said it is: an object that is rewritten has
 * its segments somewhere else. What still cannot be read is counted, and thrown.
 */
export async function findingMoved<Result>(count: Count, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    if (!isBroken(error)) throw error
  }
  try {
    return await work()
  } catch (error) {
    if (isBroken(error)) count('ArchiveUnreadable')
    throw error
  }
}

export interface SegmentsWanted {
  sessionId: string
  /** Absent: ascending. */
  descending?: boolean
  /** Those that hold nothing before it are wanted. Absent: all. */
  from?: number
  /** The first ones, which another answer had with it. */
  known?: readonly ArchivedSegment[]
}

/** As many as Postgres gives at once (sql/operations/archived.sql). */
export const SEGMENTS_IN_CALL = 200
const MAX_SEQUENCE = 2_147_483_647

/** Segments of a session in the order in which a reader comes to them. */
export async function* segmentsOf(
  database: Database,
  tenant: Tenant,
  { sessionId, descending = false, from = descending ? MAX_SEQUENCE : 0, known }: SegmentsWanted,
): AsyncGenerator<ArchivedSegment, void> {
  let segments = known
  let last: ArchivedSegment | undefined
  for (;;) {
    if (segments === undefined) {
      const rows = await database.callFor<{ body: string }>(tenant, 'list_segments', [
        { uuid: sessionId },
        { boolean: descending },
        { integer: from },
        { integer: last === undefined ? null : descending ? -last.last_sequence : last.first_sequence },
        { uuid: last?.id ?? null },
      ])
      segments = rows.map(({ body }) => JSON.parse(body))
    }
    yield* segments
    if (segments.length < SEGMENTS_IN_CALL) return
    last = segments.at(-1)
    segments = undefined
  }
}
