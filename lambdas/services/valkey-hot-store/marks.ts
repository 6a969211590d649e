/**
 * How a turn is found by its id alone, and by those who look after all turns. These lie in other slots than the turn:
 * they are written beside it, before a client hears of the id, and whoever finds them looks whether the turn is there.
 */
import type { Tenant } from '../../protocol/callers.ts'
import type { Call } from '../valkey.ts'
import { type Place, placeKey, runningKey, shardOf } from './names.ts'

/** As long as a turn that nobody ends: the queue's 14 days and one. */
const KEPT_MS = 15 * 86_400_000

/** The question of a turn that makes one has a place, too. */
export interface Marked {
  tenant: Tenant
  place: Place
  messageId: string
  questionId?: string | undefined
}

const namesOf = ({ tenant, messageId, questionId }: Marked): string[] =>
  [messageId, questionId].flatMap((id) => (id === undefined ? [] : [placeKey(tenant, id)]))

const memberOf = ({ tenant: { companyId, platform }, place, messageId }: Marked): string =>
  JSON.stringify([companyId, platform, place.sessionId, place.threadId, messageId])

export function readMember(member: string): Marked {
  const [companyId, platform, sessionId, threadId, messageId] = JSON.parse(member)
  return { tenant: { companyId, platform }, place: { sessionId, threadId }, messageId }
}

export function readPlace(text: string): Place {
  const [sessionId, threadId] = JSON.parse(text)
  return { sessionId, threadId }
}

export const mark = (turn: Marked): Call[] => [
  ...namesOf(turn).map((key) => ({
    command: 'SET',
    key,
    args: [JSON.stringify([turn.place.sessionId, turn.place.threadId]), 'PX', KEPT_MS],
  })),
  { command: 'ZADD', key: runningKey(shardOf(turn.messageId)), args: [Date.now(), memberOf(turn)] },
]

/** Of a turn that was not opened. It only saves room. */
export const unmark = (turn: Marked): Call[] => [
  ...namesOf(turn).map((key) => ({ command: 'UNLINK', key })),
  unlist(turn),
]

/** It runs no more. */
export const unlist = (turn: Marked): Call => ({
  command: 'ZREM',
  key: runningKey(shardOf(turn.messageId)),
  args: [memberOf(turn)],
})
