/** Opens a conversation that exists, and takes up again what is not settled in it. */
import type { Api, Question } from '../api.ts'
import { ApiError, failureOf, plainFailure } from '../failure.ts'
import { newId } from '../id.ts'
import { run } from './answering.ts'
import { merge, newestBranch } from './branch.ts'
import type { Held } from './held.ts'
import { keptTurns, onTurnsOfOtherTab, RESUMES_WITHIN_MS, restored } from './kept-turns.ts'
import { findSaved, lookFor, refresh } from './reading.ts'
import { isBusy, isEnded } from './state.ts'
import { newTurn, type Turn } from './turn.ts'

type QuestionOf = (message: string) => Question

/** Reads it whole the first time, and later what is new. */
export async function load(held: Held, api: Api, questionOf: QuestionOf): Promise<void> {
  const { sessionId, state, patch } = held
  if (state.value.loading === 'new') return
  if (state.value.loading === 'ready') return catchUp(held, api, questionOf)
  patch({ loading: 'loading', loadFailure: null })
  try {
    const [session, messages] = await Promise.all([api.conversation(sessionId), api.messages(sessionId)])
    patch({ session, ended: isEnded(session), messages: merge([], messages), loading: 'ready' })
  } catch (error) {
    const neverArrived = error instanceof ApiError && error.status === 404
    if (!neverArrived || keptTurns(sessionId) === null) {
      patch({ loading: 'failed', loadFailure: failureOf(error) })
      return
    }
    held.isProvisional = true
    patch({ loading: 'ready' })
  }
  restore(held, api, questionOf)
}

/** Follows what another tab of this browser does in it. */
export function watchOtherTabs(held: Held, api: Api, questionOf: QuestionOf): void {
  const { sessionId, state, patch } = held
  onTurnsOfOtherTab(sessionId, () => {
    if (state.value.loading !== 'ready') return
    // What was given up or taken back there is gone here too.
    const kept = new Set(keptTurns(sessionId)?.map(({ key }) => key))
    patch({ turns: state.value.turns.filter(({ phase, key }) => phase !== 'failed' || kept.has(key)) })
    void catchUp(held, api, questionOf)
  })
}

/** Reads what other tabs and devices may have added since this conversation was last looked at. */
async function catchUp(held: Held, api: Api, questionOf: QuestionOf): Promise<void> {
  const { state } = held
  if (isBusy(state.value)) return
  const last = state.value.messages.at(-1)?.sequenceNumber ?? 0
  const isRead = await refresh(held, api, Math.max(last - 1, 0)).then(
    () => true,
    () => false,
  )
  if (isRead && !isBusy(state.value)) restore(held, api, questionOf)
}

/** Takes up the turns that this browser knows of, also from other tabs, and an answer that is still to come. */
function restore(held: Held, api: Api, questionOf: QuestionOf): void {
  const { sessionId, state, patch } = held
  for (const kept of keptTurns(sessionId) ?? []) {
    if (state.value.turns.some((turn) => turn.key === kept.key)) continue
    const turn = restored(kept)
    if (findSaved(state.value.messages, turn).answer !== undefined) continue
    patch({ turns: [...state.value.turns, turn] })
    if (turn.failure === null) void run(held, api, turn)
  }
  held.keepTurns()
  watchUnanswered(held, api, questionOf)
}

/** A question that another device asked may be waiting for its answer. */
function watchUnanswered(held: Held, api: Api, questionOf: QuestionOf): void {
  const { messages, turns } = held.state.value
  const tip = newestBranch(messages).at(-1)
  if (tip?.role !== 'user' || turns.length > 0) return
  const isRecent = Date.now() - Date.parse(tip.createdAt) < RESUMES_WITHIN_MS
  const turn: Turn = {
    ...newTurn(newId(), questionOf(tip.content), tip.parentMessageId),
    again: { target: tip.messageId, known: [], after: tip.sequenceNumber },
    phase: isRecent ? 'waiting' : 'failed',
    failure: isRecent ? null : plainFailure('unanswered'),
    userMessageId: tip.messageId,
  }
  held.patch({ turns: [turn] })
  if (isRecent) void lookFor(held, api, turn)
}
