/** Brings a session, and what a thread needs of its history, from Postgres. */
import type { Tenant } from '../../protocol/callers.ts'
import type { MessageRecord } from '../../protocol/queue.ts'
import type { Archived, LapsedTurn } from '../hot-store.ts'
import type { LoadedSession, Refusal, SessionWanted } from '../postgres-session-source.ts'
import type { Means } from './means.ts'
import { keysOf } from './names.ts'
import { put } from './scripts/sessions.ts'
import { settlePlace } from './sessions.ts'
import { skipOf, writeEntry } from './values.ts'

/** Fewest messages that are kept of a thread, so that branches near its end are here, too. */
const LEAST_KEPT = 20

/** Messages that are kept of a thread for histories of so many. */
export const kept = (count: number): number => Math.max(2 * count, LEAST_KEPT)

/** Only these are kept: Postgres answers with what became of a message, too. */
const columnsOf = (message: MessageRecord): MessageRecord => ({
  company_id: message.company_id,
  platform: message.platform,
  id: message.id,
  session_id: message.session_id,
  thread_id: message.thread_id,
  role: message.role,
  content: message.content,
  content_key: message.content_key,
  status: message.status,
  token_count: message.token_count,
  response_time_ms: message.response_time_ms,
  model: message.model,
  sources: message.sources,
  metadata: message.metadata,
  parent_message_id: message.parent_message_id,
  sequence_number: message.sequence_number,
  created_at: message.created_at,
  user_id: message.user_id,
})

/**
 * Settles the session first, so that Postgres knows all of it. Afterwards it is here, unless Postgres has refused it, a
 * turn is in the way, or what is wanted has left for the archive. Undefined: it has changed here since it had this version,
 * and nothing was put.
 */
export async function load(
  means: Pick<Means, 'valkey' | 'source'>,
  tenant: Tenant,
  wanted: SessionWanted,
  version: string,
): Promise<LoadedSession | Refusal | LapsedTurn | Archived | undefined> {
  const { valkey, source } = means
  await settlePlace(means, tenant, wanted)
  const loaded = await source.load(tenant, wanted)
  if (loaded.outcome !== 'loaded') return loaded
  const messages = [...new Map(loaded.messages.map((message) => [message.id, message])).values()]
  messages.sort((a, b) => a.sequence_number - b.sequence_number)
  const entries = messages.flatMap((message) => [
    message.id,
    writeEntry(columnsOf(message), message.is_deleted ? 2 : skipOf(message)),
  ])
  const newest = loaded.newest ? `${loaded.newest.id} ${loaded.newest.at}` : '-'
  const user = encodeURIComponent(loaded.userId)
  const { session, history, order } = keysOf(tenant, wanted)
  const args = [version, user, loaded.messageCount, newest, wanted.count * 2, ...entries]
  const done = await valkey.run(put, [session, history, order], args)
  return done === 1 ? loaded : undefined
}
