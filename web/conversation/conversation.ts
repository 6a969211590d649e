/**
 * One conversation and what one can do in it. It lives on when another one is opened, so that an answer goes on
 * arriving. What the page knows of it is in held.ts; how it gets to know in opening.ts, answering.ts and reading.ts.
 */
import type { Locale } from '../../lambdas/protocol/chat.ts'
import type { Message } from '../../lambdas/protocol/messages.ts'
import type { Session } from '../../lambdas/protocol/sessions.ts'
import type { Api, Question } from '../api.ts'
import { newId } from '../id.ts'
import type { Signal } from '../store.ts'
import { start } from './answering.ts'
import { merge, newestBranch, siblingsOf } from './branch.ts'
import { openDraft } from './draft.ts'
import { holdConversation } from './held.ts'
import { load, watchOtherTabs } from './opening.ts'
import {
  type ConversationState,
  canSend,
  isBranching,
  isBusy,
  provisionalSession,
  titleFrom,
  visibleMessages,
} from './state.ts'
import { stopRunning } from './stopping.ts'
import { newTurn, restarted, type Turn } from './turn.ts'

export interface Conversation {
  readonly sessionId: string
  readonly state: Signal<ConversationState>
  readonly draft: Signal<string>
  load(): Promise<void>
  type(text: string): void
  /** False where an answer is still being written. */
  send(text: string): boolean
  /** Repeats a failed turn, or goes on with it where its answer had begun. */
  retry(turn: Turn): void
  /** Ends the answer that is being written where it is. */
  stop(): void
  /** Has the question of an answer answered once more; the new answer takes its place. */
  answerAgain(answer: Message): void
  /** Shows this one of several answers to a question. */
  choose(answer: Message): void
  /** Takes a failed question back into the composer; one that is saved already is left as it was. */
  takeBack(turn: Turn): void
  rename(title: string): Promise<void>
  end(): Promise<void>
  rate(answer: Message, score: number): Promise<void>
}

export interface ConversationContext {
  api: Api
  locale: Locale
  /** Called whenever something happened that the list of conversations shows. */
  changed(session: Session, busy: boolean): void
}

export function openConversation(
  sessionId: string,
  isNew: boolean,
  { api, locale, changed }: ConversationContext,
): Conversation {
  const held = holdConversation(sessionId, isNew, changed)
  const { state, patch } = held
  const draft = openDraft(isNew ? 'new' : sessionId)
  const questionOf = (message: string): Question => ({ message, sessionId, channel: 'web', locale })
  watchOtherTabs(held, api, questionOf)

  return {
    sessionId,
    state,
    draft: draft.text,
    load: () => load(held, api, questionOf),
    type: draft.type,

    send(text) {
      if (!canSend(state.value) || text.trim() === '') return false
      draft.type('')
      draft.moveTo(sessionId)
      const tip = visibleMessages(state.value).at(-1)
      // Below an answer that is not the newest, a question has to say so.
      const branch =
        state.value.chosen !== null && tip !== undefined ? { parentMessageId: tip.messageId } : {}
      if (state.value.session === null) {
        const now = new Date()
        patch({ loading: 'ready', session: provisionalSession(sessionId, titleFrom(text), now) })
      }
      // A question that was to be answered anew is saved already; what was never sent stays to be seen.
      const others = state.value.turns.filter((turn) => !isBranching(turn))
      start(held, api, newTurn(newId(), { ...questionOf(text), ...branch }, tip?.messageId ?? null), others)
      return true
    },

    retry(turn) {
      if (isBusy(state.value)) return
      const others = state.value.turns.filter((one) => one.key !== turn.key)
      const code = turn.failure?.code
      const isUnderWay = turn.messageId !== null && code !== 'unanswered'
      if (isUnderWay)
        return start(held, api, { ...turn, phase: 'reconnecting', failure: null, stopping: false }, others)
      // The outcome is open, or nothing was made: the old key keeps it one turn. A key that is spent cannot.
      const again = restarted(turn, code === 'idempotency_mismatch' ? newId() : turn.key)
      start(held, api, turn.again === null ? again : { ...again, phase: 'reconnecting' }, others)
    },

    stop: () => stopRunning(held, api),

    answerAgain(answer) {
      const { messages, turns, interruptions } = state.value
      const asked = messages.find((message) => message.messageId === answer.parentMessageId)
      if (asked === undefined || isBusy(state.value)) return
      const question = questionOf(asked.content)
      const { parentMessageId } = asked
      // Where nothing could be saved, the server may not know the question: it is asked as a new one.
      if (interruptions[answer.messageId]?.code === 'not_saved')
        return start(held, api, newTurn(newId(), { ...question, parentMessageId }, parentMessageId), turns)
      const again = {
        target: answer.messageId,
        known: siblingsOf(messages, answer).map(({ messageId }) => messageId),
        after: asked.sequenceNumber,
      }
      const turn = { ...newTurn(newId(), question, parentMessageId), again, userMessageId: asked.messageId }
      start(held, api, turn, turns)
    },

    choose(answer) {
      const isNewest = newestBranch(state.value.messages).includes(answer)
      patch({ chosen: isNewest ? null : answer.messageId })
    },

    takeBack(turn) {
      if (turn.userMessageId === null) {
        const typed = draft.text.value.trim()
        draft.type(typed === '' ? turn.question.message : `${turn.question.message}\n\n${typed}`)
      }
      held.replaceTurn(turn.key, null)
    },

    async rename(title) {
      const before = state.value.session
      if (before === null || title === before.title) return
      patch({ session: { ...before, title } })
      try {
        await api.rename(sessionId, title)
      } catch (error) {
        patch({ session: state.value.session && { ...state.value.session, title: before.title } })
        throw error
      }
    },

    async end() {
      await api.end(sessionId)
      held.markEnded()
    },

    async rate(answer, score) {
      await api.rate(answer.messageId, score)
      const rated = { ...answer, satisfactionScore: score }
      patch({ messages: merge(state.value.messages, [rated]) })
    },
  }
}
