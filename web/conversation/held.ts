/** What the page holds of one conversation, and every way in which that changes. */
import type { Session } from '../../lambdas/protocol/sessions.ts'
import type { Failure } from '../failure.ts'
import { type Signal, signal } from '../store.ts'
import { keepTurns } from './kept-turns.ts'
import { type ConversationState, isBusy } from './state.ts'
import type { Turn } from './turn.ts'

export interface Held {
  readonly sessionId: string
  readonly state: Signal<ConversationState>
  /** The page made the id up, and the server was not seen to know it. */
  isProvisional: boolean
  patch(part: Partial<ConversationState>): void
  /** A turn is known by its key. */
  patchTurn(key: string, part: (turn: Turn) => Partial<Turn>): void
  /** Writes the turns to where a reload finds them. */
  keepTurns(): void
  /** Puts a turn, or nothing, where it was. */
  replaceTurn(key: string, turn: Turn | null): void
  failTurn(turn: Turn, failure: Failure): void
  /** It takes no more questions, for good. */
  markEnded(): void
}

/** `changed` is called whenever something happened that the list of conversations shows. */
export function holdConversation(
  sessionId: string,
  isNew: boolean,
  changed: (session: Session, busy: boolean) => void,
): Held {
  const state = signal<ConversationState>({
    loading: isNew ? 'new' : 'loading',
    loadFailure: null,
    session: null,
    ended: false,
    messages: [],
    turns: [],
    chosen: null,
    interruptions: {},
  })

  const held: Held = {
    sessionId,
    state,
    isProvisional: isNew,

    patch(part) {
      state.update((now) => ({ ...now, ...part }))
      const { session } = state.value
      if (session !== null) changed(session, isBusy(state.value))
    },

    patchTurn(key, part) {
      held.patch({
        turns: state.value.turns.map((turn) => (turn.key === key ? { ...turn, ...part(turn) } : turn)),
      })
    },

    keepTurns: () => keepTurns(sessionId, state.value.turns),

    replaceTurn(key, turn) {
      held.patch({
        turns: state.value.turns.flatMap((one) => (one.key !== key ? [one] : turn === null ? [] : [turn])),
      })
      held.keepTurns()
    },

    failTurn(turn, failure) {
      held.replaceTurn(turn.key, { ...turn, phase: 'failed', failure })
    },

    markEnded() {
      const { session } = state.value
      const endedAt = new Date().toISOString()
      held.patch({ ended: true, session: session && { ...session, isActive: false, endedAt } })
    },
  }
  return held
}
