/** What every list takes and gives. */
import * as v from 'valibot'

export interface Page<Item> {
  items: Item[]
  nextCursor: string | null
}

export const limit = v.optional(
  v.pipe(
    v.string(),
    v.regex(/^\d{1,3}$/, 'must be a whole number from 1 to 100'),
    v.transform(Number),
    v.minValue(1, 'must be from 1 to 100'),
    v.maxValue(100, 'must be from 1 to 100'),
  ),
  '20',
)
