/** What the server has of a conversation, read into what the page holds of it. */
import type { Message } from '../../lambdas/protocol/messages.ts'
import type { Api } from '../api.ts'
import { plainFailure } from '../failure.ts'
import { pause } from '../network.ts'
import { merge } from './branch.ts'
import type { Held } from './held.ts'
import type { Turn } from './turn.ts'

/**
 * When an answer whose name this page does not know is looked for: another device asked. The last one is repeated, up
 * to the longest time that an answer takes.
 */
const LOOK_WAITS_MS = [1_000, 1_500, 2_000, 3_000, 5_000]
const LOOK_LIMIT_MS = 5 * 60_000

/** Reads the messages after a sequence number. */
export async function refresh({ sessionId, state, patch }: Held, api: Api, after = 0): Promise<void> {
  const found = await api.messages(sessionId, after)
  patch({ messages: merge(state.value.messages, found) })
}

/** Finds a turn among the saved messages; also where the page never learned its ids. */
export function findSaved(
  messages: Message[],
  turn: Turn,
): { question: Message | undefined; answer: Message | undefined } {
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
export async function settle(held: Held, api: Api, turn: Turn): Promise<boolean> {
  const from = held.state.value.messages.find((message) => message.messageId === turn.after)
  await refresh(held, api, from?.sequenceNumber)
  if (findSaved(held.state.value.messages, turn).answer === undefined) return false
  held.replaceTurn(turn.key, null)
  if (held.isProvisional) void learnSession(held, api)
  return true
}

/** Looks now and then for an answer that cannot be followed, since nobody told this page its name. */
export async function lookFor(held: Held, api: Api, turn: Turn): Promise<void> {
  const until = Date.now() + LOOK_LIMIT_MS
  for (let looks = 0; Date.now() < until; looks += 1) {
    await pause(LOOK_WAITS_MS[looks] ?? LOOK_WAITS_MS.at(-1) ?? 0)
    if (await settle(held, api, turn).catch(() => false)) return
  }
  held.failTurn(turn, plainFailure('unanswered'))
}

/** What the server knows of a session that this page made up; it is sure to know once a turn has ended. */
export async function learnSession(held: Held, api: Api): Promise<void> {
  const session = await api.conversation(held.sessionId).catch(() => null)
  if (session === null) return
  held.isProvisional = false
  const { title } = held.state.value.session ?? session
  held.patch({ session: { ...session, title: session.title ?? title } })
}
