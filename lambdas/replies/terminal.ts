/** The terminal event of a reply: what is said last follows from the answer's record alone, whoever says it. */
import type { Locale, ReplyErrorCode, ReplyEvent } from '../protocol/chat.ts'
import type { MessageRecord } from '../protocol/queue.ts'
import { errorPhrases, type Phrased } from './phrases.ts'
import type { AnswerMetadata } from './records.ts'

export type Terminal = Extract<ReplyEvent, { type: 'done' | 'error' }>

export interface Failure {
  code: Extract<ReplyErrorCode, Phrased>
  retryable: boolean
}

export const failed = (locale: Locale, messageId: string, { code, retryable }: Failure): Terminal => ({
  type: 'error',
  code,
  message: errorPhrases[locale][code],
  retryable,
  messageId,
})

export const INTERRUPTED: Failure = { code: 'interrupted', retryable: true }

type Answer = Pick<
  MessageRecord,
  'id' | 'session_id' | 'status' | 'metadata' | 'token_count' | 'response_time_ms' | 'model'
>

/** `done` for a complete or stopped answer, `error` interrupted for an interrupted one. */
export function terminalOf(answer: Answer, sessionMessageCount: number, locale: Locale): Terminal {
  if (answer.status === 'interrupted') return failed(locale, answer.id, INTERRUPTED)
  const {
    promptTokens = 0,
    contextLength = 0,
    finishReason = 'stop',
  } = answer.metadata as Partial<AnswerMetadata>
  const completionTokens = answer.token_count ?? 0
  return {
    type: 'done',
    sessionId: answer.session_id,
    messageId: answer.id,
    finishReason: answer.status === 'stopped' ? 'stopped' : finishReason,
    metadata: {
      tokenUsage: promptTokens + completionTokens,
      promptTokens,
      completionTokens,
      responseTime: answer.response_time_ms ?? 0,
      contextLength,
      sessionMessageCount,
      model: answer.model ?? '',
    },
  }
}
