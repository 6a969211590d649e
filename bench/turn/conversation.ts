/** The turn that is measured, and the conversation that it is part of: always the same, one at a time or many at once. */
import { setTimeout as sleep } from 'node:timers/promises'
import { v7 as uuidv7 } from 'uuid'
import { resources } from '../../lib/resources.ts'
import type { ApiClient } from '../../test/harness/client.ts'
import type { Turnkeep, TurnkeepOptions } from '../../test/harness/turnkeep.ts'

/** Korean takes about a token for 1.5 to 4 characters; this makes 8 s at the pace of a usual model. */
export const TURN = {
  questionCharacters: 300,
  answerCharacters: 1_500,
  answerTokens: 400,
  tokenMs: 20,
  turnsPerConversation: 5,
}
export const ANSWER_MS = TURN.answerTokens * TURN.tokenMs

const FIRST_SYLLABLE = 0xac00
const SYLLABLES = 11_172
/** Until the last lines of log have come through their pipe. */
const LAST_WORDS_MS = 500
/** Watches come back once or twice. */
const DRAIN_MS = 120_000

/** Hangul that does not repeat: Postgres compresses what does. Always the same. */
function text(characters: number): string {
  let state = 1
  const next = (count: number): number => {
    state = (state * 48_271) % 0x7fffffff
    return state % count
  }
  return Array.from({ length: characters }, () =>
    next(4) === 0 ? ' ' : String.fromCharCode(FIRST_SYLLABLE + next(SYLLABLES)),
  ).join('')
}
const answer = text(TURN.answerCharacters)
const pieces = Array.from({ length: TURN.answerTokens }, (_, index) => {
  const at = (position: number) => Math.round((position * TURN.answerCharacters) / TURN.answerTokens)
  return answer.slice(at(index), at(index + 1))
})

/** As deployed, with a model of this pace. */
export const AS_DEPLOYED = {
  resources,
  scriptedModel: { tokenDelayMs: TURN.tokenMs, respond: () => ({ content: pieces }) },
} satisfies TurnkeepOptions

/** A budget that nobody reaches: without one no turn reserves or settles tokens. Limits are counted in any case. */
export const WITH_BUDGET = { TOKENS_TENANT_MONTH: '1000000000000' }

/** As docs/api.md advises: each question has a key, so that it may be sent again. */
export async function converse(user: ApiClient, questions: number): Promise<void> {
  await user.call('GET', '/api/sessions')
  let sessionId: string | undefined
  for (let turn = 0; turn < questions; turn += 1) {
    const message = text(TURN.questionCharacters)
    const headers = { 'idempotency-key': uuidv7() }
    const reply = await user.ask({ message, ...(sessionId ? { sessionId } : {}) }, { headers })
    if (reply.terminal?.type !== 'done')
      throw new Error(`A turn ended with ${JSON.stringify(reply.terminal ?? reply.error)}`)
    sessionId = reply.session?.sessionId
  }
  await user.messages(sessionId ?? '')
}

/** Waits until everything is saved and nothing is watched any more. */
export async function quiet({ cloud }: Turnkeep): Promise<void> {
  const until = Date.now() + DRAIN_MS
  for (;;) {
    const { ready = [], delayed = [], inflight = [] } = cloud.fauxqs.inspectQueue('turns')?.messages ?? {}
    if (ready.length + delayed.length + inflight.length === 0) break
    if (Date.now() > until) throw new Error('The queue does not become empty.')
    await sleep(50)
  }
  await sleep(LAST_WORDS_MS)
}
