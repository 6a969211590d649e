/** Removing sessions that were marked as erased: rows, texts in the bucket, and what the hot store has of them. */
import { setTimeout as sleep } from 'node:timers/promises'
import { removeTexts } from '../messages/large-text.ts'
import type { Tenant } from '../protocol/callers.ts'
import type { Bucket } from '../services/bucket.ts'
import type { Database } from '../services/database.ts'
import type { HotStore } from '../services/hot-store.ts'
import { continueIfTime } from './out-of-time.ts'

export interface ClearServices {
  database: Database
  bucket: Bucket
  hotStore: Pick<HotStore, 'sessionErased'>
}

/** Whose list of sessions it is. */
export interface Clearing {
  tenant: Tenant
  jobId: string
  run: { timeLeft: () => number }
}

/** Messages, or sessions, in one call. */
const ROWS = 500
const AT_ONCE = 10
/** An answer that runs in the hot store is stopped within a second. */
const STOP_WITHIN_MS = 5_000
const LOOK_AGAIN_MS = 200

interface MessageRow {
  id: string
  session_id: string
  thread_id: string
  /** Absent of what is in the archive: its texts go with its lines. */
  content_key?: string | null
}

interface SessionRow {
  id: string
  /** Of what is in the archive. */
  threads: string[]
}

/**
 * Removes them, batch after batch: what stands outside of Postgres first, since Postgres alone knows of it. Throws OutOfTime
 * where time is up; the next call goes on.
 */
export async function clearSessions(
  services: ClearServices,
  { tenant, jobId, run }: Clearing,
): Promise<void> {
  let gone: Partial<Record<'messages' | 'archived' | 'sessions', string[]>> = {}
  for (;;) {
    const rows = await services.database.callFor<{ kind: Kind; body: string }>(tenant, 'erase_next', [
      { uuid: jobId },
      { jsonb: gone },
      { integer: ROWS },
    ])
    const [first] = rows
    if (first === undefined) return
    continueIfTime(run)
    const next = rows.map(({ body }): MessageRow & SessionRow => JSON.parse(body))
    const forgotten =
      first.kind === 'session'
        ? await forgetSessions(services.hotStore, tenant, next)
        : await forgetMessages(services, tenant, next)
    gone = { [listOf[first.kind]]: next.map(({ id }) => id) }
    if (forgotten > 0)
      await services.database.callFor(tenant, 'note_erased', [
        { uuid: jobId },
        { jsonb: { hotStore: forgotten } },
      ])
  }
}

type Kind = 'message' | 'archived' | 'session'
const listOf = { message: 'messages', archived: 'archived', session: 'sessions' } as const

async function forgetMessages(
  { bucket, hotStore }: ClearServices,
  tenant: Tenant,
  messages: readonly MessageRow[],
): Promise<number> {
  let forgotten = 0
  for (const [session, rows] of Map.groupBy(messages, ({ session_id }) => session_id))
    forgotten += await forgetSession(
      hotStore,
      tenant,
      session,
      rows.map(({ id, thread_id }) => ({ messageId: id, threadId: thread_id })),
    )
  const large = [...new Set(messages.flatMap(({ id, content_key }) => (content_key ? [id] : [])))]
  for (let from = 0; from < large.length; from += AT_ONCE)
    await Promise.all(large.slice(from, from + AT_ONCE).map((id) => removeTexts(bucket, tenant, id)))
  return forgotten
}

async function forgetSessions(
  hotStore: ClearServices['hotStore'],
  tenant: Tenant,
  sessions: readonly SessionRow[],
): Promise<number> {
  let forgotten = 0
  // A thread without a message: whatever lies under its name.
  for (const { id, threads } of sessions)
    forgotten += await forgetSession(
      hotStore,
      tenant,
      id,
      threads.map((threadId) => ({ messageId: id, threadId })),
    )
  return forgotten
}

/** Stops what runs there, waits for it, and then no longer. Returns how many entries the hot store has forgotten. */
async function forgetSession(
  hotStore: ClearServices['hotStore'],
  tenant: Tenant,
  sessionId: string,
  messages: readonly { messageId: string; threadId: string }[],
): Promise<number> {
  const until = Date.now() + STOP_WITHIN_MS
  for (;;) {
    const force = Date.now() > until
    const { running, removed } = await hotStore.sessionErased(tenant, sessionId, { messages, force })
    if (running === 0 || force) return removed
    await sleep(LOOK_AGAIN_MS)
  }
}
