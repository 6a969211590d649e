/** Turns as the reply core makes their records: a question and its answer. */
import { v7 as uuidv7 } from 'uuid'
import { record } from '../test/harness/records.ts'
import { type Alphabet, textOf } from './text.ts'

export type MessageRecord = ReturnType<typeof record>

export const COMPANY = 'bench'
export const QUESTION_CHARACTERS = 200
export const ANSWER_CHARACTERS = 1_200

/** A conversation that goes on. */
export interface Thread {
  sessionId: string
  /** Messages that it has. */
  messages: number
  newestId: string | null
}

export const newThread = (): Thread => ({ sessionId: uuidv7(), messages: 0, newestId: null })

export interface Texts {
  alphabet?: Alphabet
  /** By so much of its length a text is shorter or longer, at most. */
  spread?: number
}

/** The next turn of a thread, which has it from then on. */
export function nextTurn(thread: Thread, texts: Texts = {}): [MessageRecord, MessageRecord] {
  const { alphabet = 'half Hangul', spread = 0 } = texts
  const text = (characters: number): string =>
    textOf(Math.round(characters * (1 + spread * (2 * Math.random() - 1))), alphabet)
  const shared = { company_id: COMPANY, session_id: thread.sessionId, created_at: new Date().toISOString() }
  const question = record({
    ...shared,
    content: text(QUESTION_CHARACTERS),
    token_count: QUESTION_CHARACTERS / 2,
    parent_message_id: thread.newestId,
    sequence_number: thread.messages + 1,
  })
  const answer = record({
    ...shared,
    role: 'assistant',
    content: text(ANSWER_CHARACTERS),
    token_count: ANSWER_CHARACTERS / 2,
    response_time_ms: 8_000,
    model: 'gpt-5-mini',
    metadata: {
      finishReason: 'stop',
      promptTokens: 2_000,
      contextLength: 5,
      characters: ANSWER_CHARACTERS,
    },
    parent_message_id: question.id,
    sequence_number: thread.messages + 2,
  })
  thread.messages += 2
  thread.newestId = answer.id
  return [question, answer]
}
