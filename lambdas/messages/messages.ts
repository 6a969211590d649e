/** Messages as clients read and change them, wherever they stand by now. */
import { findingMoved } from '../ageing/copies.ts'
import { type ThawServices, thawing } from '../ageing/thaw.ts'
import type { Caller } from '../protocol/callers.ts'
import { CodedError } from '../protocol/errors.ts'
import type { Feedback, Message, MessageListQuery, MessagePage } from '../protocol/messages.ts'
import type { Bucket } from '../services/bucket.ts'
import type { Archived, StoredMessage } from '../services/hot-store.ts'
import { toBusinessFields } from '../sessions/business-fields.ts'
import { actorBody } from '../tenants/audit.ts'
import { messagesInSequence } from './in-sequence.ts'

export interface MessageServices extends ThawServices {
  bucket: Pick<Bucket, 'get' | 'getRange'>
}

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
  feedbackComment: row.feedback_comment ?? null,
  ...toBusinessFields(row),
})

/**
 * Messages of a session, all branches. A page holds at least one position, whole: siblings share a sequence number
 * and are never split. It ends where the limit or the size of an answer is reached, and where it has cost enough: then it has
 * fewer messages, or none, and says where to go on. Refuses `unavailable` where it reaches into a part of the archive that
 * cannot be read.
 */
export const listMessages = (
  services: MessageServices,
  caller: Caller,
  sessionId: string,
  query: MessageListQuery,
): Promise<MessagePage> =>
  findingMoved(services.count, async () => {
    const items: Message[] = []
    let bytes = 0
    const messages = messagesInSequence(services, caller, sessionId, query)
    for (;;) {
      const next = await messages.next()
      if (next.done) return { items, nextAfter: next.value }
      const { row, text } = next.value
      const previous = items.at(-1)?.sequenceNumber
      const full = items.length >= query.limit || bytes >= PAGE_BYTES
      if (full && previous !== undefined && row.sequence_number !== previous)
        return { items, nextAfter: previous }
      bytes += Buffer.byteLength(text)
      items.push(toMessage(row, text))
    }
  })

export async function leaveFeedback(
  services: MessageServices,
  caller: Caller,
  messageId: string,
  feedback: Feedback,
): Promise<void> {
  await touch(services, caller, messageId, async () => {
    const [row] = await services.database.callFor<{ leave_feedback: boolean }>(caller, 'leave_feedback', [
      { jsonb: actorBody(caller) },
      { uuid: messageId },
      { integer: feedback.score },
      { text: feedback.comment ?? null },
    ])
    return row?.leave_feedback ?? false
  })
}

export async function deleteMessage(
  services: MessageServices,
  caller: Caller,
  messageId: string,
): Promise<void> {
  await touch(services, caller, messageId, async () => {
    const [row] = await services.database.callFor<{ delete_message: boolean }>(caller, 'delete_message', [
      { jsonb: actorBody(caller) },
      { uuid: messageId },
    ])
    return row?.delete_message ?? false
  })
}

/** Changes a message, which comes back from the archive first where it has left. `change` tells whether it is there. */
async function touch(
  services: MessageServices,
  caller: Caller,
  messageId: string,
  change: () => Promise<boolean>,
): Promise<void> {
  const isThere = await thawing(services, caller, async (): Promise<boolean | Archived> => {
    if (await change()) return true
    const rows = await services.database.callFor<{ body: string }>(caller, 'find_archived', [
      { jsonb: actorBody(caller) },
      { uuid: messageId },
    ])
    if (rows.length === 0) return false
    return { outcome: 'archived', archived: rows.map(({ body }) => JSON.parse(body)) }
  })
  if (!isThere) throw noMessage()
}
