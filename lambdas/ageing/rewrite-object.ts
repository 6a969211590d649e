/**
 * An object of the archive written again, without what has gone from it: segment by segment, and read back. The old one is not
 * touched here. docs/archive-format.md.
 */
import { createHash } from 'node:crypto'
import { NIL, v7 as uuidv7 } from 'uuid'
import type { Tenant } from '../protocol/callers.ts'
import type { Clearing } from '../rights/erase-sessions.ts'
import { continueIfTime } from '../rights/out-of-time.ts'
import type { Bucket } from '../services/bucket.ts'
import type { Database } from '../services/database.ts'
import { manifestKeyOf, manifestOf, pack } from './archive-object.ts'
import { GivenUp, type ObjectServices, unlessGivenUp, uploadTo } from './begun-object.ts'
import type { ObjectSegment } from './object-segments.ts'
import { BrokenSegment, checkSegment, linesOf, messageOf, readsOf, SCHEMA_VERSION } from './segments.ts'

/** Without their texts some 600 bytes each: a response of the Data API holds 1 MiB. */
const LINES_IN_CALL = 500

/** What switch_object is told of it. */
export interface Rewritten {
  key: string
  bytes: number
  sha256: string
  /** Segments with lines that have lost their texts, which were those of `message_ids`. */
  purged: (Pick<ObjectSegment, 'id' | 'session_id' | 'byte_length' | 'text_bytes' | 'sha256'> & {
    message_ids: string[]
  })[]
}

/**
 * Writes what is kept of an object into a new one. Throws OutOfTime, and what copies.ts knows as broken where the old one is not
 * what was written. Undefined: another erasure has given the new one up.
 */
export async function writeAgain(
  services: ObjectServices,
  clearing: Omit<Clearing, 'jobId'>,
  old: string,
  kept: readonly ObjectSegment[],
): Promise<Rewritten | undefined> {
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
  segments: readonly ObjectSegment[],
): AsyncGenerator<[ObjectSegment, Buffer], void> {
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
  kept: readonly ObjectSegment[]
}

/** Copies what stays, member by member, and reads it back. Memory holds two parts of an upload. */
async function copy(
  services: ObjectServices,
  { tenant, run }: Omit<Clearing, 'jobId'>,
  { old, key, kept }: Copying,
): Promise<Rewritten> {
  const { database, bucket } = services
  const upload = uploadTo(services, tenant, key)
  const hash = createHash('sha256')
  let bytes = 0
  const placed = []
  const purged: Rewritten['purged'] = []
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
  await readBack(bucket, written)
  return written
}

/** What is to stand in the place of lines, by their messages' ids. */
async function purgedLines(
  database: Database,
  tenant: Tenant,
  { id, session_id }: ObjectSegment,
): Promise<Map<string, string>> {
  const lines = new Map<string, string>()
  for (let after: string = NIL; ; ) {
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
async function readBack(bucket: Bucket, { key, bytes, sha256 }: Rewritten): Promise<void> {
  const hash = createHash('sha256')
  let read = 0
  for await (const chunk of (await bucket.getStream(key)) ?? []) {
    hash.update(chunk)
    read += chunk.length
  }
  if (read !== bytes || hash.digest('hex') !== sha256) throw new Error(`${key} is not what was written.`)
}
