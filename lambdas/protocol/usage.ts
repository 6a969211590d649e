import * as v from 'valibot'
import { label } from './fields.ts'
import { limit } from './lists.ts'

export interface UsageSums {
  /** Answers, each by itself also where a question has several. */
  turns: number
  promptTokens: number
  completionTokens: number
  /** Both together. */
  tokens: number
  /** What has a price, by the price of its day. */
  cost: number
  /** Of models without one. */
  unpricedTokens: number
}

/** Days first to last; users and models with most tokens first. */
export type UsageItem = UsageSums & ({ day: string } | { userId: string } | { model: string })

export interface UsageAnswer {
  from: string
  to: string
  by: 'day' | 'user' | 'model'
  currency: 'USD'
  /** From when the newest of the prices is. */
  pricesAsOf: string
  items: UsageItem[]
  /** Of all days, users or models, also those on other pages. */
  total: UsageSums
  nextCursor: string | null
}

/** As Postgres takes it, which knows no 31st of February and no year 0. */
function isDay(text: string): boolean {
  const time = /^\d{4}-\d{2}-\d{2}$/.test(text) ? Date.parse(`${text}T00:00:00Z`) : Number.NaN
  return !Number.isNaN(time) && !text.startsWith('0000') && new Date(time).toISOString().startsWith(text)
}
const day = v.pipe(v.string(), v.check(isDay, 'must be a day of the calendar, YYYY-MM-DD'))

export const usageQuerySchema = v.object({
  from: v.optional(day),
  to: v.optional(day),
  by: v.optional(v.picklist(['day', 'user', 'model'], 'must be day, user or model'), 'day'),
  userId: v.optional(label),
  limit,
  cursor: v.optional(v.pipe(v.string(), v.maxLength(2_000))),
})
export type UsageQuery = v.InferOutput<typeof usageQuerySchema>
