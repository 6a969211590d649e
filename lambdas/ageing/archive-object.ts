/** One object of the archive: written, read back, and then its messages leave Postgres. docs/archive-format.md. */
import { createHash } from 'node:crypto'
import { constants, gzipSync } from 'node:zlib'
import { v7 as uuidv7 } from 'uuid'
import type { Tenant } from '../protocol/callers.ts'
import type { Bucket } from '../services/bucket.ts'
import type { Database } from '../services/database.ts'
import { tenantPath } from '../tenants/tenant-path.ts'
import type { Segment } from './archivable.ts'
import { type ObjectServices, unlessGivenUp, uploadTo } from './begun-object.ts'
import { BrokenSegment, SCHEMA_VERSION, type SegmentPlace, sha256Of, unpacked } from './segments.ts'

/** The text of a segment as a gzip member. */
export interface Packed {
  textBytes: number
  /** Of the text. */
  sha256: string
  bytes: Buffer
}

/** A segment with the bytes of its gzip member. */
export interface Member extends Packed {
  segment: Omit<Segment, 'text'>
}

/** What the manifest says of a segment. */
export interface Listed extends SegmentPlace {
  session_id: string
  first_sequence: number
  last_sequence: number
}

/** What is known of a segment once its bytes are on their way: not its text, which would fill the memory. */
export type Written = Omit<Segment, 'text'> & Listed

export interface WrittenObject<Segment extends Listed = Written> {
  key: string
  sha256: string
  bytes: number
  messages: number
  segments: Segment[]
}

// What an object may have: an erasure rewrites it as a whole, and what is known of its segments is kept in memory.
const MAX_OBJECT_BYTES = 256 * 1024 * 1024
const MAX_OBJECT_MESSAGES = 20_000
const MAX_OBJECT_SEGMENTS = 10_000
/** Recorded in one call: a request of the Data API holds 4 MiB. */
const SEGMENTS_IN_CALL = 1_000

export const ARCHIVE_PREFIX = 'archive/'

/** Below it everything of one tenant lies. */
export const prefixOf = (tenant: Tenant): string => `${ARCHIVE_PREFIX}${tenantPath(tenant)}/`

/** A key that no other object has, below the day of its writing. */
export const newObjectKey = (tenant: Tenant): string =>
  `${prefixOf(tenant)}${new Date().toISOString().slice(0, 10).replaceAll('-', '/')}/${uuidv7()}.jsonl.gz`

export const manifestKeyOf = (key: string): string => key.replace(/\.jsonl\.gz$/, '.manifest.json')

/** A fifth less time for the same bytes: there is memory enough for one at a time. */
const MAX_MEM_LEVEL = constants.Z_MAX_MEMLEVEL

export const pack = (text: Buffer): Packed => ({
  textBytes: text.length,
  sha256: sha256Of(text),
  bytes: gzipSync(text, { memLevel: MAX_MEM_LEVEL }),
})

export async function* compressed(segments: AsyncIterable<Segment>): AsyncGenerator<Member, void> {
  for await (const { text, ...segment } of segments) yield { segment, ...pack(text) }
}

/**
 * Writes members into one new object until there are no more, it is full, or `isTimeUp`; then its manifest. Undefined:
 * there was none. Nothing has left Postgres yet. Throws GivenUp; what it had taken of the members is then for the next run.
 */
export async function writeObject(
  services: ObjectServices,
  tenant: Tenant,
  members: AsyncIterator<Member, void>,
  isTimeUp: () => boolean,
): Promise<WrittenObject | undefined> {
  const { database } = services
  const first = await members.next()
  if (first.done) return undefined
  const key = newObjectKey(tenant)
  await database.callFor(tenant, 'begin_archive_object', [{ text: key }, { integer: SCHEMA_VERSION }])
  return unlessGivenUp(database, tenant, key, () =>
    writeMembers(services, { tenant, key, first, members, isTimeUp }),
  )
}

interface Writing {
  tenant: Tenant
  key: string
  first: IteratorYieldResult<Member>
  members: AsyncIterator<Member, void>
  isTimeUp: () => boolean
}

async function writeMembers(
  services: ObjectServices,
  { tenant, key, first, members, isTimeUp }: Writing,
): Promise<WrittenObject> {
  const { database, bucket } = services
  const hash = createHash('sha256')
  const object: WrittenObject = { key, sha256: '', bytes: 0, messages: 0, segments: [] }
  const upload = uploadTo(services, tenant, key)
  for (let next: IteratorResult<Member, void> = first; !next.done; next = await members.next()) {
    const { bytes } = next.value
    object.segments.push(placed(object, next.value))
    object.bytes += bytes.length
    object.messages += next.value.segment.messages
    hash.update(bytes)
    await upload.write(bytes)
    if (object.segments.length % SEGMENTS_IN_CALL === 0) await record(database, tenant, object)
    if (isFull(object) || isTimeUp()) break
  }
  object.sha256 = hash.digest('hex')
  if (object.segments.length % SEGMENTS_IN_CALL > 0) await record(database, tenant, object)
  await upload.close()
  await bucket.put(manifestKeyOf(key), manifestOf(tenant, object))
  return object
}

const isFull = ({ bytes, messages, segments }: WrittenObject): boolean =>
  bytes >= MAX_OBJECT_BYTES || messages >= MAX_OBJECT_MESSAGES || segments.length >= MAX_OBJECT_SEGMENTS

const placed = (
  { key, bytes: offset }: WrittenObject,
  { segment, textBytes, sha256, bytes }: Member,
): Written => ({
  ...segment,
  object_key: key,
  byte_offset: offset,
  byte_length: bytes.length,
  text_bytes: textBytes,
  sha256,
})

/** The segments since the last call, while the upload goes on: whoever erases a user finds them from here on. */
async function record(database: Database, tenant: Tenant, { key, segments }: WrittenObject): Promise<void> {
  const from = Math.floor((segments.length - 1) / SEGMENTS_IN_CALL) * SEGMENTS_IN_CALL
  const recorded = segments
    .slice(from)
    .map(({ object_key, last_active_at, due, first_id, last_id, versions, ...segment }) => segment)
  await database.callFor(tenant, 'record_segments', [{ text: key }, { jsonb: recorded }])
}

/** What stands beside an object, for whoever reads it without Postgres. */
export function manifestOf(
  tenant: Tenant,
  { key, sha256, bytes, messages, segments }: WrittenObject<Listed>,
): string {
  return JSON.stringify({
    schemaVersion: SCHEMA_VERSION,
    ...tenant,
    object: key,
    bytes,
    sha256,
    messages,
    segments: segments.map((segment) => ({
      sessionId: segment.session_id,
      offset: segment.byte_offset,
      length: segment.byte_length,
      textBytes: segment.text_bytes,
      messages: segment.messages,
      firstSequence: segment.first_sequence,
      lastSequence: segment.last_sequence,
      sha256: segment.sha256,
    })),
  })
}

/** Reads all of an object, in one stream. Throws BrokenSegment where anything of it is not what was written. */
export async function readBack(bucket: Bucket, object: WrittenObject): Promise<void> {
  const whole = { object_key: object.key, byte_offset: 0 }
  const stream = await bucket.getStream(object.key)
  if (stream === undefined) throw new BrokenSegment('missing', whole)
  const hash = createHash('sha256')
  for await (const [segment, bytes] of cut(stream, object.segments)) {
    hash.update(bytes)
    unpacked(bytes, segment)
  }
  if (hash.digest('hex') !== object.sha256) throw new BrokenSegment('altered', whole)
}

/** The bytes of each member, one after the other. */
async function* cut(
  stream: AsyncIterable<Uint8Array>,
  segments: readonly Written[],
): AsyncGenerator<[Written, Uint8Array], void> {
  const chunks = stream[Symbol.asyncIterator]()
  let rest: Uint8Array = new Uint8Array()
  for (const segment of segments) {
    const pieces = [rest]
    for (let bytes = rest.length; bytes < segment.byte_length; ) {
      const { done, value } = await chunks.next()
      if (done) throw new BrokenSegment('truncated', segment)
      pieces.push(value)
      bytes += value.length
    }
    const whole = pieces.length > 1 ? Buffer.concat(pieces) : rest
    yield [segment, whole.subarray(0, segment.byte_length)]
    rest = whole.subarray(segment.byte_length)
  }
  const { done } = await chunks.next()
  const last = segments.at(-1)
  if (last !== undefined && (rest.length > 0 || !done)) throw new BrokenSegment('longer', last)
}
