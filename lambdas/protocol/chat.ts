/** A question and its answer, event by event. */
import * as v from 'valibot'
import type { ErrorCode } from './errors.ts'
import { label, metadata, notBlank, storable, uuid } from './fields.ts'

export const locales = ['en', 'ko'] as const
export type Locale = (typeof locales)[number]

export const chatRequestSchema = v.strictObject({
  message: v.pipe(v.string(), notBlank, storable),
  sessionId: v.optional(uuid),
  userId: v.optional(label),
  threadId: v.optional(label, 'main'),
  channel: v.optional(label),
  parentMessageId: v.optional(v.nullable(uuid)),
  attachments: v.optional(v.pipe(v.array(uuid), v.maxLength(20, 'must be at most 20'))),
  metadata: v.optional(metadata, {}),
  locale: v.optional(v.picklist(locales, `must be one of ${locales.join(', ')}`)),
})
export type ChatRequest = v.InferOutput<typeof chatRequestSchema>

export const idempotencyKeySchema = v.pipe(
  v.string(),
  v.regex(/^[\x20-\x7e]{1,255}$/, 'must be 1 to 255 printable characters'),
)

export interface Source {
  id: string
  title: string
  score: number
  url?: string
  excerpt?: string
}

export type FinishReason = 'stop' | 'length' | 'stopped'
export type ReplyStage = 'analyzing' | 'searching' | 'answering'

export interface ReplyMetadata {
  tokenUsage: number
  promptTokens: number
  completionTokens: number
  /** Milliseconds from the request's arrival to the end of the answer. */
  responseTime: number
  /** Earlier messages that the model was given. */
  contextLength: number
  sessionMessageCount: number
  model: string
  /** True when the answer was replayed from what was saved. */
  cached?: boolean
}

export type ReplyEvent =
  | {
      type: 'session'
      sessionId: string
      threadId: string
      userMessageId: string
      messageId: string
      created: boolean
      resumeUrl?: string
    }
  | { type: 'status'; stage: ReplyStage; message: string }
  | { type: 'token'; content: string }
  | { type: 'sources'; sources: Source[] }
  | {
      type: 'done'
      sessionId: string
      messageId: string
      finishReason: FinishReason
      metadata: ReplyMetadata
    }
  | { type: 'error'; code: ReplyErrorCode; message: string; retryable: boolean; messageId: string }

/** An event and its place in the reply: 0, 1, 2, …, the same for every reader. */
export interface NumberedEvent {
  id: number
  event: ReplyEvent
}

/** What can go wrong once an answer has begun; before that it is an HTTP error. */
export type ReplyErrorCode = ErrorCode | 'not_saved' | 'interrupted'

/** What `POST /api/chat` returns when the answer is there in time. */
export interface ChatAnswer {
  sessionId: string
  threadId: string
  userMessageId: string
  messageId: string
  content: string
  sources: Source[]
  finishReason: FinishReason
  metadata: ReplyMetadata
}
