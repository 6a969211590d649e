/** What is there after a drill: every turn with its log, every message as clients read it, every row. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { NumberedEvent, ReplyEvent } from '../../lambdas/protocol/chat.ts'
import type { Message } from '../../lambdas/protocol/messages.ts'
import type { Turnkeep } from '../harness/turnkeep.ts'
import { cachedTurns } from './cached-turns.ts'

export interface StoredTurn {
  messageId: string
  questionId: string
  state: 'running' | 'closing' | 'finished'
  log: NumberedEvent[]
}

export interface StoredRow {
  id: string
  content: string
  content_key: string | null
  status: string
}

export interface Stored {
  turns: StoredTurn[]
  messages: Message[]
  /** The table alone, without what is still on its way. */
  rows: StoredRow[]
  deadLetters: number
}

/** Promise 3 of the contract. */
export const READABLE_WITHIN_MS = 30_000

/** A client may have seen a token. */
const isSpoken = ({ log }: StoredTurn): boolean => log.some(({ event }) => event.type === 'token')

/** Waits until every turn of which a client may have seen a token has ended by itself and is saved. */
export const ended = (turnkeep: Turnkeep): Promise<void> =>
  waitFor(async () => !(await unsettled(turnkeep)).some(isSpoken) && isDrained(turnkeep))

/**
 * What there is when all has ended. A turn that lost its writer before its question was queued has no watch, and
 * nobody was promised anything: it ends when somebody meets it, which is done here.
 */
export async function settled(turnkeep: Turnkeep): Promise<Stored> {
  await ended(turnkeep)
  const agent = turnkeep.as({ userId: 'passer-by', role: 'agent' })
  for (const turn of await unsettled(turnkeep))
    if (!isSpoken(turn)) await agent.stream('GET', `/api/chat/stream/${turn.messageId}`)
  await waitFor(async () => (await unsettled(turnkeep)).length === 0 && isDrained(turnkeep))
  return readStored(turnkeep)
}

/** Those of both stores. Of one that is in both readers get what the cache has. */
export async function readTurns(turnkeep: Turnkeep): Promise<StoredTurn[]> {
  const turns = new Map((await postgresTurns(turnkeep)).map((turn) => [turn.messageId, turn]))
  for (const turn of await cachedTurns(turnkeep.redis)) turns.set(turn.messageId, turn)
  return [...turns.values()]
}

async function unsettled(turnkeep: Turnkeep): Promise<StoredTurn[]> {
  const saved = new Set(
    (await turnkeep.rows<{ id: string }>('select id from chat_messages')).map(({ id }) => id),
  )
  return (await readTurns(turnkeep)).filter(
    ({ state, messageId, questionId }) =>
      state !== 'finished' || !saved.has(messageId) || !saved.has(questionId),
  )
}

/** Does not fail when the time is over: the judge says what is missing then. */
async function waitFor(condition: () => Promise<boolean>): Promise<void> {
  for (const until = Date.now() + READABLE_WITHIN_MS; Date.now() < until; await sleep(100))
    if (await condition()) return
}

function isDrained({ cloud }: Turnkeep): boolean {
  const { ready = [], inflight = [] } = cloud.fauxqs.inspectQueue('turns')?.messages ?? {}
  return ready.length + inflight.length === 0
}

async function postgresTurns(turnkeep: Turnkeep): Promise<StoredTurn[]> {
  const turns = await turnkeep.rows<{ message_id: string; question_id: string; state: StoredTurn['state'] }>(
    'select message_id, question_id, state from chat_turns order by opened_at, message_id',
  )
  const batches = await turnkeep.rows<{ message_id: string; first_event_id: number; events: ReplyEvent[] }>(
    'select message_id, first_event_id, events from chat_reply_events order by message_id, first_event_id',
  )
  const logs = new Map<string, NumberedEvent[]>()
  for (const { message_id, first_event_id, events } of batches)
    logs.set(message_id, [
      ...(logs.get(message_id) ?? []),
      ...events.map((event, index) => ({ id: first_event_id + index, event })),
    ])
  return turns.map(({ message_id, question_id, state }) => ({
    messageId: message_id,
    questionId: question_id,
    state,
    log: logs.get(message_id) ?? [],
  }))
}

async function readStored(turnkeep: Turnkeep): Promise<Stored> {
  const sessions = await turnkeep.rows<{ id: string }>('select id from chat_sessions')
  const agent = turnkeep.as({ userId: 'judge', role: 'agent' })
  const messages: Message[] = []
  for (const { id } of sessions) messages.push(...(await agent.messages(id)))
  const dead = turnkeep.cloud.fauxqs.inspectQueue('turns-dead')?.messages
  return {
    turns: await readTurns(turnkeep),
    messages,
    rows: await turnkeep.rows<StoredRow>('select id, content, content_key, status from chat_messages'),
    deadLetters: (dead?.ready.length ?? 0) + (dead?.inflight.length ?? 0),
  }
}
