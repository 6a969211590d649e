/** A question on its way and the answer that comes back: what is known of it, and how each event changes that. */
import type { NumberedEvent, ReplyEvent, Source } from '../../lambdas/protocol/chat.ts'
import type { Message } from '../../lambdas/protocol/messages.ts'
import type { Question } from '../api.ts'
import type { Failure } from '../failure.ts'

/**
 * sending: the request is out and nothing came back. streaming: events arrive. reconnecting: the connection was lost,
 * and the page gets a new one by itself. waiting: another device asked, and the answer is looked for now and then.
 * failed: nobody works on it any more.
 */
export type Phase = 'sending' | 'streaming' | 'reconnecting' | 'waiting' | 'failed'

/** A question that is saved already, to be answered once more. */
export interface Again {
  /** The answer that the new one stands beside, or the question. */
  target: string
  /** The answers that there were. */
  known: string[]
  /** The sequence number before the answers'. */
  after: number
}

export interface Turn {
  /** Names this turn for ever: repeating the request under it never makes a second answer. */
  key: string
  question: Question
  /** Null: the question is a new one. */
  again: Again | null
  /** The message that it is shown after; null: it is the first. */
  after: string | null
  startedAt: number
  phase: Phase
  failure: Failure | null
  /** Somebody wants it to end here. */
  stopping: boolean
  lastEventId: number
  userMessageId: string | null
  messageId: string | null
  /** What the server is doing, in the user's language. */
  status: string | null
  content: string
  sources: Source[]
}

export const newTurn = (key: string, question: Question, after: string | null): Turn => ({
  key,
  question,
  again: null,
  after,
  startedAt: Date.now(),
  phase: 'sending',
  failure: null,
  stopping: false,
  lastEventId: -1,
  userMessageId: null,
  messageId: null,
  status: null,
  content: '',
  sources: [],
})

/** The same turn before it was sent: a repetition under its key answers from the start. */
export const restarted = (turn: Turn, key = turn.key): Turn => ({
  ...newTurn(key, turn.question, turn.after),
  again: turn.again,
  // A question that is answered again keeps its name; a new one gets it with its answer.
  userMessageId: turn.again === null ? null : turn.userMessageId,
})

export type TerminalEvent = Extract<ReplyEvent, { type: 'done' | 'error' }>

export const isTerminal = (event: ReplyEvent): event is TerminalEvent =>
  event.type === 'done' || event.type === 'error'

/** The turn after an event; one that it has seen changes nothing. */
export function applied(turn: Turn, { id, event }: NumberedEvent): Turn {
  if (id <= turn.lastEventId) return turn
  const next: Turn = { ...turn, phase: 'streaming', lastEventId: id }
  switch (event.type) {
    case 'session':
      return { ...next, userMessageId: event.userMessageId, messageId: event.messageId }
    case 'status':
      return { ...next, status: event.message }
    case 'token':
      return { ...next, content: turn.content + event.content }
    case 'sources':
      return { ...next, sources: event.sources }
    default:
      // Terminal events, and kinds that are added later.
      return next
  }
}

const noBusinessFields = {
  inquiryCategory: null,
  satisfactionScore: null,
  feedbackComment: null,
  resolutionStatus: null,
  priority: null,
  followUpNeeded: null,
  businessImpact: null,
}

/** The two messages that an ended turn became, much as the next read will list them. */
export function messagesOf(turn: Turn, end: TerminalEvent, known: Message[]): Message[] {
  const { userMessageId, messageId } = turn
  if (userMessageId === null || messageId === null) return []
  const asked = (known.find((message) => message.messageId === turn.after)?.sequenceNumber ?? 0) + 1
  // This machine's clock may be behind the server's; what was made last must still come last.
  const now = new Date().toISOString()
  const createdAt = [now, ...known.map((message) => message.createdAt)].sort().at(-1) ?? now
  const common = {
    ...noBusinessFields,
    sessionId: turn.question.sessionId ?? '',
    threadId: 'main',
    tokenCount: null,
    responseTimeMs: null,
    model: null,
    metadata: {},
    createdAt,
  }
  const question: Message = {
    ...common,
    messageId: userMessageId,
    role: 'user',
    content: turn.question.message,
    status: 'complete',
    sequenceNumber: asked,
    parentMessageId: turn.after,
    sources: [],
  }
  const answer: Message = {
    ...common,
    messageId,
    role: 'assistant',
    content: turn.content,
    status: end.type === 'error' ? 'interrupted' : end.finishReason === 'stopped' ? 'stopped' : 'complete',
    sequenceNumber: asked + 1,
    parentMessageId: userMessageId,
    sources: turn.sources,
  }
  if (end.type === 'done') {
    answer.tokenCount = end.metadata.completionTokens
    answer.responseTimeMs = end.metadata.responseTime
    answer.model = end.metadata.model
  }
  return [known.find((message) => message.messageId === userMessageId) ?? question, answer]
}
