/** A turn's answer, up to its end, for whoever holds its lease. */
import type { Tenant } from '../../protocol/callers.ts'
import type { NumberedEvent } from '../../protocol/chat.ts'
import { CodedError } from '../../protocol/errors.ts'
import type { MessageRecord } from '../../protocol/queue.ts'
import type { EventBatch, LeaseState, TakenTurn, TurnLease } from '../hot-store.ts'
import type { Argument, Reply, Valkey } from '../valkey.ts'
import { kept } from './loading.ts'
import { unlist } from './marks.ts'
import type { Means } from './means.ts'
import { keysOf, placeKey } from './names.ts'
import * as scripts from './scripts/writing.ts'
import { isText, pack, readEntry, writeEntry } from './values.ts'

const toArgs = (batches: readonly EventBatch[]): Argument[] =>
  batches
    .filter(({ events }) => events.length > 0)
    .flatMap(({ first, events }) => [first, events.length, pack(events)])

/**
 * Undefined: there is no such turn, and there never was. One that this instance has been writing and that is not here any
 * more is `unavailable`: the cache has forgotten it.
 */
async function write(
  { valkey, places }: Pick<Means, 'valkey' | 'places'>,
  { tenant, messageId }: TurnLease,
  call: (keys: ReturnType<typeof keysOf>) => Parameters<Valkey['run']>,
): Promise<Reply | undefined> {
  const key = placeKey(tenant, messageId)
  const place = await places.find(tenant, messageId)
  const reply = place ? await valkey.run(...call(keysOf(tenant, place))) : 'unknown'
  if (isText(reply, 'lost')) places.writing.delete(key)
  if (!isText(reply, 'unknown')) return reply
  if (places.writing.has(key)) throw new CodedError('unavailable', 'The cache has forgotten this turn.')
  return undefined
}

/** As HotStore says. A turn that the cache has forgotten is `unavailable` to its writer. */
export async function append(
  means: Pick<Means, 'valkey' | 'places' | 'leaseMs'>,
  lease: TurnLease,
  batches: readonly EventBatch[],
): Promise<LeaseState> {
  const { messageId, epoch } = lease
  const reply = await write(means, lease, ({ turn, running, log }) => [
    scripts.append,
    [turn(messageId), running, log(messageId)],
    [messageId, epoch, means.leaseMs, ...toArgs(batches)],
  ])
  return { held: reply === 'held' || reply === 'stop', stopRequested: reply === 'stop' }
}

/** As HotStore says. A turn that the cache has forgotten is `unavailable` to its writer. */
export async function close(
  means: Pick<Means, 'valkey' | 'places' | 'leaseMs' | 'budgeting'>,
  lease: TurnLease,
  batches: readonly EventBatch[],
  answer: MessageRecord,
): Promise<number | undefined> {
  const { messageId, epoch } = lease
  const reply = await write(means, lease, ({ turn, running, log, session }) => [
    scripts.close,
    [turn(messageId), running, log(messageId), session],
    [messageId, epoch, means.leaseMs, writeEntry(answer), ...toArgs(batches)],
  ])
  if (reply === undefined || reply === 'lost') return undefined
  await means.budgeting.settle(lease.tenant, answer)
  return Number(reply)
}

/** As HotStore says. A turn that the cache has forgotten is `unavailable` to its writer. */
export async function finish(
  means: Pick<Means, 'valkey' | 'places' | 'historyMessages'>,
  lease: TurnLease,
  terminal: NumberedEvent,
): Promise<boolean> {
  const { valkey, places, historyMessages } = means
  const { tenant, messageId, epoch } = lease
  const reply = await write(means, lease, ({ turn, running, log, session, history, order, unsaved }) => [
    scripts.finish,
    [turn(messageId), running, log(messageId), session, history, order, unsaved],
    [messageId, epoch, terminal.id, pack([terminal.event]), kept(historyMessages)],
  ])
  if (reply !== 'finished') return false
  const place = await places.find(tenant, messageId)
  places.writing.delete(placeKey(tenant, messageId))
  if (place) {
    places.remember(tenant, messageId, place)
    // The next sweep would do it.
    valkey.pipeline([unlist({ tenant, place, messageId })]).catch(() => undefined)
  }
  return true
}

/** As HotStore says: from here on whoever held the lease is refused. */
export async function takeOver(
  { valkey, places, leaseMs, budgeting }: Pick<Means, 'valkey' | 'places' | 'leaseMs' | 'budgeting'>,
  tenant: Tenant,
  messageId: string,
): Promise<{ turn: TakenTurn; saved: MessageRecord | undefined } | undefined> {
  const place = await places.find(tenant, messageId)
  if (place === undefined) return undefined
  const { turn, running } = keysOf(tenant, place)
  const flat = await valkey.run<Buffer[]>(
    scripts.takeOver,
    [turn(messageId), running],
    [messageId, leaseMs],
    { bytes: true },
  )
  if (flat.length === 0) return undefined
  const fields = new Map(
    flat.flatMap((name, index) => (index % 2 === 0 ? [[String(name), flat[index + 1]] as const] : [])),
  )
  const record = (name: string): MessageRecord | undefined => {
    const entry = fields.get(name)
    return entry && readEntry(place.sessionId, entry)
  }
  places.writing.set(placeKey(tenant, messageId), place)
  budgeting.inherit(tenant, messageId)
  return {
    saved: record('saved'),
    turn: {
      lease: { tenant, messageId, epoch: Number(fields.get('epoch')) },
      state: isText(fields.get('state'), 'c') ? 'closing' : 'running',
      sessionId: place.sessionId,
      threadId: place.threadId,
      userId: decodeURIComponent(String(fields.get('user'))),
      questionId: String(fields.get('question_id')),
      question: record('question'),
      answer: record('answer'),
      answerSequenceNumber: Number(fields.get('sequence')),
      openedAt: new Date(Number(fields.get('opened_at'))).toISOString(),
      onSave: JSON.parse(String(fields.get('on_save'))),
    },
  }
}
