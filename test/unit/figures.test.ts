import { describe, expect, test } from 'vitest'
import { median, medianRatio, percentile, shuffled } from '../../bench/figures.ts'

describe('what measurements are made of', () => {
  test('a percentile lies on a line between the two values beside it, as percentile_cont of Postgres does', () => {
    expect(percentile([4, 1, 3, 2], 0.5)).toBe(2.5)
    expect(percentile([4, 1, 3, 2], 0)).toBe(1)
    expect(percentile([4, 1, 3, 2], 1)).toBe(4)
    expect(percentile([10, 20, 30], 0.75)).toBe(25)
    expect(percentile([7], 0.99)).toBe(7)
  })

  test('there is no percentile of nothing', () => {
    expect(percentile([], 0.5)).toBeNaN()
  })

  test('a ratio is that of each round, not of all: one slow round of both changes nothing', () => {
    expect(median([2, 20, 2])).toBe(2)
    expect(medianRatio([2, 30, 2], [1, 15, 1])).toBe(2)
  })

  test('another order has the same items', () => {
    expect(shuffled([1, 2, 3]).toSorted()).toEqual([1, 2, 3])
  })
})
