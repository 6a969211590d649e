import * as v from 'valibot'
import type { Source } from './chat.ts'
import { label, score, storable } from './fields.ts'
import { limit } from './lists.ts'
import type { BusinessFields } from './sessions.ts'

export type MessageRole = 'user' | 'assistant' | 'system'
export type MessageStatus = 'complete' | 'stopped' | 'interrupted'

export interface Message extends BusinessFields {
  messageId: string
  sessionId: string
  threadId: string
  role: MessageRole
  content: string
  status: MessageStatus
  /** 1 for a first question; otherwise the parent's plus one. Siblings share it. */
  sequenceNumber: number
  parentMessageId: string | null
  tokenCount: number | null
  responseTimeMs: number | null
  model: string | null
  sources: Source[]
  metadata: Record<string, unknown>
  createdAt: string
  /** Beside satisfactionScore, where somebody said more. */
  feedbackComment: string | null
}

export interface MessagePage {
  items: Message[]
  /** Pass it as `after` to read on, also where there are no items; null at the end. */
  nextAfter: number | null
}

export const feedbackSchema = v.strictObject({
  score,
  comment: v.optional(v.pipe(v.string(), v.maxLength(2_000, 'must be at most 2000 characters'), storable)),
})
export type Feedback = v.InferOutput<typeof feedbackSchema>

export const messageListSchema = v.object({
  threadId: v.optional(label),
  after: v.optional(
    v.pipe(v.string(), v.regex(/^\d{1,9}$/, 'must be a sequence number'), v.transform(Number)),
  ),
  limit,
  order: v.optional(v.picklist(['asc', 'desc'], 'must be asc or desc'), 'asc'),
})
export type MessageListQuery = v.InferOutput<typeof messageListSchema>
