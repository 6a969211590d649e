/** What the page knows of one conversation, and what follows from it. */
import type { Message } from '../../lambdas/protocol/messages.ts'
import type { Session } from '../../lambdas/protocol/sessions.ts'
import type { Failure } from '../failure.ts'
import { branchThrough, newestBranch, pathTo } from './branch.ts'
import type { Turn } from './turn.ts'

export interface ConversationState {
  /** new: nothing was sent yet. */
  loading: 'new' | 'loading' | 'ready' | 'failed'
  loadFailure: Failure | null
  session: Session | null
  /** Known to have been ended, for good. */
  ended: boolean
  /** Every branch. */
  messages: Message[]
  turns: Turn[]
  /** An answer beside others that somebody wants to see; null: the newest. */
  chosen: string | null
  /** Why an answer was interrupted, where this page was told. */
  interruptions: Record<string, Failure>
}

export const isBusy = (state: ConversationState): boolean =>
  state.turns.some((turn) => turn.phase !== 'failed')

/** For good; one that is merely expired comes back with the next question. */
export const isEnded = (session: Session): boolean => session.endedAt !== null

export const canSend = (state: ConversationState): boolean =>
  !state.ended && !isBusy(state) && (state.loading === 'ready' || state.loading === 'new')

/** A turn whose branch takes the place of the one that is shown. */
export const isBranching = ({ again, question }: Turn): boolean =>
  again !== null || question.parentMessageId !== undefined

/** The answer that is being written, where there is one. */
export const runningTurn = ({ turns }: ConversationState): Turn | undefined =>
  turns.find((turn) => turn.phase !== 'failed')

/** The saved messages to show above the turns: not what a turn shows itself, nor what it is to replace. */
export function visibleMessages({ messages, turns, chosen }: ConversationState): Message[] {
  const replacing = turns.findLast(isBranching)
  if (replacing !== undefined) {
    const tip = messages.find((message) => message.messageId === replacing.after)
    return pathTo(messages, tip)
  }
  const ids = new Set(turns.flatMap((turn) => [turn.userMessageId, turn.messageId]))
  const saved = messages.filter((message) => !ids.has(message.messageId))
  return chosen === null ? newestBranch(saved) : branchThrough(saved, chosen)
}

const TITLE_CHARACTERS = 60

/** A title for a conversation that has none: the beginning of its first question. */
export function titleFrom(text: string): string {
  const line = text.trim().split('\n', 1)[0] ?? ''
  const characters = [...line]
  return characters.length > TITLE_CHARACTERS
    ? `${characters.slice(0, TITLE_CHARACTERS - 1).join('')}…`
    : line
}

/** What the list shows of a conversation before the server has told about it. */
export function provisionalSession(sessionId: string, title: string, now: Date): Session {
  return {
    sessionId,
    userId: '',
    channel: 'web',
    title,
    createdAt: now.toISOString(),
    lastActiveAt: now.toISOString(),
    expiresAt: new Date(now.getTime() + 86_400_000).toISOString(),
    isActive: true,
    endedAt: null,
    messageCount: 0,
    metadata: {},
    inquiryCategory: null,
    satisfactionScore: null,
    resolutionStatus: null,
    priority: null,
    followUpNeeded: null,
    businessImpact: null,
  }
}
