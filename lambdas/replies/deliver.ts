/** What the turns queue delivers: records to save, turns to look after. Decides what becomes of each message. */
import * as v from 'valibot'
import { thawLeft } from '../ageing/thaw.ts'
import { removeTexts, stowText } from '../messages/large-text.ts'
import {
  type ErasedRecord,
  faultOfTheData,
  type RefusedItem,
  type SaveItem,
  saveItems,
} from '../messages/save.ts'
import { type MessageRecord, type QueueBody, queueBodySchema } from '../protocol/queue.ts'
import type { Database } from '../services/database.ts'
import type { WatchedTurn } from '../services/hot-store.ts'
import type { Delivery, DeliveryDesk } from '../services/turn-queue.ts'
import type { Log } from './log.ts'
import type { RescueServices } from './rescue.ts'
import { spool } from './spool.ts'
import { lookAfter } from './watch.ts'

export interface DeliverServices extends RescueServices {
  database: Database
  desk: DeliveryDesk
  /** Asked after a save. */
  countUsers: (log: Log) => Promise<void>
}

/**
 * How long a message waits when Postgres cannot be reached: a quarter of its age, so that an outage of any length is
 * over for it soon after it is over; and few enough times in the 7 days below for the queue's 1,000 receives.
 */
const MAX_WAIT_SECONDS = 900
const waitSeconds = (ageMs: number): number =>
  Math.min(Math.max(2, Math.ceil(ageMs / 4_000)), MAX_WAIT_SECONDS)
/** A watch comes back after the records that waited with it: what they save is what it would rescue. */
const WATCH_BEHIND_SECONDS = 4
/** SQS forgets after 14 days; halfway there a record moves to the spool, where it keeps. */
const SPOOL_AFTER_MS = 7 * 24 * 3_600_000

type Read = { delivery: Delivery; body: QueueBody | undefined }

/** Returns the ids of messages that must come back. */
export async function deliver(
  services: DeliverServices,
  deliveries: readonly Delivery[],
  log: Log,
): Promise<string[]> {
  const read = deliveries.map((delivery): Read => ({ delivery, body: parse(delivery.body) }))
  const saving = read.flatMap(({ delivery, body }): SaveItem[] =>
    body && 'records' in body ? [{ id: delivery.id, records: body.records }] : [],
  )
  const watches = read.filter(({ body }) => body && 'watch' in body)
  const watched = watches.flatMap(({ body }): WatchedTurn[] => (body && 'watch' in body ? [body.watch] : []))

  const unreadable = read
    .filter(({ body }) => body === undefined)
    .map(({ delivery }) => ({ id: delivery.id, reason: 'unreadable' }))
  const saved = await attempt(async () => {
    const erased: ErasedRecord[] = []
    await bringBack(services, saving, log)
    const refused = await saveItems(services.database, await stowed(services, saving), (some) =>
      erased.push(...some),
    )
    await forget(services, erased, log)
    return refused
  }, log)
  measureSaving(services, saving, saved?.result)
  if (saved) await tellHotStore(services, saving, saved.result, log)
  const looked = await attempt(() => lookAfter(services, watched, log), log)

  const byId = new Map(deliveries.map((delivery) => [delivery.id, delivery]))
  const back = [
    ...(await bury(services, byId, [...unreadable, ...(saved?.result ?? [])], log)),
    ...(saved === undefined
      ? await wait(
          services,
          byId,
          saving.map(({ id }) => id),
          log,
        )
      : []),
    ...(looked === undefined
      ? await wait(
          services,
          byId,
          watches.map(({ delivery }) => delivery.id),
          log,
          WATCH_BEHIND_SECONDS,
        )
      : []),
  ]
  if (saved && saving.length > 0) await services.countUsers(log)
  log.info('batch delivered', { messages: deliveries.length, comingBack: back.length })
  return back
}

/** An answer's `created_at` is when its turn was opened; it was there to be saved when it had been written. */
const madeAt = ({ created_at, response_time_ms }: MessageRecord): number =>
  Date.parse(created_at) + (response_time_ms ?? 0)

/** `refused` is undefined where Postgres cannot be reached: the lag then grows with each delivery that fails. */
function measureSaving(
  { measure }: DeliverServices,
  items: readonly SaveItem[],
  refused: readonly RefusedItem[] | undefined,
): void {
  const now = Date.now()
  const dead = new Set(refused?.map(({ id }) => id))
  const records = items.filter(({ id }) => !dead.has(id)).flatMap((item) => item.records)
  // Two clocks: the records' is the database's.
  for (const record of records) measure('SaveLag', Math.max(0, now - madeAt(record)))
  if (refused && records.length > 0) measure('RecordsSaved', records.length)
}

/** It keeps what is not saved yet. Where it cannot be told, it keeps that for longer, and nothing is wrong with it. */
async function tellHotStore(
  { hotStore }: DeliverServices,
  items: readonly SaveItem[],
  refused: readonly RefusedItem[],
  log: Log,
): Promise<void> {
  const dead = new Set(refused.map(({ id }) => id))
  const records = items.filter(({ id }) => !dead.has(id)).flatMap((item) => item.records)
  await hotStore.saved(records).catch((error) => log.warn('hot store not told of a save', { error }))
}

/** Nothing that is younger leaves for the archive (sql/operations/save_records.sql). */
const MAY_HAVE_LEFT_MS = 12 * 3_600_000

/** What comes this late may be better than what has left of it, and versions are compared in Postgres. */
async function bringBack(services: DeliverServices, items: readonly SaveItem[], log: Log): Promise<void> {
  const late = items
    .flatMap(({ records }) => records)
    .filter(({ created_at }) => Date.now() - Date.parse(created_at) > MAY_HAVE_LEFT_MS)
  const byTenant = Map.groupBy(late, ({ company_id, platform }) => JSON.stringify([company_id, platform]))
  for (const records of byTenant.values()) {
    const [{ company_id: companyId, platform }] = records as [MessageRecord]
    const ids = records.map(({ id }) => id)
    await thawLeft(services, { companyId, platform }, ids, (messageId, error) =>
      log.error('late version not compared with the archive', { messageId, error }),
    ).catch((error) => {
      // What is wrong with a record, saving finds out, and buries that one alone.
      if (faultOfTheData(error) === undefined) throw error
    })
  }
}

/** What came after its user or its session was erased leaves nothing behind: not its text, nor what the hot store has. */
async function forget(
  { bucket, hotStore }: DeliverServices,
  erased: readonly ErasedRecord[],
  log: Log,
): Promise<void> {
  for (const { company_id, platform, id, session_id, thread_id } of erased) {
    const tenant = { companyId: company_id, platform }
    await removeTexts(bucket, tenant, id)
    const messages = [{ messageId: id, threadId: thread_id }]
    await hotStore.sessionErased(tenant, session_id, { messages, force: true })
  }
  if (erased.length > 0) log.info('erased records dropped', { records: erased.length })
}

function parse(text: string): QueueBody | undefined {
  try {
    return v.parse(queueBodySchema, JSON.parse(text))
  } catch {
    return undefined
  }
}

/** A large text whose object could not be written when it was queued stands in the record itself; it moves now. */
const stowed = ({ bucket }: DeliverServices, items: readonly SaveItem[]): Promise<SaveItem[]> =>
  Promise.all(
    items.map(async ({ id, records }) => ({
      id,
      records: await Promise.all(records.map((record) => stowText(bucket, record))),
    })),
  )

/** Undefined where it was not possible now. */
async function attempt<Result>(
  work: () => Promise<Result>,
  log: Log,
): Promise<{ result: Result } | undefined> {
  try {
    return { result: await work() }
  } catch (error) {
    log.error('delivery not possible now', { error })
    return undefined
  }
}

/** Refused for itself: it moves to the dead letters. What cannot be moved comes back. */
async function bury(
  { desk, count }: DeliverServices,
  byId: Map<string, Delivery>,
  refused: readonly RefusedItem[],
  log: Log,
): Promise<string[]> {
  const back: string[] = []
  for (const { id, reason } of refused) {
    const delivery = byId.get(id)
    if (delivery === undefined) continue
    try {
      await desk.bury(delivery, reason)
      count('RecordDeadLettered')
      log.error('record dead-lettered', { queueMessageId: id, reason })
    } catch (error) {
      back.push(id)
      log.error('record not dead-lettered', { queueMessageId: id, reason, error })
    }
  }
  return back
}

/** Postgres cannot be reached, so nobody is to blame: messages wait in the queue, old ones in the spool. */
async function wait(
  { desk, bucket }: DeliverServices,
  byId: Map<string, Delivery>,
  ids: readonly string[],
  log: Log,
  moreSeconds = 0,
): Promise<string[]> {
  const waiting: Delivery[] = []
  for (const id of ids) {
    const delivery = byId.get(id)
    if (delivery === undefined) continue
    if (Date.now() - delivery.sentAt < SPOOL_AFTER_MS || !(await spooled(bucket, delivery, log)))
      waiting.push(delivery)
  }
  const postponed = waiting.map((delivery) => ({
    delivery,
    seconds: Math.min(waitSeconds(Date.now() - delivery.sentAt) + moreSeconds, MAX_WAIT_SECONDS),
  }))
  await desk.postpone(postponed).catch((error) => log.warn('messages not postponed', { error }))
  return waiting.map(({ id }) => id)
}

async function spooled(bucket: DeliverServices['bucket'], delivery: Delivery, log: Log): Promise<boolean> {
  const body = parse(delivery.body)
  const first = body && ('records' in body ? body.records[0] : undefined)
  if (body === undefined || first === undefined) return false
  try {
    await spool(bucket, [{ tenant: { companyId: first.company_id, platform: first.platform }, body }])
    return true
  } catch (error) {
    log.error('old record not spooled', { queueMessageId: delivery.id, error })
    return false
  }
}
