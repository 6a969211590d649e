/**
 * One conversation as the page holds it: what is saved, the turns that are not settled, and what one can do.
 * It lives on when another one is opened, so that an answer goes on arriving.
 */
import type { Locale, Message, Session } from '../lambdas/protocol.ts'
import type { Api, Question, Reply } from './api.ts'
import { merge, newestBranch, pathTo } from './branch.ts'
import { ApiError, type Failure, failureOf, plainFailure } from './failure.ts'
import { newId } from './id.ts'
import { read, write } from './storage.ts'
import { type Signal, signal } from './store.ts'
import { applied, isTerminal, messagesOf, newTurn, restarted, type TerminalEvent, type Turn } from './turn.ts'

/** Tokens may come faster than a screen is worth drawing. */
const DRAW_EVERY_MS = 40
/** An interrupted answer is readable within 30 s (api.md, promise 3); these add up to a little more. */
const SETTLE_WAITS_MS = [700, 1_300, 2_000, 4_000, 6_000, 9_000, 12_000]
/** A turn that was under way so recently goes on by itself after a reload; an older one waits for a click. */
const RESUMES_WITHIN_MS = 10 * 60_000

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
  /** Why an answer was interrupted, where this page was told. */
  interruptions: Record<string, Failure>
}

export interface Conversation {
  readonly sessionId: string
  readonly state: Signal<ConversationState>
  readonly draft: Signal<string>
  load(): Promise<void>
  type(text: string): void
  /** False where an answer is still being written. */
  send(text: string): boolean
  /** Repeats a failed turn. */
  retry(turn: Turn): void
  /** Asks the question of an interrupted answer once more; the new answer takes its place. */
  retryAnswer(answer: Message): void
  /** Takes a failed question back into the composer. */
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

const isBusy = (state: ConversationState): boolean => state.turns.some((turn) => turn.phase !== 'failed')

/** An ended session is inactive before its time is over; an expired one comes back with the next question. */
export const isEnded = (session: Session): boolean =>
  !session.isActive && Date.parse(session.expiresAt) > Date.now()

export const canSend = (state: ConversationState): boolean =>
  !state.ended && !isBusy(state) && (state.loading === 'ready' || state.loading === 'new')

/** A turn that gives an earlier question another answer; its branch takes the place of the one before. */
const isBranching = (turn: Turn): boolean => turn.question.parentMessageId !== undefined

/** The saved messages to show above the turns: not what a turn shows itself, nor what it is to replace. */
export function visibleMessages({ messages, turns }: ConversationState): Message[] {
  const replacing = turns.findLast(isBranching)
  if (replacing !== undefined) {
    const tip = messages.find((message) => message.messageId === replacing.after)
    return pathTo(messages, tip)
  }
  const ids = new Set(turns.flatMap((turn) => [turn.userMessageId, turn.messageId]))
  return newestBranch(messages.filter((message) => !ids.has(message.messageId)))
}

/** What is kept of a turn across reloads: enough to repeat or to find it, and nothing of the answer. */
type KeptTurn = Pick<
  Turn,
  'key' | 'question' | 'after' | 'startedAt' | 'failure' | 'userMessageId' | 'messageId'
>

const TITLE_CHARACTERS = 60

/** A title for a conversation that has none: the beginning of its first question. */
export function titleFrom(text: string): string {
  const line = text.trim().split('\n', 1)[0] ?? ''
  const characters = [...line]
  return characters.length > TITLE_CHARACTERS
    ? `${characters.slice(0, TITLE_CHARACTERS - 1).join('')}…`
    : line
}

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

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
    interruptions: {},
  })

  const patch = (part: Partial<ConversationState>): void => {
    state.update((now) => ({ ...now, ...part }))
    const { session } = state.value
    if (session !== null) changed(session, isBusy(state.value))
  }

  function keepTurns(): void {
    const kept = state.value.turns.map(
      ({ key, question, after, startedAt, failure, userMessageId, messageId }): KeptTurn => ({
        key,
        question,
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

  /** Reads what other devices may have added since this conversation was last looked at. */
  async function catchUp(): Promise<void> {
    if (isBusy(state.value)) return
    const last = state.value.messages.at(-1)?.sequenceNumber ?? 0
    await refresh(Math.max(last - 1, 0)).catch(() => undefined)
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
        ? role === 'assistant' && parentMessageId === question?.messageId
        : messageId === turn.messageId,
    )
    return { question, answer }
  }

  /**
   * Looks, with growing pauses, whether the answer of a turn was kept although nobody is connected to it.
   * Resuming the stream will take the place of this.
   */
  async function settle(lost: Turn): Promise<void> {
    let turn: Turn = { ...lost, phase: 'settling', failure: null }
    replaceTurn(turn.key, turn)
    const from = state.value.messages.find((message) => message.messageId === turn.after)
    for (const pause of SETTLE_WAITS_MS) {
      await wait(pause)
      await refresh(from?.sequenceNumber).catch(() => undefined)
      const { question, answer } = findSaved(turn)
      if (answer !== undefined) {
        replaceTurn(turn.key, null)
        if (isProvisional) void learnSession()
        return
      }
      if (question !== undefined && turn.userMessageId === null) {
        turn = { ...turn, userMessageId: question.messageId }
        replaceTurn(turn.key, turn)
      }
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

  /** Applies a reply's events to its turn as they come; true: it ended as the contract says. */
  async function follow(started: Turn, reply: Reply, onProgress: (turn: Turn) => void): Promise<boolean> {
    let turn = started
    let drawing: ReturnType<typeof setTimeout> | undefined
    const draw = (): void => {
      drawing = undefined
      onProgress(turn)
    }
    try {
      for await (const numbered of reply.events) {
        const before = turn
        turn = applied(turn, numbered)
        if (isTerminal(numbered.event)) {
          finish(turn, numbered.event, reply.requestId)
          return true
        }
        if (before.messageId !== turn.messageId) {
          draw()
          keepTurns()
        } else drawing ??= setTimeout(draw, DRAW_EVERY_MS)
      }
      return false
    } finally {
      clearTimeout(drawing)
    }
  }

  async function run(turn: Turn, isRepeated = false): Promise<void> {
    let latest = turn
    const onProgress = (progressed: Turn): void => {
      latest = progressed
      patch({ turns: state.value.turns.map((one) => (one.key === turn.key ? progressed : one)) })
    }
    try {
      const reply = await api.ask(turn.question, turn.key)
      if (!(await follow(turn, reply, onProgress))) await settle(latest)
    } catch (error) {
      if (latest.messageId !== null) await settle(latest)
      else await refused(turn, error, isRepeated)
    }
  }

  function markEnded(): void {
    const { session } = state.value
    patch({ ended: true, session: session && { ...session, isActive: false } })
  }

  /** The request was answered with an error, or not at all: nothing of an answer has been seen. */
  async function refused(turn: Turn, error: unknown, isRepeated: boolean): Promise<void> {
    const failure = failureOf(error)
    if (failure.code === 'ended') markEnded()
    // An earlier try of this very turn may be the one that is being answered.
    if (failure.code === 'reply_in_progress' && isRepeated) return settle(turn)
    failTurn(turn, failure)
  }

  function start(turn: Turn, others: Turn[], isRepeated = false): void {
    patch({ turns: [...others, turn] })
    keepTurns()
    void run(turn, isRepeated)
  }

  const questionOf = (message: string): Question => ({ message, sessionId, channel: 'web', locale })

  // ------------------------------------------------------------ opening

  function restore(): void {
    for (const kept of read<KeptTurn[]>(turnsKey) ?? []) {
      const turn: Turn = { ...newTurn(kept.key, kept.question, kept.after), ...kept }
      const { question, answer } = findSaved(turn)
      if (answer !== undefined) continue
      const isRecent = Date.now() - turn.startedAt < RESUMES_WITHIN_MS
      const phase = turn.failure !== null || !isRecent ? 'failed' : question ? 'settling' : 'sending'
      const failure = turn.failure ?? (phase === 'failed' ? plainFailure('unanswered') : null)
      patch({ turns: [...state.value.turns, { ...turn, phase, failure }] })
      // Never seen by the server as far as we know: the key makes it safe to send once more.
      if (phase === 'sending') void run(restarted(turn), true)
      if (phase === 'settling') void settle(turn)
    }
    keepTurns()
    watchUnanswered()
  }

  /** A question that another device asked may be waiting for its answer. */
  function watchUnanswered(): void {
    const tip = newestBranch(state.value.messages).at(-1)
    if (tip?.role !== 'user' || state.value.turns.length > 0) return
    const question = { ...questionOf(tip.content), parentMessageId: tip.parentMessageId }
    const turn: Turn = { ...newTurn(newId(), question, tip.parentMessageId), userMessageId: tip.messageId }
    patch({ turns: [{ ...turn, phase: 'settling' }] })
    void settle(turn)
  }

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
      if (state.value.session === null) {
        const now = new Date()
        patch({ loading: 'ready', session: provisionalSession(sessionId, titleFrom(text), now) })
      }
      // A question that was to be answered anew is saved already; what was never sent stays to be seen.
      const others = state.value.turns.filter((turn) => !isBranching(turn))
      start(newTurn(newId(), questionOf(text), tip?.messageId ?? null), others)
      return true
    },

    retry(turn) {
      if (isBusy(state.value)) return
      // The outcome is open, or nothing was made: the old key keeps it one turn. A key that is spent cannot.
      const isSpent = turn.failure?.code === 'idempotency_mismatch'
      const others = state.value.turns.filter((one) => one.key !== turn.key)
      start(restarted(turn, isSpent ? newId() : turn.key), others, !isSpent)
    },

    retryAnswer(answer) {
      const asked = state.value.messages.find((message) => message.messageId === answer.parentMessageId)
      if (asked === undefined || isBusy(state.value)) return
      const question = { ...questionOf(asked.content), parentMessageId: asked.parentMessageId }
      start(newTurn(newId(), question, asked.parentMessageId), state.value.turns)
    },

    takeBack(turn) {
      const typed = draft.value.trim()
      type(typed === '' ? turn.question.message : `${turn.question.message}\n\n${typed}`)
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

/** What the list shows of a conversation before the server has told about it. */
function provisionalSession(sessionId: string, title: string, now: Date): Session {
  return {
    sessionId,
    userId: '',
    channel: 'web',
    title,
    createdAt: now.toISOString(),
    lastActiveAt: now.toISOString(),
    expiresAt: new Date(now.getTime() + 86_400_000).toISOString(),
    isActive: true,
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
