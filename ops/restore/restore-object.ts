/** One object of the archive becomes rows again, segment by segment. */
import { createHash } from 'node:crypto'
import {
  type ArchivedMessage,
  BrokenSegment,
  linesOf,
  rowOf,
  SCHEMA_VERSION,
} from '../../lambdas/ageing/segments.ts'
import type { Tenant } from '../../lambdas/protocol.ts'
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

/** Of lines in one call: a request of the Data API holds 4 MiB, and within it their quotes are escaped once more. */
const CALL_BYTES = 1_000_000
const CALL_LINES = 500
const SEGMENTS_IN_CALL = 1_000

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
  for (const segment of manifest.segments) {
    if (signal.aborted) return done
    if (wanted.session !== undefined && segment.sessionId !== wanted.session) continue
    try {
      await restoreSegment(services, object, segment, done.outcomes)
    } catch (error) {
      if (signal.aborted) return done
      done.failed.push(error instanceof BrokenSegment ? error.message : `${object.key}: ${reasonOf(error)}`)
    }
  }
  // One that Postgres does not know, since it is older, is told to it when all of it is back, and not before: what knows of
  // an object without anything that has left removes it.
  if (wanted.session === undefined && done.failed.length === 0) {
    const { bytes, sha256, messages, segments, schemaVersion } = manifest
    const facts = { bytes, sha256, messages, segments: segments.length, schema_version: schemaVersion }
    const recorded = segments.map((segment) => recordOf(object, segment))
    for (let from = 0; from < recorded.length; from += SEGMENTS_IN_CALL)
      await database.adopt(object.tenant, object.key, facts, recorded.slice(from, from + SEGMENTS_IN_CALL))
  }
  return done
}

async function restoreSegment(
  { archive, database, tombstones }: Services,
  { key, tenant }: ArchiveObject,
  segment: ManifestSegment,
  outcomes: Restored['outcomes'],
): Promise<void> {
  const bytes = await archive.range(key, segment.offset, segment.length)
  const lines = linesOf(bytes, {
    object_key: key,
    byte_offset: segment.offset,
    byte_length: segment.length,
    text_bytes: segment.textBytes,
    messages: segment.messages,
    sha256: segment.sha256,
  })
  const large: ArchivedMessage[] = []
  let rows: string[] = []
  let rowBytes = 0
  const put = async (): Promise<void> => {
    if (rows.length === 0) return
    const put = await database.put(tenant, rows)
    for (const outcome of put.values()) outcomes[outcome] += 1
    for (const { id, content_key, content } of large.splice(0))
      if (content_key !== null && put.get(id) !== 'erased') await archive.keepText(content_key, content)
    rows = []
    rowBytes = 0
  }
  for (const line of lines) {
    const message: ArchivedMessage = JSON.parse(line)
    if (isErased(tombstones, message)) {
      outcomes.erased += 1
      continue
    }
    const row = rowOf(message, line)
    if (rows.length >= CALL_LINES || rowBytes + row.length > CALL_BYTES) await put()
    rows.push(row)
    rowBytes += Buffer.byteLength(row)
    if (message.content_key !== null) large.push(message)
  }
  await put()
}

/** As archive_segments has it. The id is the same each time. */
function recordOf({ key }: ArchiveObject, segment: ManifestSegment) {
  const hash = createHash('sha256').update(`${key} ${segment.offset}`).digest('hex')
  return {
    id: hash.slice(0, 32).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
    session_id: segment.sessionId,
    byte_offset: segment.offset,
    byte_length: segment.length,
    text_bytes: segment.textBytes,
    messages: segment.messages,
    first_sequence: segment.firstSequence,
    last_sequence: segment.lastSequence,
    sha256: segment.sha256,
  }
}
