/** What a tenant has used, by day, user or model, and what that costs. It appears with the save of each answer. */
import * as v from 'valibot'
import type { Caller } from '../protocol/callers.ts'
import { invalidField } from '../protocol/errors.ts'
import { isStorableText } from '../protocol/text.ts'
import type { UsageAnswer, UsageQuery, UsageSums } from '../protocol/usage.ts'
import type { Database } from '../services/database.ts'
import { ownedBy, requireOwnUserId } from '../sessions/sessions.ts'
import { actorBody } from '../tenants/audit.ts'
import prices from './model-prices.json' with { type: 'json' }

/** A year, also a leap year's. */
const MAX_DAYS = 366
/** More models than anybody has; a tenant's total counts them all the same. */
const MAX_MODELS = 100
const DAY_MS = 86_400_000

const pricesAsOf = prices.reduce((newest, { from }) => (from > newest ? from : newest), '')

interface Row {
  name: string
  turns: number
  prompt_tokens: number
  completion_tokens: number
  tokens: number
  cost: number
  unpriced_tokens: number
}

const toSums = (row: Omit<Row, 'name'>): UsageSums => ({
  turns: row.turns,
  promptTokens: row.prompt_tokens,
  completionTokens: row.completion_tokens,
  tokens: row.tokens,
  cost: row.cost,
  unpricedTokens: row.unpriced_tokens,
})

const named = { day: 'day', user: 'userId', model: 'model' } as const

/** The days asked for: this month until today unless told otherwise. Refuses `invalid_request` with the field. */
function daysOf({ from, to }: UsageQuery, now = new Date()): { from: string; to: string } {
  const today = now.toISOString().slice(0, 10)
  const last = to ?? (from !== undefined && from > today ? from : today)
  const first = from ?? `${last.slice(0, 8)}01`
  if (first > last) throw invalidField('from', 'must not be after to')
  if ((Date.parse(last) - Date.parse(first)) / DAY_MS >= MAX_DAYS)
    throw invalidField('from', `must be at most ${MAX_DAYS} days before to`)
  return { from: first, to: last }
}

/** The user that a page has ended with. */
const placeSchema = v.pipe(
  v.string(),
  v.parseJson(),
  v.strictTuple([
    v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
    v.pipe(v.string(), v.check(isStorableText)),
  ]),
)
const encodePlace = ({ tokens, name }: Row): string =>
  Buffer.from(JSON.stringify([tokens, name])).toString('base64url')

/** Refuses `invalid_request` for anything that no page has ended with. */
function placeOf(cursor: string | undefined): { after_tokens: number; after_name: string } | undefined {
  if (cursor === undefined) return undefined
  const place = v.safeParse(placeSchema, Buffer.from(cursor, 'base64url').toString())
  if (!place.success) throw invalidField('cursor', 'must be a nextCursor of this list')
  const [after_tokens, after_name] = place.output
  return { after_tokens, after_name }
}

/**
 * Users see their own, agents and admins their tenant's or one user's. By user it comes in pages, most tokens first; by
 * day and by model all at once. Refuses `forbidden`, and `invalid_request` for days that are none.
 */
export async function readUsage(database: Database, caller: Caller, query: UsageQuery): Promise<UsageAnswer> {
  requireOwnUserId(caller, query.userId)
  const { by } = query
  const days = daysOf(query)
  const after = by === 'user' ? placeOf(query.cursor) : undefined
  const limit = { day: MAX_DAYS, user: query.limit, model: MAX_MODELS }[by]
  const rows = await database.callFor<{ kind: 'item' | 'total'; body: string }>(caller, 'read_usage', [
    { jsonb: actorBody(caller) },
    { text: query.userId ?? ownedBy(caller) },
    { jsonb: { ...days, by, limit: by === 'user' ? limit + 1 : limit, ...after } },
    { jsonb: prices },
  ])
  const bodies = rows.map(({ body }): Row => JSON.parse(body))
  const total = bodies.pop()
  if (total === undefined) throw new Error('read_usage returned no total')
  const items = bodies.slice(0, limit)
  const last = items.at(-1)
  return {
    ...days,
    by,
    currency: 'USD',
    pricesAsOf,
    items: items.map((row) => ({ [named[by]]: row.name, ...toSums(row) }) as UsageAnswer['items'][number]),
    total: toSums(total),
    nextCursor: bodies.length > limit && last !== undefined ? encodePlace(last) : null,
  }
}
