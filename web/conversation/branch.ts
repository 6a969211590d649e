/** Which of a conversation's messages are shown, where questions were asked more than once. */
import type { Message } from '../../lambdas/protocol/messages.ts'

const byTime = (one: Message, other: Message): number =>
  one.createdAt.localeCompare(other.createdAt) ||
  one.sequenceNumber - other.sequenceNumber ||
  one.messageId.localeCompare(other.messageId)

/** Adds messages to what is known, the newer version of each winning. */
export function merge(known: Message[], found: Message[]): Message[] {
  const byId = new Map(known.map((message) => [message.messageId, message]))
  for (const message of found) byId.set(message.messageId, message)
  return [...byId.values()].sort(
    (one, other) => one.sequenceNumber - other.sequenceNumber || byTime(one, other),
  )
}

/**
 * The path that ends in one message, oldest first. Where a parent is missing (it was deleted), the path goes
 * on with the newest message above it.
 */
export function pathTo(messages: Message[], tip: Message | undefined): Message[] {
  const byId = new Map(messages.map((message) => [message.messageId, message]))
  const path: Message[] = []
  for (let next = tip; next !== undefined; ) {
    const { parentMessageId, sequenceNumber }: Message = next
    path.push(next)
    if (parentMessageId === null) break
    next =
      byId.get(parentMessageId) ??
      messages
        .filter((one) => one.sequenceNumber < sequenceNumber)
        .sort(byTime)
        .at(-1)
  }
  return path.reverse()
}

/** The branch that was written last: from the newest message without a successor up to the first question. */
export function newestBranch(messages: Message[]): Message[] {
  const parents = new Set(messages.map((message) => message.parentMessageId))
  const leaves = messages.filter((message) => !parents.has(message.messageId))
  return pathTo(messages, leaves.sort(byTime).at(-1))
}

/** The branch that leads through one message, on to what was written last below it. */
export function branchThrough(messages: Message[], messageId: string): Message[] {
  const below = new Set([messageId])
  // Parents stand before their children, since they have smaller sequence numbers.
  const branch = messages.filter((message) => {
    if (message.parentMessageId !== null && below.has(message.parentMessageId)) below.add(message.messageId)
    return below.has(message.messageId)
  })
  return pathTo(messages, newestBranch(branch).at(-1))
}

/** All answers to the question of this one, oldest first. */
export const siblingsOf = (messages: Message[], { role, parentMessageId }: Message): Message[] =>
  messages.filter((one) => one.role === role && one.parentMessageId === parentMessageId).sort(byTime)
