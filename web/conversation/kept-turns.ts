/** The turns of a conversation that are not settled, kept in the browser: enough to repeat or to find one. */
import { plainFailure } from '../failure.ts'
import { onOtherTab, read, write } from '../storage.ts'
import { newTurn, type Turn } from './turn.ts'

/** A question without an answer that is older waits for a click. */
export const RESUMES_WITHIN_MS = 10 * 60_000

/** Nothing of the answer is kept: the server has it. */
type KeptTurn = Pick<
  Turn,
  'key' | 'question' | 'again' | 'after' | 'startedAt' | 'failure' | 'userMessageId' | 'messageId'
>

const storageKey = (sessionId: string): string => `turns.${sessionId}`

export function keepTurns(sessionId: string, turns: Turn[]): void {
  const kept = turns.map(
    ({ key, question, again, after, startedAt, failure, userMessageId, messageId }): KeptTurn => ({
      key,
      question,
      again,
      after,
      startedAt,
      // Without an answer from the server the outcome is open: a reload tries again.
      failure: failure?.code === 'unreachable' ? null : failure,
      userMessageId,
      messageId,
    }),
  )
  write(storageKey(sessionId), kept.length > 0 ? kept : null)
}

/** Null: none were kept. */
export const keptTurns = (sessionId: string): KeptTurn[] | null => read<KeptTurn[]>(storageKey(sessionId))

export const onTurnsOfOtherTab = (sessionId: string, listener: () => void): void =>
  onOtherTab(storageKey(sessionId), listener)

/** The turn as it goes on here: under way again, or failed where a person has to decide. */
export function restored(kept: KeptTurn): Turn {
  const turn: Turn = { ...newTurn(kept.key, kept.question, kept.after), ...kept }
  // An answer with a name can be followed at any time. For one without, the key makes it safe to ask again.
  const goesOn = turn.messageId !== null || Date.now() - turn.startedAt < RESUMES_WITHIN_MS
  const failure = turn.failure ?? (goesOn ? null : plainFailure('unanswered'))
  const wasNeverSent = turn.messageId === null && turn.again === null
  const phase = failure !== null ? 'failed' : wasNeverSent ? 'sending' : 'reconnecting'
  return { ...turn, phase, failure }
}
