/** The two records of a turn as they travel to Postgres. */
import type { Tenant } from '../protocol/callers.ts'
import type { ChatRequest, FinishReason, Source } from '../protocol/chat.ts'
import type { MessageStatus } from '../protocol/messages.ts'
import type { MessageRecord, OnSave } from '../protocol/queue.ts'
import { countCharacters, estimateTokens } from '../protocol/text.ts'
import type { OpenedTurn, UnplacedQuestion } from '../services/hot-store.ts'

export const questionRecord = (tenant: Tenant, id: string, chat: ChatRequest): UnplacedQuestion => ({
  company_id: tenant.companyId,
  platform: tenant.platform,
  id,
  thread_id: chat.threadId,
  role: 'user',
  content: chat.message,
  content_key: null,
  status: 'complete',
  token_count: estimateTokens(chat.message),
  response_time_ms: null,
  model: null,
  sources: [],
  metadata: chat.attachments ? { ...chat.metadata, attachments: chat.attachments } : chat.metadata,
})

/** Where an answer stands: whatever knows this can write its record, its writer or a rescuer. */
export interface AnswerPlace extends Tenant {
  messageId: string
  questionId: string
  sessionId: string
  threadId: string
  userId: string
  sequenceNumber: number
  openedAt: string
  onSave?: OnSave | undefined
}

export const placeOf = (turn: OpenedTurn, messageId: string): AnswerPlace => ({
  companyId: turn.question.company_id,
  platform: turn.question.platform,
  messageId,
  questionId: turn.question.id,
  sessionId: turn.sessionId,
  threadId: turn.question.thread_id,
  userId: turn.question.user_id,
  sequenceNumber: turn.answerSequenceNumber,
  openedAt: turn.openedAt,
  onSave: turn.onSave,
})

export interface AnswerFacts {
  content: string
  status: MessageStatus
  finishReason: FinishReason
  completionTokens: number
  promptTokens: number
  contextLength: number
  responseTimeMs: number | null
  model: string | null
  sources: Source[]
}

/** What `done` says beyond the message's own columns, kept with the message so that it can be said again. */
export interface AnswerMetadata extends Pick<AnswerFacts, 'finishReason' | 'promptTokens' | 'contextLength'> {
  /** Of the text, which need not stand in the row: usage counts them. */
  characters: number
}

export const answerRecord = (place: AnswerPlace, facts: AnswerFacts): MessageRecord => ({
  company_id: place.companyId,
  platform: place.platform,
  id: place.messageId,
  session_id: place.sessionId,
  thread_id: place.threadId,
  role: 'assistant',
  content: facts.content,
  content_key: null,
  status: facts.status,
  token_count: facts.completionTokens,
  response_time_ms: facts.responseTimeMs,
  model: facts.model,
  sources: facts.sources,
  metadata: {
    finishReason: facts.finishReason,
    promptTokens: facts.promptTokens,
    contextLength: facts.contextLength,
    characters: countCharacters(facts.content),
  } satisfies AnswerMetadata,
  parent_message_id: place.questionId,
  sequence_number: place.sequenceNumber,
  created_at: place.openedAt,
  user_id: place.userId,
  ...(place.onSave && { on_save: place.onSave }),
})
