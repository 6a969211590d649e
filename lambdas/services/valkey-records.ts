/** How the hot store's things are named and written in Valkey. */
import { createHash } from 'node:crypto'
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import type { MessageRecord, Tenant } from '../protocol.ts'

// ---------------------------------------------------------------- names

/** Where a turn or a message lies. */
export interface Place {
  sessionId: string
  threadId: string
}

const tenantTag = ({ companyId, platform }: Tenant): string =>
  `${encodeURIComponent(companyId)}:${encodeURIComponent(platform)}`

/**
 * Every key carries its tenant and then its kind. What lies in one session has one hash tag, since a script may touch
 * the keys of one slot only; names of tenants are encoded, so that none holds a brace or a colon.
 */
export const keysOf = (tenant: Tenant, { sessionId, threadId }: Place) => {
  const tag = `tk:{${tenantTag(tenant)}:${sessionId}}`
  const thread = encodeURIComponent(threadId)
  return {
    session: `${tag}:session`,
    unsaved: `${tag}:unsaved`,
    history: `${tag}:history:${thread}`,
    order: `${tag}:order:${thread}`,
    running: `${tag}:running:${thread}`,
    turn: (messageId: string) => `${tag}:turn:${messageId}`,
    log: (messageId: string) => `${tag}:log:${messageId}`,
  }
}

/** Where a message lies, by its id alone. */
export const placeKey = (tenant: Tenant, messageId: string): string =>
  `tk:{${tenantTag(tenant)}:${messageId}}:place`

export const settingsKey = (tenant: Tenant): string => `tk:{${tenantTag(tenant)}}:settings`

/** A caller's idempotency key, which may be any text. */
export const claimKey = (tenant: Tenant, caller: string, key: string): string =>
  `tk:{${tenantTag(tenant)}:${encodeURIComponent(caller)}}:key:${createHash('sha256').update(key).digest('hex')}`

/** Turns that run, of all tenants, in so many parts that no server has to hold all of them. */
export const RUNNING_SHARDS = 16
export const runningKey = (shard: number): string => `tk:{running:${shard}}`
export const shardOf = (messageId: string): number =>
  (createHash('sha1').update(messageId).digest()[0] ?? 0) % RUNNING_SHARDS

export const writePlace = ({ sessionId, threadId }: Place): string => JSON.stringify([sessionId, threadId])
export function readPlace(text: string): Place {
  const [sessionId, threadId] = JSON.parse(text)
  return { sessionId, threadId }
}

// ---------------------------------------------------------------- values

/** Above it a value is compressed; below, compression costs more than it saves. */
const COMPRESS_ABOVE_BYTES = 1_024
const PLAIN = Buffer.from('p')
const DEFLATED = Buffer.from('z')

/** JSON with a byte before it that says whether it is compressed. */
export function pack(value: unknown): Buffer {
  const json = Buffer.from(JSON.stringify(value))
  return json.length > COMPRESS_ABOVE_BYTES
    ? Buffer.concat([DEFLATED, deflateRawSync(json)])
    : Buffer.concat([PLAIN, json])
}

export function unpack<Value>(bytes: Buffer): Value {
  const body = bytes.subarray(1)
  return JSON.parse((bytes[0] === DEFLATED[0] ? inflateRawSync(body) : body).toString())
}

/** Passed over in a history: 0 no, 1 empty, 2 deleted. */
type Skip = 0 | 1 | 2

type Unplaced = Omit<
  MessageRecord,
  'session_id' | 'user_id' | 'parent_message_id' | 'sequence_number' | 'created_at'
>

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
}: Unplaced & Partial<MessageRecord>): Buffer => pack(body)

const letterOf = (role: MessageRecord['role']): string => role.slice(0, 1)

/**
 * A record as scripts read it: `parent sequence role skip createdAt user` in a line of text, then what only this file
 * reads. A question's line is written by the script that gives it its place.
 */
export const writeEntry = (record: MessageRecord, skip: Skip = skipOf(record)): Buffer =>
  Buffer.concat([
    Buffer.from(
      `${[
        record.parent_message_id ?? '-',
        record.sequence_number,
        letterOf(record.role),
        skip,
        Date.parse(record.created_at),
        encodeURIComponent(record.user_id),
      ].join(' ')}\n`,
    ),
    skip === 2 ? pack({}) : packBody(record),
  ])

export function readEntry(sessionId: string, bytes: Buffer): MessageRecord {
  const end = bytes.indexOf(10)
  const [parent = '-', sequence, , , createdAt, user = ''] = bytes.subarray(0, end).toString().split(' ')
  return {
    ...unpack<Unplaced>(bytes.subarray(end + 1)),
    session_id: sessionId,
    user_id: decodeURIComponent(user),
    parent_message_id: parent === '-' ? null : parent,
    sequence_number: Number(sequence),
    created_at: new Date(Number(createdAt)).toISOString(),
  }
}
