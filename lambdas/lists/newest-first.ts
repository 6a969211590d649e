/** Lists that are read newest first, a page at a time. A page goes on at a place in time, so it may grow meanwhile. */
import * as v from 'valibot'
import { uuidSchema } from '../protocol/addresses.ts'
import { invalidField } from '../protocol/errors.ts'
import type { Page } from '../protocol/lists.ts'

/** An item's time in UTC, to the microsecond, and its id. */
export interface Place {
  at: string
  id: string
}

const TIME = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.\d{1,6})?(?:Z|\+00:00)$/

/** Whether Postgres takes it: unlike Date it knows no 31st of February, and no year 0. */
function isTime(text: string): boolean {
  const [, day = '', clock] = TIME.exec(text) ?? []
  const time = new Date(`${day}T${clock}Z`)
  return (
    !day.startsWith('0000') && !Number.isNaN(time.getTime()) && time.toISOString() === `${day}T${clock}.000Z`
  )
}

const encodeCursor = ({ at, id }: Place): string => Buffer.from(`${at} ${id}`).toString('base64url')

/** Where a page goes on. Refuses `invalid_request` for anything that no page has ended with. */
export function placeOf(cursor: string): Place {
  const text = Buffer.from(cursor, 'base64url').toString()
  const between = text.lastIndexOf(' ')
  const [at, id] = [text.slice(0, Math.max(between, 0)), text.slice(between + 1)]
  if (!isTime(at) || !v.is(uuidSchema, id)) throw invalidField('cursor', 'must be a nextCursor of this list')
  return { at, id }
}

/** A page of rows that were read with one more than `limit`, to know whether there is a next one. */
export function pageOf<Row, Item>(
  rows: readonly Row[],
  limit: number,
  toItem: (row: Row) => Item,
  toPlace: (row: Row) => Place,
): Page<Item> {
  const page = rows.slice(0, limit)
  const last = page.at(-1)
  return {
    items: page.map(toItem),
    nextCursor: rows.length > limit && last !== undefined ? encodeCursor(toPlace(last)) : null,
  }
}
