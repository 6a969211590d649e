/**
 * Removing sessions, and the texts of deleted messages, from the archive: each object that holds any is written again without
 * them, read back, and takes the old one's place in one transaction; then the old one goes, with all its versions.
 * docs/archive-format.md.
 */
import { createHash } from 'node:crypto'
import { v7 as uuidv7 } from 'uuid'
import {
  GivenUp,
  giveUp,
  manifestKeyOf,
  manifestOf,
  pack,
  unlessGivenUp,
  uploadTo,
} from '../ageing/archive-object.ts'
import { findingMoved, isBroken } from '../ageing/copies.ts'
import {
  BrokenSegment,
  checkSegment,
  linesOf,
  messageOf,
  readSegment,
  readsOf,
  SCHEMA_VERSION,
} from '../ageing/segments.ts'
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

export interface SegmentRow {
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
  has_purged: boolean
}

const OBJECTS_IN_CALL = 100
const SEGMENTS_IN_CALL = 1_000
/** Without their texts some 600 bytes each: a response of the Data API holds 1 MiB. */
const LINES_IN_CALL = 500
const NIL = '00000000-0000-0000-0000-000000000000'

/**
 * Throws OutOfTime where time is up; the next call goes on. What is erased may be damaged; an object in
 * which something else is stays, and is counted as ArchiveUnreadable, since with it the last version would go that can be
 * mended: that is thrown when all others are done.
 */
export async function eraseArchived(services: ArchiveErasing, clearing: Clearing): Promise<void> {
  const { tenant, jobId, run } = clearing
  await services.database.callFor(tenant, 'give_up_written_objects', [{ uuid: jobId }])
  await removeDropped(services, tenant)
  let after = ''
  let damage: unknown
  for (;;) {
    continueIfTime(run)
    const key = await nextObject(services.database, { tenant, jobId }, after)
    if (key === undefined) break
    try {
      await findingMoved(services.count, () => rewrite(services, clearing, key))
    } catch (error) {
      if (!isBroken(error)) throw error
      damage = error
      after = key
    }
    await removeDropped(services, tenant)
  }
  if (damage !== undefined) throw damage
}

/** One that is to be written again. */
export async function nextObject(
  database: Database,
  { tenant, jobId }: Omit<Clearing, 'run'>,
  after = '',
): Promise<string | undefined> {
  const [row] = await database.callFor<{ next_object_to_rewrite: string | null }>(
    tenant,
    'next_object_to_rewrite',
    [{ uuid: jobId }, { text: after }],
  )
  return row?.next_object_to_rewrite ?? undefined
}

/** One that never was complete may still be written to: it stays known, and the next archive run removes it once more. */
export async function removeDropped(
  { database, bucket }: Omit<ArchiveErasing, 'count'>,
  tenant: Tenant,
): Promise<void> {
  const dropped = await database.callFor<{ key: string; upload_id: string | null; was_complete: boolean }>(
    tenant,
    'list_dropped_objects',
    [{ integer: OBJECTS_IN_CALL }],
  )
  for (const { key, upload_id, was_complete } of dropped) {
    if (upload_id !== null) await bucket.abortUpload(key, upload_id)
    await bucket.deleteVersions(key)
    await bucket.deleteVersions(manifestKeyOf(key))
    if (was_complete) await database.callFor(tenant, 'forget_archive_object', [{ text: key }])
  }
}

/** Where somebody else has been at it nothing is done, and it is to be looked at once more. */
async function rewrite(services: ArchiveErasing, clearing: Clearing, key: string): Promise<void> {
  const { tenant, jobId, run } = clearing
  const segments = await segmentsOf(services.database, tenant, key)
  for (const segment of segments.filter(({ is_erased }) => is_erased)) {
    continueIfTime(run)
    await removeTextsOf(services, tenant, key, segment)
  }
  const kept = segments.filter(({ has_gone }) => !has_gone)
  const written = kept.length > 0 ? await writeAgain(services, clearing, key, kept) : null
  if (written === undefined) return
  const [row] = await services.database.callFor<{ switch_object: boolean }>(tenant, 'switch_object', [
    { uuid: jobId },
    { text: key },
    { jsonb: written },
    { jsonb: kept.map(({ id }) => id) },
    { jsonb: segments.flatMap(({ id, has_gone }) => (has_gone ? [id] : [])) },
  ])
  if (!row?.switch_object && written !== null) await giveUp(services.database, tenant, written.key)
}

export async function segmentsOf(database: Database, tenant: Tenant, key: string): Promise<SegmentRow[]> {
  const segments: SegmentRow[] = []
  for (let offset = 0; ; ) {
    const rows = await database.callFor<SegmentRow>(tenant, 'read_object_segments', [
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
async function removeTextsOf(
  services: Omit<ArchiveErasing, 'count'>,
  tenant: Tenant,
  key: string,
  segment: SegmentRow,
): Promise<void> {
  for (const id of await largeIn(services, tenant, key, segment))
    await removeTexts(services.bucket, tenant, id)
}

/** Messages of a segment that may have texts in objects of their own. */
export async function largeIn(
  { database, bucket }: Omit<ArchiveErasing, 'count'>,
  tenant: Tenant,
  key: string,
  segment: SegmentRow,
): Promise<string[]> {
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
  return large.map(({ id }) => id)
}

interface Written {
  key: string
  bytes: number
  sha256: string
  /** Segments with lines that have lost their texts, which were those of `message_ids`. */
  purged: (Pick<SegmentRow, 'id' | 'session_id' | 'byte_length' | 'text_bytes' | 'sha256'> & {
    message_ids: string[]
  })[]
}

/** Undefined: another erasure has given it up. */
async function writeAgain(
  services: ArchiveErasing,
  clearing: Clearing,
  old: string,
  kept: readonly SegmentRow[],
): Promise<Written | undefined> {
  const { database } = services
  const { tenant } = clearing
  // Beside the old one: the day in its key is that of the first writing.
  const key = old.replace(/[^/]+$/, `${uuidv7()}.jsonl.gz`)
  await database.callFor(tenant, 'begin_rewritten_object', [
    { text: key },
    { text: old },
    { integer: SCHEMA_VERSION },
  ])
  try {
    return await unlessGivenUp(database, tenant, key, () => copy(services, clearing, { old, key, kept }))
  } catch (error) {
    if (error instanceof GivenUp) return undefined
    throw error
  }
}

/** Segments with their bytes, in their order. */
async function* membersOf(
  bucket: Bucket,
  key: string,
  segments: readonly SegmentRow[],
): AsyncGenerator<[SegmentRow, Buffer], void> {
  for (const { offset, length, members } of readsOf(segments)) {
    const bytes = await bucket.getRange(key, { offset, length })
    for (const segment of members) {
      if (bytes === undefined) throw new BrokenSegment('missing', { ...segment, object_key: key })
      const start = segment.byte_offset - offset
      yield [segment, bytes.subarray(start, start + segment.byte_length)]
    }
  }
}

interface Copying {
  old: string
  key: string
  kept: readonly SegmentRow[]
}

/** Copies what stays, member by member, and reads it back. Memory holds two parts of an upload. */
async function copy(
  services: ArchiveErasing,
  { tenant, run }: Clearing,
  { old, key, kept }: Copying,
): Promise<Written> {
  const { database, bucket } = services
  const upload = uploadTo(services, tenant, key)
  const hash = createHash('sha256')
  let bytes = 0
  const placed = []
  const purged: Written['purged'] = []
  for await (const [segment, bytesOfOld] of membersOf(bucket, old, kept)) {
    continueIfTime(run)
    const place = { ...segment, object_key: old }
    let member = bytesOfOld
    let { text_bytes, sha256 } = segment
    if (segment.has_purged) {
      const lines = await purgedLines(database, tenant, segment)
      const packed = pack(withLines(linesOf(member, place), lines))
      member = packed.bytes
      text_bytes = packed.textBytes
      sha256 = packed.sha256
      const { id, session_id } = segment
      purged.push({
        id,
        session_id,
        byte_length: member.length,
        text_bytes,
        sha256,
        message_ids: [...lines.keys()],
      })
    } else checkSegment(member, place)
    placed.push({
      ...place,
      object_key: key,
      byte_offset: bytes,
      byte_length: member.length,
      text_bytes,
      sha256,
    })
    hash.update(member)
    bytes += member.length
    await upload.write(member)
  }
  await upload.close()
  const sha256 = hash.digest('hex')
  const messages = kept.reduce((sum, segment) => sum + segment.messages, 0)
  await bucket.put(manifestKeyOf(key), manifestOf(tenant, { key, sha256, bytes, messages, segments: placed }))
  const written = { key, bytes, sha256, purged }
  await compare(bucket, written)
  return written
}

/** What is to stand in the place of lines, by their messages' ids. */
async function purgedLines(
  database: Database,
  tenant: Tenant,
  { id, session_id }: SegmentRow,
): Promise<Map<string, string>> {
  const lines = new Map<string, string>()
  for (let after = NIL; ; ) {
    const rows = await database.callFor<{ id: string; line: string }>(tenant, 'purged_lines', [
      { uuid: session_id },
      { uuid: id },
      { uuid: after },
      { integer: LINES_IN_CALL },
    ])
    for (const row of rows) lines.set(row.id, Buffer.from(row.line, 'base64').toString())
    const last = rows.at(-1)
    if (last === undefined || rows.length < LINES_IN_CALL) return lines
    after = last.id
  }
}

/** All others stay as they are: parsed and written again, their larger numbers would be others. */
function withLines(lines: readonly string[], others: ReadonlyMap<string, string>): Buffer {
  const text = lines.map((line) => {
    const { id, user } = messageOf(line)
    const other = others.get(id)
    return other === undefined ? line : `${other.slice(0, -1)},"user":${JSON.stringify(user)}}`
  })
  return Buffer.from(`${text.join('\n')}\n`)
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
