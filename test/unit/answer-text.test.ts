import fc from 'fast-check'
import { expect, test } from 'vitest'
import { answerText } from '../../lambdas/replies/answer-text.ts'

test('a surrogate pair that arrives in two pieces is one character', () => {
  const answer = answerText()
  expect(answer.add('a\ud83d')).toBe('a')
  expect(answer.add('\ude00b')).toBe('😀b')
  expect(answer.text).toBe('a😀b')
})

test('a half that stays alone and a NUL become U+FFFD', () => {
  const answer = answerText()
  expect(answer.add('a\0b\udc00c')).toBe('a\uFFFDb\uFFFDc')
  expect(answer.add('\ud83d')).toBe('')
  expect(answer.add('x')).toBe('\uFFFDx')
  expect(answer.add('\ud83d')).toBe('')
  expect(answer.end()).toBe('\uFFFD')
  expect(answer.text).toBe('a\uFFFDb\uFFFDc\uFFFDx\uFFFD')
})

test('however a text is cut, what was given out is the text, and can be stored', () => {
  const units = fc.array(fc.constantFrom('a', '가', '\ud83d', '\ude00', '\0', '\uFFFF', '\n'), {
    maxLength: 12,
  })
  fc.assert(
    fc.property(fc.array(units), (pieces) => {
      const answer = answerText()
      const given = pieces.map((piece) => answer.add(piece.join(''))).join('') + answer.end()
      expect(given).toBe(answer.text)
      expect(given).toBe(pieces.flat().join('').toWellFormed().replaceAll('\0', '\uFFFD'))
    }),
  )
})
