/**
 * Retention, a part of the daily run: what has had its time goes, from Postgres, the bucket and the archive. Each step takes
 * bounded batches and does nothing where nothing is due, so that a run that is killed is followed by one that begins anew.
 * Daily totals are kept: usage was counted when it was used. docs/rights.md has the times.
 */
import { NIL } from 'uuid'
import { removeTexts } from '../messages/large-text.ts'
import type { Tenant } from '../protocol/callers.ts'
import type { Count } from '../protocol/metrics.ts'
import { eraseArchived, nextObject } from '../rights/erase-archived.ts'
import { type Clearing, clearSessions } from '../rights/erase-sessions.ts'
import { continueIfTime, OutOfTime } from '../rights/out-of-time.ts'
import type { Bucket } from '../services/bucket.ts'
import type { Database } from '../services/database.ts'
import type { ArchivedSegment } from '../services/hot-store.ts'
import type { ReadSecret } from '../services/secrets.ts'
import { findingMoved, isBroken, readCopies } from './copies.ts'
import { largeIn, type ObjectSegment, segmentsIn } from './object-segments.ts'
import { pseudonymOf } from './pseudonym.ts'
import { removeDropped } from './remove-objects.ts'
import { thawCopies } from './thaw.ts'

export interface RetentionServices {
  database: Database
  bucket: Bucket
  pseudonymKey: ReadSecret
  count: Count
}

/** How much of what went in one run. */
export interface Retained {
  sessions: number
  messages: number
  archiveObjects: number
  /** Rows in which a hash stands for a user now. */
  hidden: number
  auditLines: number
}

/** Rows in one call. */
const ROWS = 500
const AT_ONCE = 10
/** Each with up to 250 ids: a response of the Data API holds 1 MiB. */
const SEGMENTS = 50
/** Not an erasure's: as sql/operations/retention.sql marks sessions. */
const JOB = NIL
/** What is kept in the hot store ends by itself, long before any of these times. */
const NO_HOT_STORE = { sessionErased: async () => ({ running: 0, removed: 0 }) }

type Step = (services: RetentionServices, clearing: Clearing, counts: Retained) => Promise<void>

const removeSessions: Step = async (services, clearing, counts) => {
  for (;;) {
    continueIfTime(clearing.run)
    const [marked] = await services.database.callFor<{ deleted: number; expired: number }>(
      clearing.tenant,
      'mark_overdue_sessions',
      [{ integer: ROWS }],
    )
    const some = (marked?.deleted ?? 0) + (marked?.expired ?? 0)
    counts.sessions += some
    if (some === 0) break
  }
  // Also what a run before has marked and not removed.
  await clearSessions({ ...services, hotStore: NO_HOT_STORE }, clearing)
}

const rewriteObjects: Step = async (services, clearing) => {
  // Only where there is something: it may give up what another run is writing.
  if ((await nextObject(services.database, clearing)) === undefined) return
  try {
    await eraseArchived(services, clearing)
  } catch (error) {
    // What of the archive cannot be read stays until it is mended, and was counted: everything else must not wait for it.
    if (!isBroken(error)) throw error
  }
}

const removeMessages: Step = async ({ database, bucket }, { tenant, run }, counts) => {
  for (;;) {
    continueIfTime(run)
    const rows = await database.callFor<{ id: string; content_key: string | null }>(
      tenant,
      'overdue_messages',
      [{ integer: ROWS }],
    )
    if (rows.length === 0) return
    const large = rows.filter(({ content_key }) => content_key !== null)
    for (let from = 0; from < large.length; from += AT_ONCE)
      await Promise.all(large.slice(from, from + AT_ONCE).map(({ id }) => removeTexts(bucket, tenant, id)))
    const [removed] = await database.callFor<{ remove_overdue_messages: number }>(
      tenant,
      'remove_overdue_messages',
      [{ jsonb: rows.map(({ id }) => id) }],
    )
    if (!removed?.remove_overdue_messages) return // changed meanwhile, all of them
    counts.messages += removed.remove_overdue_messages
  }
}

const removeObjects: Step = async (services, { tenant, run }, counts) => {
  const { database } = services
  for (;;) {
    continueIfTime(run)
    const [row] = await database.callFor<{ overdue_object: string | null }>(tenant, 'overdue_object', [])
    const key = row?.overdue_object
    if (!key) return
    for (const segment of await segmentsIn(database, tenant, key)) {
      continueIfTime(run)
      await removeLastTexts(services, tenant, key, segment)
    }
    try {
      await findingMoved(services.count, () => bringBackNewer(services, { tenant, run }, key))
    } catch (error) {
      if (!isBroken(error)) throw error // What cannot be read goes with the younger object.
    }
    const [dropped] = await database.callFor<{ drop_overdue_object: number }>(tenant, 'drop_overdue_object', [
      { text: key },
    ])
    counts.messages += dropped?.drop_overdue_object ?? 0
    counts.archiveObjects += 1
    await removeDropped(services, tenant)
  }
}

/**
 * What came back from an object and has left again lies in a younger one, and is as old as the rest: it becomes a row, which
 * drop_overdue_object marks as deleted long ago, so that its copies are purged like those of any other. What cannot be read is
 * thrown when all others are rows.
 */
async function bringBackNewer(
  { database, bucket }: RetentionServices,
  { tenant, run }: Omit<Clearing, 'jobId'>,
  key: string,
): Promise<void> {
  let damage: unknown
  for (let after: string = NIL; ; ) {
    continueIfTime(run)
    const rows = await database.callFor<{ body: string }>(tenant, 'newer_copies', [
      { text: key },
      { uuid: after },
      { integer: SEGMENTS },
    ])
    for (const { body } of rows) {
      const segment: ArchivedSegment & { message_ids: string[] } = JSON.parse(body)
      after = segment.id
      const ids = new Set(segment.message_ids)
      try {
        const copies = await readCopies(bucket, segment)
        await thawCopies(
          database,
          tenant,
          copies.filter(({ message }) => ids.has(message.id)),
        )
      } catch (error) {
        if (!isBroken(error)) throw error
        damage = error
      }
    }
    if (rows.length < SEGMENTS) break
  }
  if (damage !== undefined) throw damage
}

/** The text of a message that is a row again, or has a newer copy, goes with that. */
async function removeLastTexts(
  services: RetentionServices,
  tenant: Tenant,
  key: string,
  segment: ObjectSegment,
): Promise<void> {
  const large = await largeIn(services, tenant, key, segment)
  if (large.length === 0) return
  const rows = await services.database.callFor<{ id: string }>(tenant, 'last_copies', [
    { uuid: segment.session_id },
    { uuid: segment.id },
  ])
  const last = new Set(rows.map(({ id }) => id))
  for (const id of large) if (last.has(id)) await removeTexts(services.bucket, tenant, id)
}

const hideUsers: Step = async ({ database, pseudonymKey }, { tenant, run }, counts) => {
  for (;;) {
    continueIfTime(run)
    const rows = await database.callFor<{ user_id: string }>(tenant, 'users_to_hide', [{ integer: ROWS }])
    if (rows.length === 0) return
    const key = await pseudonymKey()
    const users = rows.map(({ user_id }) => ({ user_id, pseudonym: pseudonymOf(key, tenant, user_id) }))
    for (;;) {
      continueIfTime(run)
      const [hidden] = await database.callFor<{ hide_users: number }>(tenant, 'hide_users', [
        { jsonb: users },
        { integer: ROWS },
      ])
      if (!hidden?.hide_users) break
      counts.hidden += hidden.hide_users
    }
  }
}

const removeExpired: Step = async ({ database }, { tenant, run }, counts) => {
  for (;;) {
    continueIfTime(run)
    const [removed] = await database.callFor<{ audit_lines: number; tombstones: number }>(
      tenant,
      'remove_expired',
      [{ integer: ROWS }],
    )
    counts.auditLines += removed?.audit_lines ?? 0
    if (!removed || removed.audit_lines + removed.tombstones === 0) return
  }
}

const forgetSpent: Step = async ({ database }, { tenant }) => {
  await database.callFor(tenant, 'forget_spent', [])
}

// Objects before messages: a row whose last copy went with its object goes in the same run; and of what was deleted the rows say
// what is to be purged from the objects that stay.
const steps: readonly Step[] = [
  removeSessions,
  removeObjects,
  rewriteObjects,
  removeMessages,
  hideUsers,
  removeExpired,
  forgetSpent,
]

/** Of one tenant. `isFinished` is false where time ran out first: the next run goes on. */
export async function retain(
  services: RetentionServices,
  tenant: Tenant,
  timeLeft: () => number,
): Promise<Retained & { isFinished: boolean }> {
  const counts = { sessions: 0, messages: 0, archiveObjects: 0, hidden: 0, auditLines: 0 }
  try {
    for (const step of steps) await step(services, { tenant, jobId: JOB, run: { timeLeft } }, counts)
    return { ...counts, isFinished: true }
  } catch (error) {
    if (error instanceof OutOfTime) return { ...counts, isFinished: false }
    throw error
  }
}
