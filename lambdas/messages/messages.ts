/** Messages as clients read them, wherever they stand by now: in their table, with their turn, or in the bucket. */
import {
  type Caller,
  CodedError,
  type Feedback,
  type Message,
  type MessageListQuery,
  type MessagePage,
} from '../protocol.ts'
import type { Bucket } from '../services/bucket.ts'
import type { Database } from '../services/database.ts'
import type { StoredMessage } from '../services/hot-store.ts'
import { actorBody } from '../tenants/audit.ts'
import { readText } from './large-text.ts'

/** Text that one call may return: the Data API's response holds 1 MiB, and JSON within JSON may double a text. */
const CALL_BYTES = 400_000
/** Text in one answer of ours: a buffered Lambda response holds 6 MB, escapes included. */
const PAGE_BYTES = 2_000_000

const noMessage = (): CodedError => new CodedError('not_found', 'There is no such message.')

const toMessage = (row: StoredMessage, content: string): Message => ({
  messageId: row.id,
  sessionId: row.session_id,
  threadId: row.thread_id,
  role: row.role,
  content,
  status: row.status,
  sequenceNumber: row.sequence_number,
  parentMessageId: row.parent_message_id,
  tokenCount: row.token_count,
  responseTimeMs: row.response_time_ms,
  model: row.model,
  sources: row.sources,
  metadata: row.metadata,
  createdAt: new Date(row.created_at).toISOString(),
  inquiryCategory: row.inquiry_category,
  satisfactionScore: row.satisfaction_score,
  resolutionStatus: row.resolution_status,
  priority: row.priority,
  followUpNeeded: row.follow_up_needed,
  businessImpact: row.business_impact,
})

interface Place {
  sequence: number | null
  id: string | null
}

/** One call's worth of rows from a place on; Postgres may cut it short of the limit by size. */
async function readRows(
  database: Database,
  caller: Caller,
  sessionId: string,
  query: MessageListQuery,
  after: Place,
): Promise<StoredMessage[]> {
  const rows = await database.callFor<{ kind: 'session' | 'message'; body: string }>(
    caller,
    'list_messages',
    [
      { jsonb: actorBody(caller) },
      { uuid: sessionId },
      { text: query.threadId ?? null },
      { boolean: query.order === 'desc' },
      { integer: after.sequence },
      { uuid: after.id },
      { integer: query.limit + 1 },
      { integer: CALL_BYTES },
    ],
  )
  if (rows.length === 0) throw new CodedError('not_found', 'There is no such session.')
  return rows.filter(({ kind }) => kind === 'message').map(({ body }) => JSON.parse(body))
}

/**
 * Messages of a session, all branches. A page holds at least one position, whole: siblings share a sequence number
 * and are never split. It ends where the limit or the size of an answer is reached.
 */
export async function listMessages(
  { database, bucket }: { database: Database; bucket: Bucket },
  caller: Caller,
  sessionId: string,
  query: MessageListQuery,
): Promise<MessagePage> {
  const items: Message[] = []
  let bytes = 0
  let place: Place = { sequence: query.after ?? null, id: null }
  for (;;) {
    const rows = await readRows(database, caller, sessionId, query, place)
    if (rows.length === 0) return { items, nextAfter: null }
    const texts = await Promise.all(rows.map((row) => readText(bucket, row)))
    for (const [index, row] of rows.entries()) {
      const previous = items.at(-1)?.sequenceNumber
      const full = items.length >= query.limit || bytes >= PAGE_BYTES
      if (full && previous !== undefined && row.sequence_number !== previous)
        return { items, nextAfter: previous }
      const text = texts[index] ?? ''
      bytes += Buffer.byteLength(text)
      items.push(toMessage(row, text))
      place = { sequence: row.sequence_number, id: row.id }
    }
  }
}

export async function leaveFeedback(
  database: Database,
  caller: Caller,
  messageId: string,
  feedback: Feedback,
): Promise<void> {
  const [row] = await database.callFor<{ leave_feedback: boolean }>(caller, 'leave_feedback', [
    { jsonb: actorBody(caller) },
    { uuid: messageId },
    { integer: feedback.score },
    { text: feedback.comment ?? null },
  ])
  if (!row?.leave_feedback) throw noMessage()
}

export async function deleteMessage(database: Database, caller: Caller, messageId: string): Promise<void> {
  const [row] = await database.callFor<{ delete_message: boolean }>(caller, 'delete_message', [
    { jsonb: actorBody(caller) },
    { uuid: messageId },
  ])
  if (!row?.delete_message) throw noMessage()
}
