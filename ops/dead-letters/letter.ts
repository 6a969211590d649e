/** What a dead letter says: whose it is, what it is, and why it could not be saved. */
import * as v from 'valibot'
import { uuidSchema } from '../../lambdas/protocol/addresses.ts'
import { messageRecordSchema, queueBodySchema } from '../../lambdas/protocol/queue.ts'
import type { Letter } from './queue.ts'

export interface Summary {
  id: string
  /** Null where the queue itself moved it: SQS does not say when. */
  diedAt: string | null
  sentAt: string
  reason: string | null
  /** `company/platform`; more than one only in a record that nobody wrote so. */
  tenants: string[]
  /** question, answer, watch, or unreadable. */
  kind: string
  messageIds: string[]
  receives: number
}

/** Names a letter by its own id or by that of the message that died, which is what the log says. */
export const isNamed = ({ id, originalId }: Letter, names: readonly string[]): boolean =>
  names.includes(id) || (originalId !== undefined && names.includes(originalId))

type JsonObject = Record<string, unknown>
const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Undefined where it is no JSON. */
function parse(body: string): unknown {
  try {
    return JSON.parse(body)
  } catch {
    return undefined
  }
}

/** Also of what cannot be read, as far as it goes. */
export function summarize(letter: Letter): Summary {
  const body = parse(letter.body)
  const { records, watch } = isObject(body) ? body : {}
  const parts = (Array.isArray(records) ? records : [watch]).filter(isObject)
  const tenants = parts.map(
    ({ company_id, companyId, platform }) => `${name(company_id ?? companyId)}/${name(platform)}`,
  )
  const sentAt = new Date(letter.sentAt).toISOString()
  return {
    id: letter.id,
    diedAt: letter.reason === undefined ? null : sentAt,
    sentAt,
    reason: letter.reason ?? null,
    tenants: [...new Set(tenants)],
    kind: kindOf(letter, watch !== undefined, parts),
    messageIds: parts.map(({ id, messageId }) => id ?? messageId).filter((id) => v.is(uuidSchema, id)),
    receives: letter.receives,
  }
}

const LONGEST_NAME = 40
const name = (value: unknown): string => (typeof value === 'string' ? value.slice(0, LONGEST_NAME) : '?')

const KINDS: Record<string, string> = { user: 'question', assistant: 'answer', system: 'system' }

function kindOf(letter: Letter, isWatch: boolean, records: JsonObject[]): string {
  if (problemsOf(letter).length > 0) return 'unreadable'
  if (isWatch) return 'watch'
  return [...new Set(records.map(({ role }) => KINDS[String(role)] ?? '?'))].join('+')
}

/** What is wrong with each field, without its text; empty where persist can read it. */
export function problemsOf({ body: text }: Letter): string[] {
  const body = parse(text)
  if (body === undefined) return ['it is not JSON']
  if (!isObject(body)) return ['it is not an object']
  const schema = queueBodySchema.options.find(({ entries }) =>
    Object.keys(entries).some((key) => key in body),
  )
  if (!schema) return ['it holds neither records nor a watch']
  return (v.safeParse(schema, body).issues ?? []).map(
    (issue) => `${v.getDotPath(issue)} ${expectation(issue)}`,
  )
}

function expectation({ message, expected, received, type }: v.BaseIssue<unknown>): string {
  if (!message.startsWith('Invalid')) return message // the schema's own words
  if (received === 'undefined') return 'is missing'
  const wanted = expected === null ? `a valid ${type.replaceAll('_', ' ')}` : expected
  // A text that stands in the wrong place may be a message's.
  return `must be ${wanted}, is ${received.startsWith('"') ? 'another text' : received}`
}

const SQL_STATES: Record<string, string> = {
  '22001': 'a text is longer than its column allows',
  '22003': 'a number is out of its column’s range',
  '22007': 'a time is in no form that Postgres reads',
  '22008': 'a time is out of range',
  '22021': 'a text holds a character that Postgres cannot store',
  '22P02': 'a value is not of its column’s type',
  '22P05': 'a text holds a character that Postgres cannot store, as NUL',
  '23502': 'a field that must have a value has none',
  '23505': 'the session’s id is taken by another tenant; ids of sessions are unique among all of them',
  '23514': 'a value is outside of what its column’s check allows, as role, status or sequence_number',
}
const SQL_CLASSES: Record<string, string> = {
  '22': 'Postgres refuses one of its values',
  '23': 'one of its values breaks a constraint',
}

/** Why it died, in words. */
export function explain({ reason, receives }: Letter): string {
  if (reason === undefined)
    return `The queue moved it here after too many receives (${receives} with looks): persist failed on it without saying why. Its log of that time does.`
  if (reason === 'unreadable') return 'unreadable: it was not what the turns queue holds'
  const words = SQL_STATES[reason] ?? SQL_CLASSES[reason.slice(0, 2)]
  return words ? `SQLSTATE ${reason}: ${words}` : reason
}

const HIDDEN = new Set(['content', 'metadata', 'sources'])
const SHOWN = new Set(
  Object.keys({ ...messageRecordSchema.entries, ...queueBodySchema.options[1].entries.watch.entries }).filter(
    (key) => !HIDDEN.has(key),
  ),
)
const LONGEST_SHOWN = 200

/** The record; without content, all but fields that are known to hold none say only how large they are. */
export function record({ body: text }: Letter, withContent: boolean): string {
  const body = parse(text)
  if (body === undefined) return withContent ? JSON.stringify(text) : `${text.length} characters, not JSON`
  return JSON.stringify(withContent ? body : redact(body), null, 2)
}

function redact(value: unknown, isShown = false): unknown {
  if (typeof value === 'string')
    return isShown && value.length <= LONGEST_SHOWN ? value : `<${value.length} characters>`
  if (typeof value === 'number') return isShown ? value : '<a number>'
  if (Array.isArray(value)) return value.map((item) => redact(item))
  if (!isObject(value)) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      const isContainer = key === 'records' || key === 'watch'
      if (isContainer || SHOWN.has(key)) return [key, redact(inner, SHOWN.has(key))]
      return [key, isObject(inner) || Array.isArray(inner) ? sizeOf(inner) : redact(inner)]
    }),
  )
}

const sizeOf = (value: object): string => `<${Buffer.byteLength(JSON.stringify(value))} bytes>`
