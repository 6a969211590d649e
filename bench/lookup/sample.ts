/** One conversation up to the turn that is measured, and that turn's operations, each with its time. */
import { v7 as uuidv7 } from 'uuid'
import { answerTo, askIn, done, leaseOf, opened, tell, token } from '../../test/harness/hot-store.ts'
import type { HotStore, Subject } from './stores.ts'

const TENANT = { companyId: 'bench', platform: 'web' }
const QUESTION = '가나다라마바사아자차 '.repeat(27)
const ANSWER = '카타파하거너더러머버 '.repeat(136)
const APPENDS = 3
/** That come while an append is under way. */
const EVENTS_AN_APPEND = 4
const PIECE = ANSWER.slice(0, 4)

export const operations = ['open', 'append', 'close', 'finish', 'read log'] as const
export type Operation = (typeof operations)[number]
export type Times = Record<Operation, number[]>

/** What is in the session before, and what of it the turn is given. */
export interface History {
  messages: number
  given: number
}

const request = (changes: Parameters<typeof askIn>[1]) =>
  askIn(TENANT, { question: { content: QUESTION }, ...changes })

async function prepare({ backEnd }: Subject, store: HotStore, messages: number): Promise<string> {
  const sessionId = uuidv7()
  for (let turn = 0; turn < messages / 2; turn += 1) {
    const asked = request({ sessionId, sessionIsNew: turn === 0 })
    const started = await opened(store.openTurn(asked))
    const told = await tell(store, TENANT, started, asked.messageId, ANSWER)
    // As the queue does, before the next question comes; twice where the session is just being made (save.ts).
    const save = () => backEnd.save([told.question, told.answer])
    await save().catch(save)
  }
  return sessionId
}

/** Milliseconds of each operation of a turn in a session that is in use. */
export async function sample(
  subject: Subject,
  store: HotStore,
  { messages, given }: History,
): Promise<Times> {
  // Of all stores the measured turn comes behind one of the same store.
  const prepared = await prepare(subject, store, messages || 2)
  const sessionId = messages === 0 ? uuidv7() : prepared
  const times: Times = { open: [], append: [], close: [], finish: [], 'read log': [] }
  const timed = async <Result>(operation: Operation, work: () => Promise<Result>): Promise<Result> => {
    const startedAt = performance.now()
    const result = await work()
    times[operation].push(performance.now() - startedAt)
    return result
  }
  const asked = request({ sessionId, sessionIsNew: messages === 0 })
  const turn = await timed('open', () => opened(store.openTurn(asked)))
  if (turn.history.length !== given)
    throw new Error(`a history of ${turn.history.length} where ${given} were due`)
  const lease = leaseOf(TENANT, asked.messageId, turn.epoch)
  const events = Array.from({ length: EVENTS_AN_APPEND }, () => token(PIECE))
  for (let append = 0; append < APPENDS; append += 1)
    await timed('append', () => store.append(lease, [{ first: append * EVENTS_AN_APPEND, events }]))
  const answer = answerTo(turn, asked.messageId, PIECE.repeat(APPENDS * EVENTS_AN_APPEND))
  const id = APPENDS * EVENTS_AN_APPEND
  await timed('close', () => store.close(lease, [], answer))
  await timed('finish', () => store.finish(lease, { id, event: done(turn, asked.messageId) }))
  const page = await timed('read log', () => store.readLog(TENANT, null, asked.messageId, -1))
  if (page?.events.length !== id + 1) throw new Error('the log is not whole')
  return times
}
