/**
 * Removing sessions from the archive: each object that holds one is written again without it, read back, and takes the old
 * one's place in one transaction; then the old one goes, with all its versions. docs/archive-format.md.
 */
import { createHash } from 'node:crypto'
import { v7 as uuidv7 } from 'uuid'
import { manifestKeyOf, manifestOf } from '../ageing/archive-object.ts'
import { findingMoved, isBroken } from '../ageing/copies.ts'
import { BrokenSegment, checkSegment, readSegment, SCHEMA_VERSION } from '../ageing/segments.ts'
import { removeTexts } from '../messages/large-text.ts'
import type { Count, Tenant } from '../protocol.ts'
import type { Bucket } from '../services/bucket.ts'
import type { Database } from '../services/database.ts'
import type { Clearing } from './erase-sessions.ts'
import { continueIfTime } from './out-of-time.ts'

export interface ArchiveErasing {
  database: Database
  bucket: Bucket
  count: Count
}

interface SegmentRow {
  id: string
  session_id: string
  byte_offset: number
  byte_length: number
  text_bytes: number
  messages: number
  first_sequence: number
  last_sequence: number
  sha256: string
  has_gone: boolean
  is_erased: boolean
}

const OBJECTS_IN_CALL = 100
const SEGMENTS_IN_CALL = 1_000

/**
 * Throws OutOfTime between two objects where time is up; the next call goes on. What is erased may be damaged; where what stays
 * in its object is, it throws and counts ArchiveUnreadable: with the old object the last version would go that can be mended.
 */
export async function eraseArchived(
  services: ArchiveErasing,
  { tenant, jobId, run }: Clearing,
): Promise<void> {
  await removeDropped(services, tenant)
  for (;;) {
    continueIfTime(run)
    const [row] = await services.database.callFor<{ next_erased_object: string | null }>(
      tenant,
      'next_erased_object',
      [{ uuid: jobId }],
    )
    if (!row?.next_erased_object) return
    const key = row.next_erased_object
    await findingMoved(services.count, () => rewrite(services, tenant, jobId, key))
    await removeDropped(services, tenant)
  }
}

/** One that never was complete may still be written to: it stays known, and the next archive run removes it once more. */
export async function removeDropped(
  { database, bucket }: Omit<ArchiveErasing, 'count'>,
  tenant: Tenant,
): Promise<void> {
  const dropped = await database.callFor<{ key: string; upload_id: string | null; was_complete: boolean }>(
    tenant,
    'drop_writing_objects',
    [{ integer: OBJECTS_IN_CALL }],
  )
  for (const { key, upload_id, was_complete } of dropped) {
    if (upload_id !== null) await bucket.abortUpload(key, upload_id)
    await bucket.deleteVersions(key)
    await bucket.deleteVersions(manifestKeyOf(key))
    if (was_complete) await database.callFor(tenant, 'forget_archive_object', [{ text: key }])
  }
}

async function rewrite(services: ArchiveErasing, tenant: Tenant, jobId: string, key: string): Promise<void> {
  const segments = await segmentsOf(services.database, tenant, key)
  for (const segment of segments.filter(({ is_erased }) => is_erased))
    await removeTextsOf(services, tenant, key, segment)
  const kept = segments.filter(({ has_gone }) => !has_gone)
  const written = kept.length > 0 ? await writeAgain(services, tenant, key, kept) : null
  await services.database.callFor(tenant, 'switch_object', [
    { uuid: jobId },
    { text: key },
    { jsonb: written },
    { jsonb: kept.map(({ id }) => id) },
    { jsonb: segments.flatMap(({ id, has_gone }) => (has_gone ? [id] : [])) },
  ])
}

export async function segmentsOf(database: Database, tenant: Tenant, key: string): Promise<SegmentRow[]> {
  const segments: SegmentRow[] = []
  for (let offset = 0; ; ) {
    const rows = await database.callFor<SegmentRow>(tenant, 'object_segments', [
      { text: key },
      { integer: offset },
      { integer: SEGMENTS_IN_CALL },
    ])
    segments.push(...rows)
    const last = rows.at(-1)
    if (last === undefined || rows.length < SEGMENTS_IN_CALL) return segments
    offset = last.byte_offset + 1
  }
}

/** Texts that stand in objects of their own, of which the archive's lines alone know by now. */
export async function removeTextsOf(
  { database, bucket }: Omit<ArchiveErasing, 'count'>,
  tenant: Tenant,
  key: string,
  segment: SegmentRow,
): Promise<void> {
  const large = await readSegment(bucket, { ...segment, object_key: key }).then(
    (messages) => messages.filter(({ content_key }) => content_key !== null),
    (error) => {
      if (!isBroken(error)) throw error
      // Nobody can say any more which had one.
      return database.callFor<{ id: string }>(tenant, 'segment_messages', [
        { uuid: segment.session_id },
        { uuid: segment.id },
      ])
    },
  )
  for (const { id } of large) await removeTexts(bucket, tenant, id)
}

interface Written {
  key: string
  bytes: number
  sha256: string
}

/** Copies what stays, member by member, and reads it back. Memory holds two parts of an upload. */
async function writeAgain(
  { database, bucket }: Omit<ArchiveErasing, 'count'>,
  tenant: Tenant,
  old: string,
  kept: readonly SegmentRow[],
): Promise<Written> {
  // Beside the old one: the day in its key is that of the first writing.
  const key = old.replace(/[^/]+$/, `${uuidv7()}.jsonl.gz`)
  await database.callFor(tenant, 'begin_archive_object', [{ text: key }, { integer: SCHEMA_VERSION }])
  const upload = bucket.upload(key, {
    contentType: 'application/gzip',
    onBegun: async (uploadId) => {
      await database.callFor(tenant, 'note_archive_upload', [{ text: key }, { text: uploadId }])
    },
  })
  const hash = createHash('sha256')
  let bytes = 0
  const placed = []
  for (const segment of kept) {
    const member = await bucket.getRange(old, { offset: segment.byte_offset, length: segment.byte_length })
    if (member === undefined) throw new BrokenSegment('missing', { ...segment, object_key: old })
    checkSegment(member, { ...segment, object_key: old })
    placed.push({ ...segment, object_key: key, byte_offset: bytes })
    hash.update(member)
    bytes += member.length
    await upload.write(member)
  }
  await upload.close()
  const sha256 = hash.digest('hex')
  const messages = kept.reduce((sum, segment) => sum + segment.messages, 0)
  await bucket.put(manifestKeyOf(key), manifestOf(tenant, { key, sha256, bytes, messages, segments: placed }))
  await compare(bucket, { key, bytes, sha256 })
  return { key, bytes, sha256 }
}

/** The old object is not touched before the new one was read back. */
async function compare(bucket: Bucket, { key, bytes, sha256 }: Written): Promise<void> {
  const hash = createHash('sha256')
  let read = 0
  for await (const chunk of (await bucket.getStream(key)) ?? []) {
    hash.update(chunk)
    read += chunk.length
  }
  if (read !== bytes || hash.digest('hex') !== sha256) throw new Error(`${key} is not what was written.`)
}
