import { describe, expect, test } from 'vitest'
import type { NumberedEvent, ReplyEvent } from '../../lambdas/protocol/chat.ts'
import type { Message } from '../../lambdas/protocol/messages.ts'
import { judge } from './judge.ts'
import type { Sighting } from './returning-client.ts'
import type { Stored } from './stored.ts'

const session = {
  type: 'session',
  sessionId: 's',
  threadId: 'main',
  userMessageId: 'q',
  messageId: 'a',
  created: true,
} as const
const token = (content: string): ReplyEvent => ({ type: 'token', content })
const done = {
  type: 'done',
  sessionId: 's',
  messageId: 'a',
  finishReason: 'stop',
  metadata: {},
} as unknown as ReplyEvent
const interrupted = {
  type: 'error',
  code: 'interrupted',
  message: '',
  retryable: true,
  messageId: 'a',
} as const
const numbered = (...events: ReplyEvent[]): NumberedEvent[] => events.map((event, id) => ({ id, event }))
const saw = (...events: ReplyEvent[]): Sighting => ({
  question: 'question',
  events: numbered(...events),
  problems: [],
  refused: undefined,
})
const message = (changes: Partial<Message>): Message =>
  ({
    messageId: 'q',
    role: 'user',
    content: 'question',
    status: 'complete',
    sequenceNumber: 1,
    parentMessageId: null,
    ...changes,
  }) as Message

/** A whole answer, as it has to be stored; each test spoils one thing. */
function stored(
  answer: Partial<Message> = {},
  log = numbered(session, token('one '), token('two'), done),
): Stored {
  const messages = [
    message({}),
    message({
      messageId: 'a',
      role: 'assistant',
      content: 'one two',
      sequenceNumber: 2,
      parentMessageId: 'q',
      ...answer,
    }),
  ]
  return {
    messages,
    turns: [{ messageId: 'a', questionId: 'q', state: 'finished', log }],
    rows: messages.map(({ messageId, content, status }) => ({
      id: messageId,
      content,
      content_key: null,
      status,
    })),
    deadLetters: 0,
  }
}

const whole = saw(session, token('one '), token('two'), done)
const cut = saw(session, token('one '))

describe('the judge', () => {
  test('finds nothing where everything was kept', () => {
    expect(judge([whole, cut], stored())).toEqual({
      violations: [],
      promised: 1,
      kept: 1,
      interrupted: 0,
      duplicates: 0,
      lost: 0,
    })
  })

  test('accepts an interrupted answer that holds what was seen', () => {
    const log = numbered(session, token('one '), interrupted)
    expect(judge([cut], stored({ content: 'one ', status: 'interrupted' }, log))).toMatchObject({
      violations: [],
      interrupted: 1,
    })
  })

  test.each<[string, Stored]>([
    ['its answer is shorter than what was seen', stored({ content: 'one' })],
    ['its answer is another', stored({ content: 'one_two' })],
    ['done was seen and it is interrupted', stored({ status: 'interrupted' })],
    ['nothing is stored', { ...stored(), messages: [], rows: [] }],
    [
      'its question is another',
      { ...stored(), messages: [message({ content: 'else' }), ...stored().messages.slice(1)] },
    ],
  ])('calls an answer lost when %s', (_, spoiled) => {
    expect(judge([whole], spoiled)).toMatchObject({ promised: 1, kept: 0, lost: 1 })
  })

  test.each<[string, Stored]>([
    [
      'a turn is still running',
      { ...stored(), turns: stored().turns.map((turn) => ({ ...turn, state: 'running' as const })) },
    ],
    [
      'the log has two endings',
      stored({}, numbered(session, token('one '), token('two'), done, interrupted)),
    ],
    ['the log has no ending', stored({}, numbered(session, token('one '), token('two')))],
    [
      'the log has a gap',
      stored(
        {},
        numbered(session, token('one '), token('two'), done).filter(({ id }) => id !== 1),
      ),
    ],
    [
      'a reader saw what the log does not say',
      stored({}, numbered(session, token('one'), token(' two'), done)),
    ],
    ['positions have a gap', stored({ sequenceNumber: 3 })],
    ['the table lacks a row', { ...stored(), rows: stored().rows.slice(1) }],
    [
      'the table has another text',
      { ...stored(), rows: stored().rows.map((row) => ({ ...row, content: 'else' })) },
    ],
    ['a good record was dead-lettered', { ...stored(), deadLetters: 1 }],
  ])('is not content when %s', (_, spoiled) => {
    expect(judge([whole], spoiled).violations).not.toEqual([])
  })

  test('counts a question that has two answers as a duplicate', () => {
    const twice = stored()
    twice.messages.push(
      message({ messageId: 'b', role: 'assistant', sequenceNumber: 2, parentMessageId: 'q' }),
    )
    twice.rows.push({ id: 'b', content: 'question', content_key: null, status: 'complete' })
    expect(judge([whole], twice)).toMatchObject({ duplicates: 1 })
  })

  test('hands on what a client could not follow', () => {
    expect(judge([{ ...whole, problems: ['event 3 where 2 was due'] }], stored()).violations).toHaveLength(1)
  })
})
