/** A request whose idempotency key names a turn that is there already: the same answer once more, from its start. */
import { thawing } from '../ageing/thaw.ts'
import { readText } from '../messages/large-text.ts'
import type { NumberedEvent, ReplyEvent } from '../protocol/chat.ts'
import { CodedError } from '../protocol/errors.ts'
import type { ClaimedTurn } from '../services/hot-store.ts'
import { follow } from './follow.ts'
import type { ReplyRequest, ReplyServices } from './reply.ts'
import { terminalOf } from './terminal.ts'

/**
 * Attaches to the answer while its log is there, running or finished; later it is replayed from what was saved.
 * Refuses `idempotency_mismatch` for another body, and `erased` where the turn is gone.
 */
export async function* replay(
  services: ReplyServices,
  { caller, locale, log, signal, endBy }: ReplyRequest,
  claim: ClaimedTurn,
): AsyncGenerator<NumberedEvent[], void> {
  if (!claim.bodyMatches)
    throw new CodedError('idempotency_mismatch', 'This Idempotency-Key was used with another request.')
  const tenant = { companyId: caller.companyId, platform: caller.platform }
  const page = await services.hotStore.readLog(tenant, null, claim.messageId, -1)
  if (page?.erased === false)
    yield* follow(services, { tenant, ownedBy: null, log, signal, endBy }, claim.messageId, -1, page)
  else {
    const turn = await thawing(services, tenant, () =>
      services.hotStore.readTurn(tenant, claim.userMessageId, claim.messageId),
    )
    if (turn?.answer === undefined || turn.question.is_deleted || turn.answer.is_deleted)
      throw new CodedError('erased', 'The turn that this Idempotency-Key names is gone.')
    const { answer, sessionMessageCount } = turn
    const content = await readText(services.bucket, answer)
    const terminal = terminalOf(answer, sessionMessageCount, locale)
    const events: ReplyEvent[] = [
      {
        type: 'session',
        sessionId: claim.sessionId,
        threadId: answer.thread_id,
        userMessageId: claim.userMessageId,
        messageId: claim.messageId,
        created: false,
      },
      ...(content === '' ? [] : [{ type: 'token', content } as const]),
      ...(answer.sources.length === 0 ? [] : [{ type: 'sources', sources: answer.sources } as const]),
      terminal.type === 'done' ? { ...terminal, metadata: { ...terminal.metadata, cached: true } } : terminal,
    ]
    yield events.map((event, id) => ({ id, event }))
  }
}
