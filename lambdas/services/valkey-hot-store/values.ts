/** How the hot store's things are written in Valkey. */
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import type { MessageRecord } from '../../protocol/queue.ts'
import type { UnplacedQuestion } from '../hot-store.ts'
import type { Reply } from '../valkey.ts'

/** Scripts answer in words, which come as Buffers where any of them may be an entry. */
export const isText = (reply: Reply | undefined, text: string): boolean => String(reply) === text

/** The only user whose things will do, as scripts compare it with theirs. */
export const owned = (ownedBy: string | null): string =>
  ownedBy === null ? '-' : `=${encodeURIComponent(ownedBy)}`

/** Above it a value is compressed; below, compression costs more than it saves. */
const COMPRESS_ABOVE_BYTES = 1_024
const PLAIN = 'p'
const DEFLATED = Buffer.from('z')

/** Text as long as it is text: the client then sends it in one piece with the rest of its command. */
type Packed = string | Buffer

/** JSON with a byte before it that says whether it is compressed. */
export function pack(value: unknown): Packed {
  const json = JSON.stringify(value)
  return Buffer.byteLength(json) > COMPRESS_ABOVE_BYTES
    ? Buffer.concat([DEFLATED, deflateRawSync(json)])
    : PLAIN + json
}

export function unpack<Value>(bytes: Buffer): Value {
  const body = bytes.subarray(1)
  return JSON.parse((bytes[0] === DEFLATED[0] ? inflateRawSync(body) : body).toString())
}

/** Passed over in a history: 0 no, 1 empty, 2 deleted. */
type Skip = 0 | 1 | 2

export const skipOf = ({ content, content_key }: Pick<MessageRecord, 'content' | 'content_key'>): Skip =>
  content === '' && content_key === null ? 1 : 0

/** What of a record scripts do not look at. */
export const packBody = ({
  session_id: _session,
  user_id: _user,
  parent_message_id: _parent,
  sequence_number: _sequence,
  created_at: _created,
  ...body
}: UnplacedQuestion & Partial<MessageRecord>): Packed => pack(body)

const letterOf = (role: MessageRecord['role']): string => role.slice(0, 1)

/**
 * A record as scripts read it: `parent sequence role skip createdAt user` in a line of text, then what only this file
 * reads. A question's line is written by the script that gives it its place.
 */
export function writeEntry(record: MessageRecord, skip: Skip = skipOf(record)): Packed {
  const line = `${[
    record.parent_message_id ?? '-',
    record.sequence_number,
    letterOf(record.role),
    skip,
    Date.parse(record.created_at),
    encodeURIComponent(record.user_id),
  ].join(' ')}\n`
  const body = skip === 2 ? pack({}) : packBody(record)
  return typeof body === 'string' ? line + body : Buffer.concat([Buffer.from(line), body])
}

export function readEntry(sessionId: string, bytes: Buffer): MessageRecord {
  const end = bytes.indexOf(10)
  const [parent = '-', sequence, , , createdAt, user = ''] = bytes.subarray(0, end).toString().split(' ')
  return {
    ...unpack<UnplacedQuestion>(bytes.subarray(end + 1)),
    session_id: sessionId,
    user_id: decodeURIComponent(user),
    parent_message_id: parent === '-' ? null : parent,
    sequence_number: Number(sequence),
    created_at: new Date(Number(createdAt)).toISOString(),
  }
}
