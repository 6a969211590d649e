import { describe, expect, test } from 'vitest'
import { holdsOneOf } from '../../lambdas/replies/watched-words.ts'
import { readConfig } from '../../lambdas/runtime/config.ts'

describe('a watched word', () => {
  const isWatched = holdsOneOf(['오류', 'Broken'])

  test.each(['오류', '로그인에서 오류가 납니다', '오류'.normalize('NFD'), 'it is BROKEN!'])(
    'is found in "%s"',
    (text) => {
      expect(isWatched(text)).toBe(true)
    },
  )

  test.each(['', '오 류', '배송 정책이 어떻게 되나요?', 'brok en'])('is not found in "%s"', (text) => {
    expect(isWatched(text)).toBe(false)
  })

  test('is not found where there is none', () => {
    expect(holdsOneOf([])('anything')).toBe(false)
  })
})

test('watched words stand between commas; nothing means the Korean ones, a lone comma means none', () => {
  const read = (WATCHED_WORDS?: string) =>
    readConfig(['watchedWords'], WATCHED_WORDS === undefined ? {} : { WATCHED_WORDS }).watchedWords
  expect(read()).toEqual(['오류', '고장', '문제'])
  expect(read('')).toEqual(['오류', '고장', '문제'])
  expect(read(' down, not working ,')).toEqual(['down', 'not working'])
  expect(read(',')).toEqual([])
})
