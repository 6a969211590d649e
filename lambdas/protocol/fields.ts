/**
 * What the fields of several requests are. Requests are checked at the edge with the schemas of this folder; inside, the types
 * are trusted.
 */
import * as v from 'valibot'
import { isStorableText } from './text.ts'

/** Metadata travels inside a queue record and a database row; it is bounded so that both always fit. */
export const MAX_METADATA_BYTES = 8_192
export const MAX_LABEL_CHARACTERS = 200

const UNSTORABLE = 'must not contain NUL or a lone surrogate'
export const storable = v.check(isStorableText, UNSTORABLE)

export const notBlank = v.check((text: string) => text.trim() !== '', 'must not be blank')

export const label = v.pipe(
  v.string(),
  notBlank,
  v.maxLength(MAX_LABEL_CHARACTERS, `must be at most ${MAX_LABEL_CHARACTERS} characters`),
  storable,
)
export const nullableLabel = v.optional(v.nullable(label))
export const uuid = v.pipe(v.string(), v.uuid('must be a UUID'), v.toLowerCase())

// Not Buffer: the page reads this file's types, and a browser has none.
const utf8Bytes = (text: string): number => new TextEncoder().encode(text).length

type JsonObject = Record<string, unknown>
const everyStringIsStorable = (value: unknown): boolean => {
  if (typeof value === 'string') return isStorableText(value)
  if (value === null || typeof value !== 'object') return true
  return Object.entries(value).every(([key, inner]) => isStorableText(key) && everyStringIsStorable(inner))
}
export const jsonObject = v.custom<JsonObject>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'must be an object',
)
export const metadata = v.pipe(
  jsonObject,
  v.check(
    (value: JsonObject) => utf8Bytes(JSON.stringify(value)) <= MAX_METADATA_BYTES,
    'must be at most 8 KB',
  ),
  v.check((value: JsonObject) => everyStringIsStorable(value), UNSTORABLE),
)

export const score = v.pipe(
  v.number(),
  v.integer('must be a whole number from 1 to 5'),
  v.minValue(1, 'must be from 1 to 5'),
  v.maxValue(5, 'must be from 1 to 5'),
)

export const flag = v.pipe(
  v.picklist(['true', 'false'], 'must be true or false'),
  v.transform((text) => text === 'true'),
)
