/** A segment: messages of one session as one gzip member of an archive object. docs/archive-format.md. */
import { createHash } from 'node:crypto'
import { gunzipSync } from 'node:zlib'
import { CodedError } from '../protocol/errors.ts'
import type { Bucket } from '../services/bucket.ts'
import type { ArchivedSegment, StoredMessage } from '../services/hot-store.ts'

/** Of the lines. Raised when a reader has to know of a change. */
export const SCHEMA_VERSION = 1

/** One line: a row of chat_messages without what is null, and with its whole text in `content` wherever it stood. */
export interface ArchivedMessage extends StoredMessage {
  /** A keyed hash of the session's user (pseudonym.ts). */
  user: string
  langsmith_trace_id: string | null
  feedback_comment: string | null
  deleted_at: string | null
  /** With the microseconds of Postgres: by it a copy is told from a row that was changed since. */
  updated_at: string
  saved_at: string
}

const ABSENT = {
  content_key: null,
  token_count: null,
  response_time_ms: null,
  model: null,
  langsmith_trace_id: null,
  parent_message_id: null,
  deleted_at: null,
  inquiry_category: null,
  satisfaction_score: null,
  feedback_comment: null,
  resolution_status: null,
  priority: null,
  follow_up_needed: null,
  business_impact: null,
} satisfies Partial<ArchivedMessage>

/** A line as a message. */
export const messageOf = (line: string): ArchivedMessage => ({ ...ABSENT, ...JSON.parse(line) })

/** Where a segment lies and what it must be, as archive_segments has it. */
export type SegmentPlace = Pick<
  ArchivedSegment,
  'object_key' | 'byte_offset' | 'byte_length' | 'text_bytes' | 'messages' | 'sha256'
>

/** The copy is not what was written. Nothing of its content is in here. */
export class BrokenSegment extends Error {
  constructor(what: string, { object_key, byte_offset }: Pick<SegmentPlace, 'object_key' | 'byte_offset'>) {
    super(`The segment at ${byte_offset} of ${object_key} is ${what}.`)
    this.name = 'BrokenSegment'
  }
}

export const sha256Of = (text: Uint8Array): string => createHash('sha256').update(text).digest('hex')

/** The lines of a segment from the bytes of its member. Throws BrokenSegment where they are not what was written. */
export const openSegment = (bytes: Uint8Array, place: SegmentPlace): ArchivedMessage[] =>
  linesOf(bytes, place).map(messageOf)

/** The same, as they are: parsed and written again, their larger numbers would be others. */
export function linesOf(bytes: Uint8Array, place: SegmentPlace): string[] {
  const lines = checkSegment(bytes, place).toString().split('\n')
  if (lines.pop() !== '' || lines.length !== place.messages) throw new BrokenSegment('miscounted', place)
  return lines
}

/** The text of a segment. Throws BrokenSegment where it is not what was written. */
export function checkSegment(bytes: Uint8Array, place: SegmentPlace): Buffer {
  const text = unpacked(bytes, place)
  if (sha256Of(text) !== place.sha256) throw new BrokenSegment('altered', place)
  return text
}

/** The same, where more than this segment is compared: gzip's own checksum says that the text is what was packed. */
export function unpacked(bytes: Uint8Array, place: SegmentPlace): Buffer {
  if (bytes.length < place.byte_length) throw new BrokenSegment('truncated', place)
  const text = inflated(bytes, place.text_bytes)
  if (text?.length !== place.text_bytes) throw new BrokenSegment('altered', place)
  return text
}

/** At once, since handing so little to a thread takes longer. The limit: what was altered must not fill the memory. */
function inflated(bytes: Uint8Array, textBytes: number): Buffer | undefined {
  try {
    return gunzipSync(bytes, { maxOutputLength: Math.max(textBytes, 1) })
  } catch {
    return undefined
  }
}

/**
 * Reads the lines of one segment, with one range read. CodedError `unavailable` where the bucket cannot be reached, and
 * where the segment is missing, truncated or altered: then its cause is a BrokenSegment.
 */
export async function readLines(bucket: Pick<Bucket, 'getRange'>, place: SegmentPlace): Promise<string[]> {
  const range = { offset: place.byte_offset, length: place.byte_length }
  const bytes = await bucket.getRange(place.object_key, range)
  try {
    if (bytes === undefined) throw new BrokenSegment('missing', place)
    return linesOf(bytes, place)
  } catch (cause) {
    throw new CodedError('unavailable', 'Archived messages cannot be read right now.', { cause })
  }
}

/** The same, as messages. */
export const readSegment = async (
  bucket: Pick<Bucket, 'getRange'>,
  place: SegmentPlace,
): Promise<ArchivedMessage[]> => (await readLines(bucket, place)).map(messageOf)

/** What is read at once. */
const MAX_READ_BYTES = 4_000_000

export interface Read<Segment> {
  offset: number
  length: number
  members: Segment[]
}

/** How segments of one object, in their order, are read: neighbours at once. */
export function readsOf<Segment extends Pick<SegmentPlace, 'byte_offset' | 'byte_length'>>(
  segments: readonly Segment[],
): Read<Segment>[] {
  const reads: Read<Segment>[] = []
  for (const segment of segments) {
    const { byte_offset: offset, byte_length: length } = segment
    const last = reads.at(-1)
    if (last && last.offset + last.length === offset && last.length + length <= MAX_READ_BYTES) {
      last.length += length
      last.members.push(segment)
    } else reads.push({ offset, length, members: [segment] })
  }
  return reads
}

/** A line as the row that it was: with its text where it stood, in the object that content_key names if it had one. */
export function rowOf({ content, content_key }: ArchivedMessage, line: string): string {
  if (content_key === null) return line
  const whole = `{"content":${JSON.stringify(content)},`
  return `{"content":"",${line.startsWith(whole) ? line.slice(whole.length) : JSON.stringify({ ...JSON.parse(line), content: undefined }).slice(1)}`
}
