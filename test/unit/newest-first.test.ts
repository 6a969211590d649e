import { describe, expect, test } from 'vitest'
import { type Place, pageOf, placeOf } from '../../lambdas/lists/newest-first.ts'

const row = (index: number): Place => ({
  at: `2026-11-20 10:00:00.00000${index}Z`,
  id: `0198e9a0-0000-7000-8000-00000000000${index}`,
})
const rows = [5, 4, 3, 2, 1].map(row)
const same = (place: Place): Place => place
const cursorOf = (text: string): string => Buffer.from(text).toString('base64url')

describe('a list that is read newest first', () => {
  test('goes on where its page ended, to the microsecond', () => {
    const page = pageOf(rows.slice(0, 3), 2, same, same)
    expect(page.items).toEqual([row(5), row(4)])
    expect(placeOf(page.nextCursor ?? '')).toEqual(row(4))
  })

  test.each([
    ['is shorter than its page', 6],
    ['is just as long', 5],
  ])('has no next page where it %s', (_, limit) => {
    expect(pageOf(rows, limit, same, same)).toEqual({ items: rows, nextCursor: null })
  })

  test('that is empty has no next page', () => {
    expect(pageOf([], 20, same, same)).toEqual({ items: [], nextCursor: null })
  })

  const { id } = row(1)
  test.each([
    ['nothing', ''],
    ['no base64', '%%%'],
    ['no id', cursorOf('2026-11-20 10:00:00Z')],
    ['an id that is none', cursorOf('2026-11-20 10:00:00Z 1')],
    ['a day that is in no calendar', cursorOf(`2026-02-31 10:00:00Z ${id}`)],
    ['an hour that no day has', cursorOf(`2026-11-20 25:00:00Z ${id}`)],
    ['a year that Postgres does not know', cursorOf(`0000-11-20 10:00:00Z ${id}`)],
    ['a time elsewhere', cursorOf(`2026-11-20 10:00:00+09:00 ${id}`)],
    ['words', cursorOf(`한국어 🙂 ${id}`)],
    ['SQL', cursorOf(`2026-11-20'; select 1; -- ${id}`)],
  ])('refuses a cursor of %s', (_, cursor) => {
    expect(() => placeOf(cursor)).toThrow(
      expect.objectContaining({
        code: 'invalid_request',
        details: [expect.objectContaining({ field: 'cursor' })],
      }),
    )
  })
})
