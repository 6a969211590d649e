/** The segments of an object of the archive, as those know them who write it again or remove it. docs/archive-format.md. */
import type { Tenant } from '../protocol/callers.ts'
import type { Database } from '../services/database.ts'
import type { ObjectServices } from './begun-object.ts'
import { isBroken } from './copies.ts'
import { readSegment } from './segments.ts'

export interface ObjectSegment {
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

const SEGMENTS_IN_CALL = 1_000

/** As they follow each other. */
export async function segmentsIn(database: Database, tenant: Tenant, key: string): Promise<ObjectSegment[]> {
  const segments: ObjectSegment[] = []
  for (let offset = 0; ; ) {
    const rows = await database.callFor<ObjectSegment>(tenant, 'read_object_segments', [
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

/** Messages of a segment that may have texts in objects of their own. */
export async function largeIn(
  { database, bucket }: ObjectServices,
  tenant: Tenant,
  key: string,
  segment: ObjectSegment,
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
