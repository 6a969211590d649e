/** One object of the archive becomes rows again. */
import { createHash } from 'node:crypto'
import { inOrder } from '../../lambdas/ageing/in-order.ts'
import { BrokenSegment, SCHEMA_VERSION, type SegmentPlace } from '../../lambdas/ageing/segments.ts'
import type { Tenant } from '../../lambdas/protocol/callers.ts'
import { reasonOf } from '../failures.ts'
import type { ArchiveObject, Manifest, ManifestSegment } from './archive.ts'
import type { Outcome } from './database.ts'
import { inCalls } from './in-calls.ts'
import { inBatches, putBack, type Services } from './put-back.ts'
import { type Line, readSegments } from './read-segments.ts'
import { isErased, type Tombstones } from './tombstones.ts'

export interface Wanted {
  /** Absent: all. */
  session?: string
  tenant?: Tenant
}

export interface Restored {
  outcomes: Record<Outcome, number>
  /** What could not be read or put back, and why. */
  failed: string[]
}

interface Readable {
  object: ArchiveObject
  /** Absent: nothing has left Postgres because of it. */
  manifest: Manifest | undefined
  tombstones: Tombstones
}

/** Told to Postgres in one call: their ids are most of it. */
const ADOPTED_IN_CALL = 20_000
/** While Postgres has two the next one is read. No two have a message in common, and each locks sessions last and in order. */
const BATCHES_AT_ONCE = 3

/** A segment that is damaged is passed over: the rest comes back. Memory holds one read and so many batches. */
export async function restoreObject(
  services: Services,
  { object, manifest, tombstones }: Readable,
  wanted: Wanted,
  signal: AbortSignal,
): Promise<Restored> {
  const { outcomes, failed }: Restored = {
    outcomes: { restored: 0, replaced: 0, present: 0, erased: 0 },
    failed: [],
  }
  if (manifest === undefined) return { outcomes, failed }
  if (manifest.schemaVersion !== SCHEMA_VERSION) {
    failed.push(`${object.key}: schema version ${manifest.schemaVersion} is not known here.`)
    return { outcomes, failed }
  }
  const fail = (error: unknown): void => {
    if (signal.aborted) throw error
    failed.push(error instanceof BrokenSegment ? error.message : `${object.key}: ${reasonOf(error)}`)
  }
  const segments = manifest.segments.filter(
    ({ sessionId }) => wanted.session === undefined || sessionId === wanted.session,
  )
  const adopted: (Record<string, unknown> & { message_ids: string[] })[] = []
  async function* kept(): AsyncGenerator<Line[], void> {
    const places = segments.map((segment) => recordOf(object, segment))
    for await (const { place, lines } of readSegments(services.archive, places, fail)) {
      const some = lines.filter(({ message }) => !isErased(tombstones, message))
      outcomes.erased += lines.length - some.length
      adopted.push({ ...place, message_ids: some.map(({ message }) => message.id) })
      yield some
    }
  }
  try {
    const put = (lines: Line[]) => putBack(services, object, lines, { outcomes, fail })
    for await (const _ of inOrder(inBatches(kept()), BATCHES_AT_ONCE, put)) signal.throwIfAborted()
  } catch (error) {
    if (!signal.aborted) throw error
    return { outcomes, failed }
  }
  // One that Postgres does not know, since it is older, is told to it when all of it is back, and not before: it would be read.
  if (wanted.session === undefined && failed.length === 0) {
    const facts = factsOf(object, manifest, outcomes.erased > 0)
    for await (const some of inCalls([adopted], ADOPTED_IN_CALL, ({ message_ids }) => message_ids.length))
      await services.database.adopt(object.tenant, object.key, facts, some)
  }
  return { outcomes, failed }
}

/** As archive_objects has it. */
const factsOf = (
  object: ArchiveObject,
  { bytes, sha256, messages, segments, schemaVersion }: Manifest,
  hasErased: boolean,
) => ({
  bytes,
  sha256,
  messages,
  segments: segments.length,
  schema_version: schemaVersion,
  written_at: writtenAt(object),
  has_erased: hasErased,
})

/** Its name is a UUID of version 7, which begins with the time. */
function writtenAt({ key }: ArchiveObject): string {
  const [, high = '', low = ''] = /([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f-]+\.jsonl\.gz$/.exec(key) ?? []
  return new Date(Number.parseInt(high + low, 16)).toISOString()
}

/** As archive_segments has it. The id is the same each time. */
function recordOf({ key }: ArchiveObject, segment: ManifestSegment): SegmentPlace & Record<string, unknown> {
  const hash = createHash('sha256').update(`${key} ${segment.offset}`).digest('hex')
  return {
    id: hash.slice(0, 32).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
    session_id: segment.sessionId,
    object_key: key,
    byte_offset: segment.offset,
    byte_length: segment.length,
    text_bytes: segment.textBytes,
    messages: segment.messages,
    first_sequence: segment.firstSequence,
    last_sequence: segment.lastSequence,
    sha256: segment.sha256,
  }
}
