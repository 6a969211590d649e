/**
 * Follows one reply to its end over as many connections as it takes. Events are applied by their numbers, so that none
 * is shown twice and none is missing, whatever connection brings it.
 */
import type { Api, Reply } from '../api.ts'
import { ApiError, type Failure, failureOf, plainFailure } from '../failure.ts'
import { pause } from '../network.ts'
import { applied, isTerminal, type TerminalEvent, type Turn } from './turn.ts'

/** Each wait is twice the one before, and up to a half of it is left to chance: many clients lost the same server. */
const FIRST_WAIT_MS = 400
const LAST_WAIT_MS = 15_000
/** Since the last event. An interrupted answer is there within 30 s of its function's death (api.md, promise 3). */
const GIVE_UP_MS = 3 * 60_000
/** A server that answers, but with an error, is asked so often before its error is shown. */
const REFUSED_TRIES = 3
/** Where it asks for a longer wait than this, a person decides. */
const LONG_WAIT_MS = 10_000
/** No limit lasts longer (api.md); whatever a server asks for, the page looks again. */
const LONGEST_ASKED_WAIT_MS = 60_000

export type Outcome =
  | { kind: 'ended'; turn: Turn; end: TerminalEvent; requestId: string | null }
  /** The log is gone or has no more: what was saved is the answer. */
  | { kind: 'gone'; turn: Turn }
  | { kind: 'failed'; turn: Turn; failure: Failure }

/**
 * Calls back with the turn after each event and each time that the connection is lost. A turn that may have been sent
 * before is given as `reconnecting`. Never throws.
 */
export async function follow(api: Api, started: Turn, onProgress: (turn: Turn) => void): Promise<Outcome> {
  let turn = started
  let heardAt = Date.now()
  let refusals = 0
  for (let losses = 0; ; losses += 1) {
    let retryAt: number | null = null
    let failure = plainFailure('unreachable')
    try {
      if (turn.phase === 'reconnecting') turn = await foundAgain(api, turn)
      const reply = await connect(api, turn)
      if (reply === null) return { kind: 'gone', turn }
      for await (const numbered of reply.events) {
        // What is missing in between is in the log.
        if (numbered.id > turn.lastEventId + 1) break
        if (numbered.id <= turn.lastEventId) continue
        turn = applied(turn, numbered)
        if (isTerminal(numbered.event))
          return { kind: 'ended', turn, end: numbered.event, requestId: reply.requestId }
        heardAt = Date.now()
        losses = 0
        refusals = 0
        onProgress(turn)
      }
    } catch (error) {
      failure = failureOf(error)
      retryAt = failure.retryAt
      const status = error instanceof ApiError ? error.status : 0
      if (turn.messageId === null && turn.again !== null && error instanceof ApiError && error.runningId) {
        // It is being answered again already, perhaps by a request of ours whose answer got lost.
        turn = { ...turn, messageId: error.runningId }
        continue
      }
      if (turn.messageId !== null && status === 404) return { kind: 'gone', turn }
      if (!isPassing(status, turn)) return { kind: 'failed', turn, failure }
      if (status !== 0) refusals += 1
      const isLong = retryAt !== null && retryAt - Date.now() > LONG_WAIT_MS
      if (turn.messageId === null && (refusals >= REFUSED_TRIES || isLong))
        return { kind: 'failed', turn, failure }
    }
    if (Date.now() - heardAt > GIVE_UP_MS) return { kind: 'failed', turn, failure }
    turn = { ...turn, phase: 'reconnecting' }
    onProgress(turn)
    await pause(Math.max(waitAfter(losses), Math.min((retryAt ?? 0) - Date.now(), LONGEST_ASKED_WAIT_MS)))
  }
}

/** Whether it may be different in a moment. Limits are, once an answer is under way; before, they are for a person. */
const isPassing = (status: number, { messageId }: Turn): boolean =>
  status === 0 || status >= 500 || (status === 429 && messageId !== null)

function waitAfter(losses: number): number {
  const most = Math.min(FIRST_WAIT_MS * 2 ** losses, LAST_WAIT_MS)
  return most * (1 - Math.random() / 2)
}

/** Once its answer has a name, a turn is read; until then it is asked for. */
function connect(api: Api, { messageId, lastEventId, again, question, key }: Turn): Promise<Reply | null> {
  if (messageId !== null) return api.resume(messageId, lastEventId)
  return again === null ? api.ask(question, key) : api.regenerate(again.target)
}

/**
 * Asking again has no key that makes it safe to repeat: an answer that came out of it meanwhile is looked for first.
 * While it is running, repeating is refused, and the refusal names it.
 */
async function foundAgain(api: Api, turn: Turn): Promise<Turn> {
  const { again, messageId, userMessageId, question } = turn
  if (again === null || messageId !== null || question.sessionId === undefined) return turn
  const messages = await api.messages(question.sessionId, again.after)
  const found = messages.findLast(
    (message) =>
      message.role === 'assistant' &&
      message.parentMessageId === userMessageId &&
      !again.known.includes(message.messageId),
  )
  return found === undefined ? turn : { ...turn, messageId: found.messageId }
}
