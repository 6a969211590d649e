/**
 * One conversation as the page holds it: what is saved, the turns that are not settled, and what one can do.
 * It lives on when another one is opened, so that an answer goes on arriving.
 */
import type { Locale, Message, Session } from '../lambdas/protocol.ts'
import type { Api, Question } from './api.ts'
import { merge, newestBranch, siblingsOf } from './branch.ts'
import {
  type ConversationState,
  canSend,
  isBranching,
  isBusy,
  isEnded,
  provisionalSession,
  runningTurn,
  titleFrom,
  visibleMessages,
} from './conversation-state.ts'
import { ApiError, type Failure, failureOf, plainFailure } from './failure.ts'
import { follow, type Outcome } from './follow.ts'
import { newId } from './id.ts'
import { pause } from './network.ts'
import { onOtherTab, read, write } from './storage.ts'
import { type Signal, signal } from './store.ts'
import { messagesOf, newTurn, restarted, type TerminalEvent, type Turn } from './turn.ts'

/** Tokens may come faster than a screen is worth drawing. */
const DRAW_EVERY_MS = 40
/**
 * When an answer whose name this page does not know is looked for: another device asked. The last one is repeated, up
 * to the longest time that an answer takes.
 */
const LOOK_WAITS_MS = [1_000, 1_500, 2_000, 3_000, 5_000]
const LOOK_LIMIT_MS = 5 * 60_000
/** A question without an answer that is older waits for a click. */
const RESUMES_WITHIN_MS = 10 * 60_000
/** A stop that does not get through is tried so often. */
const STOP_TRIES = 5
const STOP_AGAIN_MS = 1_000

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

/** What is kept of a turn across reloads: enough to repeat or to find it, and nothing of the answer. */
type KeptTurn = Pick<
  Turn,
  'key' | 'question' | 'again' | 'after' | 'startedAt' | 'failure' | 'userMessageId' | 'messageId'
>

export function openConversation(
  sessionId: string,
  isNew: boolean,
  { api, locale, changed }: ConversationContext,
): Conversation {
  const turnsKey = `turns.${sessionId}`
  let draftKey = isNew ? 'draft.new' : `draft.${sessionId}`
  let isProvisional = isNew
  const draft = signal(read<string>(draftKey) ?? '')
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

  const patch = (part: Partial<ConversationState>): void => {
    state.update((now) => ({ ...now, ...part }))
    const { session } = state.value
    if (session !== null) changed(session, isBusy(state.value))
  }

  function keepTurns(): void {
    const kept = state.value.turns.map(
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
    write(turnsKey, kept.length > 0 ? kept : null)
  }

  /** Replaces a turn by what it became; a turn is known by its key, which retries may change. */
  function replaceTurn(key: string, turn: Turn | null): void {
    const turns = state.value.turns.flatMap((one) => (one.key !== key ? [one] : turn === null ? [] : [turn]))
    patch({ turns })
    keepTurns()
  }

  const failTurn = (turn: Turn, failure: Failure): void =>
    replaceTurn(turn.key, { ...turn, phase: 'failed', failure })

  // ------------------------------------------------------------ reading

  async function refresh(after = 0): Promise<void> {
    const found = await api.messages(sessionId, after)
    patch({ messages: merge(state.value.messages, found) })
  }

  /** Reads what other tabs and devices may have added since this conversation was last looked at. */
  async function catchUp(): Promise<void> {
    if (isBusy(state.value)) return
    const last = state.value.messages.at(-1)?.sequenceNumber ?? 0
    const isRead = await refresh(Math.max(last - 1, 0)).then(
      () => true,
      () => false,
    )
    if (isRead && !isBusy(state.value)) restore()
  }

  /** Finds a turn among the saved messages; also where the page never learned its ids. */
  function findSaved(turn: Turn): { question: Message | undefined; answer: Message | undefined } {
    const { messages } = state.value
    const question = messages.find(({ messageId, role, content, parentMessageId }) =>
      turn.userMessageId === null
        ? role === 'user' && content === turn.question.message && parentMessageId === turn.after
        : messageId === turn.userMessageId,
    )
    const answer = messages.find(({ messageId, role, parentMessageId }) =>
      turn.messageId === null
        ? role === 'assistant' &&
          parentMessageId === question?.messageId &&
          turn.again?.known.includes(messageId) !== true
        : messageId === turn.messageId,
    )
    return { question, answer }
  }

  /** Lets the saved answer take the turn's place. False: there is none. */
  async function settle(turn: Turn): Promise<boolean> {
    const from = state.value.messages.find((message) => message.messageId === turn.after)
    await refresh(from?.sequenceNumber)
    if (findSaved(turn).answer === undefined) return false
    replaceTurn(turn.key, null)
    if (isProvisional) void learnSession()
    return true
  }

  /** Looks now and then for an answer that cannot be followed, since nobody told this page its name. */
  async function lookFor(turn: Turn): Promise<void> {
    const until = Date.now() + LOOK_LIMIT_MS
    for (let looks = 0; Date.now() < until; looks += 1) {
      await pause(LOOK_WAITS_MS[looks] ?? LOOK_WAITS_MS.at(-1) ?? 0)
      if (await settle(turn).catch(() => false)) return
    }
    failTurn(turn, plainFailure('unanswered'))
  }

  // ------------------------------------------------------------ asking

  /** What the server knows of a session that this page made up; it is sure to know once a turn has ended. */
  async function learnSession(): Promise<void> {
    const session = await api.conversation(sessionId).catch(() => null)
    if (session === null) return
    isProvisional = false
    const { title } = state.value.session ?? session
    patch({ session: { ...session, title: session.title ?? title } })
  }

  function finish(turn: Turn, end: TerminalEvent, requestId: string | null): void {
    const { messages, interruptions, session, turns } = state.value
    patch({
      messages: merge(messages, messagesOf(turn, end, messages)),
      turns: turns.filter((one) => one.key !== turn.key),
      session: session && { ...session, lastActiveAt: new Date().toISOString() },
      interruptions:
        end.type === 'error'
          ? {
              ...interruptions,
              [end.messageId]: { ...plainFailure(end.code, requestId), retryable: end.retryable },
            }
          : interruptions,
    })
    keepTurns()
    if (isProvisional) void learnSession()
  }

  /** Follows a turn to its end, and draws it on the way. */
  async function run(started: Turn): Promise<void> {
    let latest = started
    let drawing: ReturnType<typeof setTimeout> | undefined
    const draw = (): void => {
      clearTimeout(drawing)
      drawing = undefined
      patch({
        turns: state.value.turns.map((one) =>
          one.key === latest.key ? { ...latest, stopping: one.stopping } : one,
        ),
      })
    }
    const outcome = await follow(api, started, (turn) => {
      const before = latest
      latest = turn
      if (before.messageId !== turn.messageId) {
        draw()
        keepTurns()
        if (stoppingTurn(turn.key) !== undefined) void requestStop(turn)
      } else if (before.phase !== turn.phase) draw()
      else drawing ??= setTimeout(draw, DRAW_EVERY_MS)
    })
    clearTimeout(drawing)
    await conclude(outcome)
  }

  async function conclude(outcome: Outcome): Promise<void> {
    const { kind, turn } = outcome
    if (kind === 'ended') return finish(turn, outcome.end, outcome.requestId)
    if (kind === 'failed') {
      if (outcome.failure.code === 'ended') markEnded()
      return failTurn(turn, outcome.failure)
    }
    try {
      if (!(await settle(turn))) failTurn(turn, plainFailure('unanswered'))
    } catch (error) {
      failTurn(turn, failureOf(error))
    }
  }

  function markEnded(): void {
    const { session } = state.value
    const endedAt = new Date().toISOString()
    patch({ ended: true, session: session && { ...session, isActive: false, endedAt } })
  }

  function start(turn: Turn, others: Turn[]): void {
    patch({ turns: [...others, turn], chosen: null })
    keepTurns()
    void run(turn)
  }

  // ------------------------------------------------------------ stopping

  const stoppingTurn = (key: string): Turn | undefined =>
    state.value.turns.find((one) => one.key === key && one.stopping)

  const markStopping = (key: string, stopping: boolean): void =>
    patch({ turns: state.value.turns.map((one) => (one.key === key ? { ...one, stopping } : one)) })

  /** Asks until the server knows or the answer has ended; where it never hears, one may press again. */
  async function requestStop({ key, messageId }: Turn): Promise<void> {
    if (messageId === null) return
    for (let tries = 1; stoppingTurn(key) !== undefined; tries += 1) {
      try {
        return await api.stop(messageId)
      } catch {
        if (tries >= STOP_TRIES) return markStopping(key, false)
        await pause(STOP_AGAIN_MS * tries)
      }
    }
  }

  const questionOf = (message: string): Question => ({ message, sessionId, channel: 'web', locale })

  // ------------------------------------------------------------ opening

  /** Takes up the turns that this browser knows of, also from other tabs, and an answer that is still to come. */
  function restore(): void {
    for (const kept of read<KeptTurn[]>(turnsKey) ?? []) {
      if (state.value.turns.some((turn) => turn.key === kept.key)) continue
      const turn: Turn = { ...newTurn(kept.key, kept.question, kept.after), ...kept }
      if (findSaved(turn).answer !== undefined) continue
      // An answer with a name can be followed at any time. For one without, the key makes it safe to ask again.
      const goesOn = turn.messageId !== null || Date.now() - turn.startedAt < RESUMES_WITHIN_MS
      const failure = turn.failure ?? (goesOn ? null : plainFailure('unanswered'))
      const wasNeverSent = turn.messageId === null && turn.again === null
      const phase = failure !== null ? 'failed' : wasNeverSent ? 'sending' : 'reconnecting'
      const restored: Turn = { ...turn, phase, failure }
      patch({ turns: [...state.value.turns, restored] })
      if (failure === null) void run(restored)
    }
    keepTurns()
    watchUnanswered()
  }

  /** A question that another device asked may be waiting for its answer. */
  function watchUnanswered(): void {
    const tip = newestBranch(state.value.messages).at(-1)
    if (tip?.role !== 'user' || state.value.turns.length > 0) return
    const isRecent = Date.now() - Date.parse(tip.createdAt) < RESUMES_WITHIN_MS
    const turn: Turn = {
      ...newTurn(newId(), questionOf(tip.content), tip.parentMessageId),
      again: { target: tip.messageId, known: [], after: tip.sequenceNumber },
      phase: isRecent ? 'waiting' : 'failed',
      failure: isRecent ? null : plainFailure('unanswered'),
      userMessageId: tip.messageId,
    }
    patch({ turns: [turn] })
    if (isRecent) void lookFor(turn)
  }

  onOtherTab(turnsKey, () => {
    if (state.value.loading !== 'ready') return
    // What was given up or taken back there is gone here too.
    const kept = new Set(read<KeptTurn[]>(turnsKey)?.map(({ key }) => key))
    patch({ turns: state.value.turns.filter(({ phase, key }) => phase !== 'failed' || kept.has(key)) })
    void catchUp()
  })

  async function load(): Promise<void> {
    if (state.value.loading === 'new') return
    if (state.value.loading === 'ready') return catchUp()
    patch({ loading: 'loading', loadFailure: null })
    try {
      const [session, messages] = await Promise.all([api.conversation(sessionId), api.messages(sessionId)])
      patch({ session, ended: isEnded(session), messages: merge([], messages), loading: 'ready' })
    } catch (error) {
      const neverArrived = error instanceof ApiError && error.status === 404
      if (!neverArrived || read(turnsKey) === null) {
        patch({ loading: 'failed', loadFailure: failureOf(error) })
        return
      }
      isProvisional = true
      patch({ loading: 'ready' })
    }
    restore()
  }

  function type(text: string): void {
    draft.set(text)
    write(draftKey, text === '' ? null : text)
  }

  return {
    sessionId,
    state,
    draft,
    load,
    type,

    send(text) {
      if (!canSend(state.value) || text.trim() === '') return false
      type('')
      draftKey = `draft.${sessionId}`
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
      start(newTurn(newId(), { ...questionOf(text), ...branch }, tip?.messageId ?? null), others)
      return true
    },

    retry(turn) {
      if (isBusy(state.value)) return
      const others = state.value.turns.filter((one) => one.key !== turn.key)
      const code = turn.failure?.code
      const isUnderWay = turn.messageId !== null && code !== 'unanswered'
      if (isUnderWay) return start({ ...turn, phase: 'reconnecting', failure: null, stopping: false }, others)
      // The outcome is open, or nothing was made: the old key keeps it one turn. A key that is spent cannot.
      const again = restarted(turn, code === 'idempotency_mismatch' ? newId() : turn.key)
      start(turn.again === null ? again : { ...again, phase: 'reconnecting' }, others)
    },

    stop() {
      const turn = runningTurn(state.value)
      if (turn === undefined || turn.stopping || turn.phase === 'waiting') return
      markStopping(turn.key, true)
      void requestStop(turn)
    },

    answerAgain(answer) {
      const { messages, turns, interruptions } = state.value
      const asked = messages.find((message) => message.messageId === answer.parentMessageId)
      if (asked === undefined || isBusy(state.value)) return
      const question = questionOf(asked.content)
      const { parentMessageId } = asked
      // Where nothing could be saved, the server may not know the question: it is asked as a new one.
      if (interruptions[answer.messageId]?.code === 'not_saved')
        return start(newTurn(newId(), { ...question, parentMessageId }, parentMessageId), turns)
      const again = {
        target: answer.messageId,
        known: siblingsOf(messages, answer).map(({ messageId }) => messageId),
        after: asked.sequenceNumber,
      }
      start({ ...newTurn(newId(), question, parentMessageId), again, userMessageId: asked.messageId }, turns)
    },

    choose(answer) {
      const isNewest = newestBranch(state.value.messages).includes(answer)
      patch({ chosen: isNewest ? null : answer.messageId })
    },

    takeBack(turn) {
      if (turn.userMessageId === null) {
        const typed = draft.value.trim()
        type(typed === '' ? turn.question.message : `${turn.question.message}\n\n${typed}`)
      }
      replaceTurn(turn.key, null)
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
      markEnded()
    },

    async rate(answer, score) {
      await api.rate(answer.messageId, score)
      const rated = { ...answer, satisfactionScore: score }
      patch({ messages: merge(state.value.messages, [rated]) })
    },
  }
}
