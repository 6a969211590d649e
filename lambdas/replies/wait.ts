/** The same events for a client that would rather wait for the whole answer. */
import type { ChatAnswer, NumberedEvent, ReplyEvent } from '../protocol/chat.ts'
import { CodedError } from '../protocol/errors.ts'

type Begun = Extract<ReplyEvent, { type: 'session' }>

export interface AwaitedAnswer {
  /** Which turn it is, as soon as that is known. */
  turn: Promise<{ sessionId: string; messageId: string }>
  /** The answer; rejects with the CodedError that a stream would carry as an `error` event. */
  answer: Promise<ChatAnswer>
  /** Resolves when the turn has ended, however it ended. */
  finished: Promise<void>
}

export function waitForAnswer(events: AsyncIterable<NumberedEvent[]>): AwaitedAnswer {
  const turn = Promise.withResolvers<{ sessionId: string; messageId: string }>()
  const answer = collect(events, ({ sessionId, messageId }) => turn.resolve({ sessionId, messageId }))
  const finished = answer.then(
    () => undefined,
    () => undefined,
  )
  return { turn: turn.promise, answer, finished }
}

async function collect(
  batches: AsyncIterable<NumberedEvent[]>,
  onBegun: (event: Begun) => void,
): Promise<ChatAnswer> {
  let begun: Begun | undefined
  let content = ''
  let sources: ChatAnswer['sources'] = []
  let result: ChatAnswer | undefined
  let error: CodedError | undefined
  for await (const events of batches)
    for (const { event } of events)
      if (event.type === 'session') {
        begun = event
        onBegun(event)
      } else if (event.type === 'token') content += event.content
      else if (event.type === 'sources') sources = event.sources
      else if (event.type === 'error') error = toError(event)
      else if (event.type === 'done' && begun)
        result = {
          sessionId: begun.sessionId,
          threadId: begun.threadId,
          userMessageId: begun.userMessageId,
          messageId: begun.messageId,
          content,
          sources,
          finishReason: event.finishReason,
          metadata: event.metadata,
        }
  if (result) return result
  throw error ?? new Error('a reply ended without saying how')
}

/** What only a stream has a code for is the nearest thing HTTP has. */
function toError({
  code,
  message,
  messageId,
  retryable,
}: Extract<ReplyEvent, { type: 'error' }>): CodedError {
  const details = { messageId, retryable, reason: code }
  if (code === 'not_saved') return new CodedError('unavailable', message, { details })
  if (code === 'interrupted') return new CodedError('model_unavailable', message, { details })
  return new CodedError(code, message, { details })
}
