/** One object of the archive becomes rows again, segment by segment. */
import { createHash } from 'node:crypto'
import {
  type ArchivedMessage,
  BrokenSegment,
  linesOf,
  messageOf,
  rowOf,
  SCHEMA_VERSION,
  type SegmentPlace,
} from '../../lambdas/ageing/segments.ts'
import type { Tenant } from '../../lambdas/protocol/callers.ts'
import { reasonOf } from '../failures.ts'
import type { Archive, ArchiveObject, ManifestSegment } from './archive.ts'
import type { Outcome, Restoring } from './database.ts'
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

interface Services {
  archive: Archive
  database: Restoring
  tombstones: Tombstones
}

/** Told to Postgres in one call: their ids are most of it. */
const ADOPTED_IN_CALL = 20_000
/** Of lines in one call: a request of the Data API holds 4 MiB, and within it their quotes are escaped once more. */
const CALL_BYTES = 1_000_000
const CALL_LINES = 500

/** A segment that is damaged is passed over: the rest comes back. */
export async function restoreObject(
  services: Services,
  object: ArchiveObject,
  wanted: Wanted,
  signal: AbortSignal,
): Promise<Restored> {
  const { archive, database } = services
  const done: Restored = { outcomes: { restored: 0, replaced: 0, present: 0, erased: 0 }, failed: [] }
  const manifest = await archive.manifest(object)
  if (manifest === undefined) return done
  if (manifest.schemaVersion !== SCHEMA_VERSION) {
    done.failed.push(`${object.key}: schema version ${manifest.schemaVersion} is not known here.`)
    return done
  }
  const restored: { segment: ManifestSegment; ids: string[] }[] = []
  for (const segment of manifest.segments) {
    if (signal.aborted) return done
    if (wanted.session !== undefined && segment.sessionId !== wanted.session) continue
    try {
      restored.push({ segment, ids: await restoreSegment(services, object, segment, done.outcomes) })
    } catch (error) {
      if (signal.aborted) return done
      done.failed.push(error instanceof BrokenSegment ? error.message : `${object.key}: ${reasonOf(error)}`)
    }
  }
  // One that Postgres does not know, since it is older, is told to it when all of it is back, and not before: it would be read.
  if (wanted.session === undefined && done.failed.length === 0) {
    const { bytes, sha256, messages, segments, schemaVersion } = manifest
    const facts = {
      bytes,
      sha256,
      messages,
      segments: segments.length,
      schema_version: schemaVersion,
      written_at: writtenAt(object),
      has_erased: done.outcomes.erased > 0,
    }
    for (const some of inCalls(restored, ADOPTED_IN_CALL, ({ ids }) => ids.length))
      await database.adopt(
        object.tenant,
        object.key,
        facts,
        some.map(({ segment, ids }) => ({ ...recordOf(object, segment), message_ids: ids })),
      )
  }
  return done
}

function inCalls<Item>(items: readonly Item[], most: number, weightOf: (item: Item) => number): Item[][] {
  const calls: Item[][] = []
  let weight = Number.POSITIVE_INFINITY
  for (const item of items) {
    weight += weightOf(item)
    if (weight > most) {
      calls.push([])
      weight = weightOf(item)
    }
    calls.at(-1)?.push(item)
  }
  return calls
}

/** Its name is a UUID of version 7, which begins with the time. */
function writtenAt({ key }: ArchiveObject): string {
  const [, high = '', low = ''] = /([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f-]+\.jsonl\.gz$/.exec(key) ?? []
  return new Date(Number.parseInt(high + low, 16)).toISOString()
}

/** Puts a segment's messages back, and returns their ids. */
async function restoreSegment(
  { archive, database, tombstones }: Services,
  { key, tenant }: ArchiveObject,
  segment: ManifestSegment,
  outcomes: Restored['outcomes'],
): Promise<string[]> {
  const lines = await readLines(archive, recordOf({ key, tenant }, segment))
  const ids: string[] = []
  const large: ArchivedMessage[] = []
  let rows: string[] = []
  let rowBytes = 0
  const put = async (): Promise<void> => {
    if (rows.length === 0) return
    await putNewer({ archive, database }, { key, tenant }, ids.slice(-rows.length))
    const put = await database.put(tenant, rows)
    for (const outcome of put.values()) outcomes[outcome] += 1
    for (const { id, content_key, content } of large.splice(0))
      if (content_key !== null && put.get(id) !== 'erased') await archive.keepText(content_key, content)
    rows = []
    rowBytes = 0
  }
  for (const line of lines) {
    const message = messageOf(line)
    if (isErased(tombstones, message)) {
      outcomes.erased += 1
      continue
    }
    const row = rowOf(message, line)
    if (rows.length >= CALL_LINES || rowBytes + row.length > CALL_BYTES) await put()
    ids.push(message.id)
    rows.push(row)
    rowBytes += Buffer.byteLength(row)
    if (message.content_key !== null) large.push(message)
  }
  await put()
  return ids
}

/**
 * Of messages that have left for another object since, the copies that are there: before the older ones of this object, which
 * then change nothing. Those that cannot be read are no reason to keep back the older ones.
 */
async function putNewer(
  { archive, database }: Pick<Services, 'archive' | 'database'>,
  { key, tenant }: ArchiveObject,
  ids: readonly string[],
): Promise<void> {
  for (const { message_ids, ...place } of await database.elsewhere(tenant, key, ids)) {
    const wanted = new Set(message_ids)
    const lines = await readLines(archive, place).catch((error) => {
      if (error instanceof BrokenSegment) return []
      throw error
    })
    const rows = lines.flatMap((line) => {
      const message = messageOf(line)
      return wanted.has(message.id) ? [rowOf(message, line)] : []
    })
    for (const some of inCalls(rows, CALL_BYTES, Buffer.byteLength)) await database.put(tenant, some)
  }
}

/** Throws BrokenSegment where they are not what was written, or not there. */
async function readLines(archive: Services['archive'], place: SegmentPlace): Promise<string[]> {
  const bytes = await archive.range(place.object_key, place.byte_offset, place.byte_length)
  if (bytes === undefined) throw new BrokenSegment('missing', place)
  return linesOf(bytes, place)
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
