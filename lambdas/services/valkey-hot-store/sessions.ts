/** What happens to sessions and messages beside their turns. Repeating any of it changes nothing. */
import type { Tenant } from '../../protocol/callers.ts'
import type { MessageRecord } from '../../protocol/queue.ts'
import type { Call } from '../valkey.ts'
import type { Means } from './means.ts'
import { keysOf, type Place } from './names.ts'
import * as scripts from './scripts/sessions.ts'
import { readEntry, writeEntry } from './values.ts'

/**
 * Afterwards Postgres has every message of the place's session that stood here alone. What came meanwhile is left for the
 * next time. Throws what saving throws; nothing is forgotten then.
 */
export async function settlePlace(
  { valkey, source }: Pick<Means, 'valkey' | 'source'>,
  tenant: Tenant,
  place: Place,
): Promise<void> {
  const { unsaved } = keysOf(tenant, place)
  const all = await valkey.command<Buffer[]>('HGETALL', unsaved, [], { bytes: true })
  const records = all.flatMap((bytes, index) => (index % 2 === 1 ? [readEntry(place.sessionId, bytes)] : []))
  if (records.length === 0) return
  await source.save(records)
  await valkey.command(
    'HDEL',
    unsaved,
    records.map(({ id }) => id),
  )
}

/** As settlePlace; of a message that nobody here has heard of there is nothing to settle. */
export async function settle(
  means: Pick<Means, 'valkey' | 'source' | 'places'>,
  tenant: Tenant,
  of: { sessionId: string } | { messageId: string },
): Promise<void> {
  const place =
    'sessionId' in of
      ? { sessionId: of.sessionId, threadId: '' }
      : await means.places.find(tenant, of.messageId)
  if (place) await settlePlace(means, tenant, place)
}

/** A turn that runs here while others of its thread are opened elsewhere. */
export interface LeftTurn {
  messageId: string
  questionId: string
  leaseLeftMs: number
}

/**
 * Before a turn of this thread is opened elsewhere: settles the session, and has the thread be loaded again before one is
 * opened here. Returns the turns of the thread that run here, whose places are known from now on; none where the message
 * is unknown.
 */
export async function leave(
  means: Pick<Means, 'valkey' | 'source' | 'places'>,
  tenant: Tenant,
  of: Place | { messageId: string },
): Promise<LeftTurn[]> {
  const { valkey, places } = means
  const place = 'messageId' in of ? await places.find(tenant, of.messageId) : of
  if (place === undefined) return []
  const { session, history, order, running } = keysOf(tenant, place)
  await settlePlace(means, tenant, place)
  const flat = await valkey.run<string[]>(scripts.leave, [session, history, order, running])
  return flat.flatMap((messageId, index): LeftTurn[] => {
    if (index % 3 !== 0) return []
    places.remember(tenant, messageId, place)
    return [{ messageId, leaseLeftMs: Number(flat[index + 1]), questionId: String(flat[index + 2]) }]
  })
}

/**
 * These records stand in Postgres: they are not settled again. An answer that its writer saved whole, and did not end, is
 * what its turn ends with when it is taken over, at once; one that an interruption left is not. One whose turn was opened
 * elsewhere has its thread be loaded again.
 */
export async function saved(
  { valkey }: Pick<Means, 'valkey'>,
  records: readonly MessageRecord[],
): Promise<void> {
  await valkey.pipeline(
    records.map((record): Call => {
      const tenant = { companyId: record.company_id, platform: record.platform }
      const keys = keysOf(tenant, { sessionId: record.session_id, threadId: record.thread_id })
      const isAnswer = record.role === 'assistant'
      return {
        script: scripts.saved,
        keys: [keys.session, keys.history, keys.order, keys.running, keys.unsaved, keys.turn(record.id)],
        args: [
          record.id,
          Date.parse(record.created_at),
          isAnswer && record.status !== 'interrupted' ? writeEntry(record) : '',
          isAnswer ? '1' : '0',
        ],
      }
    }),
  )
}

/** No turn of the session is opened any more; where it is purged, it is not found, and its logs are shown as erased. */
export async function sessionEnded(
  { valkey }: Pick<Means, 'valkey'>,
  tenant: Tenant,
  sessionId: string,
  { purge }: { purge: boolean },
): Promise<void> {
  const { session } = keysOf(tenant, { sessionId, threadId: '' })
  await valkey.run(scripts.end, [session], [purge ? 'deleted' : 'ended'])
}

/** The message is in no history any more, and its log is shown as erased. Does nothing where nobody has heard of it. */
export async function messageDeleted(
  { valkey, places }: Pick<Means, 'valkey' | 'places'>,
  tenant: Tenant,
  messageId: string,
): Promise<void> {
  const place = await places.findAnywhere(tenant, messageId)
  if (place === undefined || 'outcome' in place) return
  const { session, history, order, unsaved, turn } = keysOf(tenant, place)
  await valkey.run(scripts.erase, [session, history, order, unsaved, turn(messageId)], [messageId])
}
