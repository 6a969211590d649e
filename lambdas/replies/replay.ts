/** A request whose idempotency key names a turn that is there already: the same answer once more, from its start. */
import { CodedError, type FinishReason, type ReplyEvent } from '../protocol.ts'
import type { ClaimedTurn, StoredMessage } from '../services/hot-store.ts'
import { errorPhrases } from './phrases.ts'
import type { ReplyRequest, ReplyServices } from './reply.ts'

/**
 * Refuses `idempotency_mismatch` for another body, `reply_in_progress` while the answer is being written, and
 * `erased` where the turn is gone.
 */
export async function* replay(
  { hotStore, content }: Pick<ReplyServices, 'hotStore' | 'content'>,
  { caller, locale }: Pick<ReplyRequest, 'caller' | 'locale'>,
  claim: ClaimedTurn,
): AsyncGenerator<ReplyEvent, void> {
  if (!claim.bodyMatches)
    throw new CodedError('idempotency_mismatch', 'This Idempotency-Key was used with another request.')
  const turn = await hotStore.readTurn(caller, claim.userMessageId, claim.messageId)
  if (turn === undefined || turn.question.is_deleted || turn.answer?.is_deleted)
    throw new CodedError('erased', 'The turn that this Idempotency-Key names is gone.')
  if (turn.answer === undefined)
    throw new CodedError('reply_in_progress', 'The answer to this request is being written.', {
      details: { messageId: claim.messageId },
    })
  const { answer, sessionMessageCount } = turn
  const text = answer.content_key === null ? answer.content : await content.read(answer.content_key)

  yield {
    type: 'session',
    sessionId: claim.sessionId,
    threadId: answer.thread_id,
    userMessageId: claim.userMessageId,
    messageId: claim.messageId,
    created: false,
  }
  if (text !== '') yield { type: 'token', content: text }
  if (answer.sources.length > 0) yield { type: 'sources', sources: answer.sources }
  if (answer.status === 'interrupted')
    yield {
      type: 'error',
      code: 'interrupted',
      message: errorPhrases[locale].interrupted,
      retryable: true,
      messageId: claim.messageId,
    }
  else yield done(claim, answer, sessionMessageCount)
}

function done(claim: ClaimedTurn, answer: StoredMessage, sessionMessageCount: number): ReplyEvent {
  const {
    promptTokens = 0,
    contextLength = 0,
    finishReason = 'stop',
  } = answer.metadata as {
    promptTokens?: number
    contextLength?: number
    finishReason?: FinishReason
  }
  const completionTokens = answer.token_count ?? 0
  return {
    type: 'done',
    sessionId: claim.sessionId,
    messageId: claim.messageId,
    finishReason: answer.status === 'stopped' ? 'stopped' : finishReason,
    metadata: {
      tokenUsage: promptTokens + completionTokens,
      promptTokens,
      completionTokens,
      responseTime: answer.response_time_ms ?? 0,
      contextLength,
      sessionMessageCount,
      model: answer.model ?? '',
      cached: true,
    },
  }
}
