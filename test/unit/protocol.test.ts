import fc from 'fast-check'
import * as v from 'valibot'
import { describe, expect, test } from 'vitest'
import { chatRequestSchema } from '../../lambdas/protocol/chat.ts'
import type { CodedError } from '../../lambdas/protocol/errors.ts'
import { sessionPatchSchema } from '../../lambdas/protocol/sessions.ts'
import { countCharacters } from '../../lambdas/protocol/text.ts'
import { check } from '../../lambdas/runtime/http.ts'
import { encodeBody } from '../../lambdas/services/turn-queue.ts'

const problems = (input: unknown, schema: v.GenericSchema<unknown, unknown> = chatRequestSchema) => {
  try {
    check(schema, input)
    return 'accepted'
  } catch (error) {
    return (error as CodedError).details
  }
}

describe('a chat request', () => {
  test.each([
    ['nothing', undefined, [{ field: 'body', message: 'is required' }]],
    ['a list', [], [{ field: 'message', message: 'is required' }]],
    ['no message', {}, [{ field: 'message', message: 'is required' }]],
    ['a number for a message', { message: 5 }, [{ field: 'message', message: 'must be string' }]],
    ['a blank message', { message: ' \n\t　' }, [{ field: 'message', message: 'must not be blank' }]],
    ['NUL', { message: 'a\0' }, [{ field: 'message', message: 'must not contain NUL or a lone surrogate' }]],
    [
      'a lone surrogate',
      { message: '\ud83d' },
      [{ field: 'message', message: 'must not contain NUL or a lone surrogate' }],
    ],
    [
      'a session id that is none',
      { message: 'a', sessionId: '1' },
      [{ field: 'sessionId', message: 'must be a UUID' }],
    ],
    [
      'an unknown field',
      { message: 'a', sessionID: 'x' },
      [{ field: 'sessionID', message: 'is not a known field' }],
    ],
    [
      'a list for metadata',
      { message: 'a', metadata: [] },
      [{ field: 'metadata', message: 'must be an object' }],
    ],
    [
      'too much metadata',
      { message: 'a', metadata: { a: '가'.repeat(3_000) } },
      [{ field: 'metadata', message: 'must be at most 8 KB' }],
    ],
    [
      'NUL deep in metadata',
      { message: 'a', metadata: { a: [{ b: '\0' }] } },
      [{ field: 'metadata', message: 'must not contain NUL or a lone surrogate' }],
    ],
    [
      'several at once',
      { threadId: '', parentMessageId: 5 },
      [
        { field: 'message', message: 'is required' },
        { field: 'threadId', message: 'must not be blank' },
        { field: 'parentMessageId', message: 'must be string' },
      ],
    ],
  ])('with %s is refused, naming each field', (_, input, expected) => {
    expect(problems(input)).toEqual(expected)
  })

  test('needs only a message', () => {
    expect(v.parse(chatRequestSchema, { message: '안녕' })).toEqual({
      message: '안녕',
      threadId: 'main',
      metadata: {},
    })
  })
})

test('a score outside 1 to 5 is refused', () => {
  expect(problems({ satisfactionScore: 6 }, sessionPatchSchema)).toEqual([
    { field: 'satisfactionScore', message: 'must be from 1 to 5' },
  ])
  expect(problems({ satisfactionScore: null }, sessionPatchSchema)).toBe('accepted')
})

test('characters are counted as people count them, without half pairs', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (text) => {
      expect(countCharacters(text)).toBe([...text].length)
    }),
  )
})

test('a queue body holds nothing that SQS refuses and is the same JSON', () => {
  const records = { records: [{ content: 'a\uFFFE\uFFFF\u0001😀\u2028' }] } as never
  const body = encodeBody(records)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that SQS refuses
  expect(body).not.toMatch(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\uD800-\uDFFF\uFFFE\uFFFF]/)
  expect(JSON.parse(body)).toEqual(records)
})
