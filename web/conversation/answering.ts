/** Takes a turn from its question to what it became, and draws it on the way. */
import type { Api } from '../api.ts'
import { failureOf, plainFailure } from '../failure.ts'
import { merge } from './branch.ts'
import { follow, type Outcome } from './follow.ts'
import type { Held } from './held.ts'
import { learnSession, settle } from './reading.ts'
import { isStopping, requestStop } from './stopping.ts'
import { messagesOf, type TerminalEvent, type Turn } from './turn.ts'

/** Tokens may come faster than a screen is worth drawing. */
const DRAW_EVERY_MS = 40

/** Begins a turn, beside others that stay. */
export function start(held: Held, api: Api, turn: Turn, others: Turn[]): void {
  held.patch({ turns: [...others, turn], chosen: null })
  held.keepTurns()
  void run(held, api, turn)
}

/** Follows a turn that is held to its end. Never throws. */
export async function run(held: Held, api: Api, started: Turn): Promise<void> {
  let latest = started
  let drawing: ReturnType<typeof setTimeout> | undefined
  const draw = (): void => {
    clearTimeout(drawing)
    drawing = undefined
    held.patchTurn(latest.key, ({ stopping }) => ({ ...latest, stopping }))
  }
  const outcome = await follow(api, started, (turn) => {
    const before = latest
    latest = turn
    if (before.messageId !== turn.messageId) {
      draw()
      held.keepTurns()
      if (isStopping(held, turn.key)) void requestStop(held, api, turn)
    } else if (before.phase !== turn.phase) draw()
    else drawing ??= setTimeout(draw, DRAW_EVERY_MS)
  })
  clearTimeout(drawing)
  await conclude(held, api, outcome)
}

async function conclude(held: Held, api: Api, outcome: Outcome): Promise<void> {
  const { kind, turn } = outcome
  if (kind === 'ended') return finish(held, api, turn, outcome.end, outcome.requestId)
  if (kind === 'failed') {
    if (outcome.failure.code === 'ended') held.markEnded()
    return held.failTurn(turn, outcome.failure)
  }
  try {
    if (!(await settle(held, api, turn))) held.failTurn(turn, plainFailure('unanswered'))
  } catch (error) {
    held.failTurn(turn, failureOf(error))
  }
}

/** The turn becomes two messages. */
function finish(held: Held, api: Api, turn: Turn, end: TerminalEvent, requestId: string | null): void {
  const { messages, interruptions, session, turns } = held.state.value
  held.patch({
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
  held.keepTurns()
  if (held.isProvisional) void learnSession(held, api)
}
