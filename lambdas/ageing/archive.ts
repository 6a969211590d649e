/**
 * The archiver: what is old leaves Postgres for the bucket, tenant after tenant. A row is deleted only after its copy was
 * read back; a run may be killed anywhere, and two at once do no harm. docs/archive-format.md, docs/architecture.md.
 */
import type { Tenant } from '../protocol/callers.ts'
import { CodedError } from '../protocol/errors.ts'
import type { Count, Measure } from '../protocol/metrics.ts'
import type { Log } from '../replies/log.ts'
import type { ReadSecret } from '../services/secrets.ts'
import { type ArchiveDefaults, readArchivable, segmentsOf } from './archivable.ts'
import { compressed, readBack, type Written, type WrittenObject, writeObject } from './archive-object.ts'
import { GivenUp, type ObjectServices, unlessGivenUp } from './begun-object.ts'
import { inOrder } from './in-order.ts'
import { removeDead, removeGivenUp } from './remove-objects.ts'
import { retain } from './retention.ts'

export interface ArchiveServices extends ObjectServices {
  pseudonymKey: ReadSecret
  measure: Measure
  count: Count
}

export interface Archived {
  /** That have left Postgres. */
  messages: number
  /** Written to the bucket. */
  bytes: number
  /** Rows that are not what the archive can hold; they stay. */
  unfit: number
  /** Tenants whose run went wrong; the next run begins anew. */
  failed: number
  /** Nothing that is due was left undone. */
  isFinished: boolean
  /** Until the next message can become due. */
  dueInSeconds: number
}

export interface ArchiveOptions {
  defaults: ArchiveDefaults
  /** Milliseconds until the run has to have ended. */
  timeLeft: () => number
  log: Log
  /** Absent: all. */
  tenants?: readonly Tenant[]
}

const TENANTS_IN_CALL = 1_000

/** Of all tenants, in pages. */
async function* tenantsOf({ database }: Pick<ArchiveServices, 'database'>): AsyncGenerator<Tenant, void> {
  let last: Tenant = { companyId: '', platform: '' }
  for (;;) {
    const rows = await database.callFor<{ company_id: string; platform: string }>(last, 'list_tenants', [
      { integer: TENANTS_IN_CALL },
    ])
    for (const { company_id, platform } of rows) {
      last = { companyId: company_id, platform }
      yield last
    }
    if (rows.length < TENANTS_IN_CALL) return
  }
}

/**
 * Archives what is due. What goes wrong with one tenant is logged and counted, and the others
 * go on; where Postgres or the bucket cannot be reached it throws `unavailable`.
 */
export async function archive(services: ArchiveServices, options: ArchiveOptions): Promise<Archived> {
  const { defaults, timeLeft, log } = options
  const total: Archived = { ...NOTHING }
  let oldestSeconds = 0
  let overdueSeconds = 0
  const tenants = options.tenants ?? (await Array.fromAsync(tenantsOf(services)))
  // From another one each time: one that fills every run must not keep those behind it from ever being reached.
  const first = Math.floor(Math.random() * tenants.length)
  for (const tenant of [...tenants.slice(first), ...tenants.slice(0, first)]) {
    if (timeLeft() <= 0) total.isFinished = false
    if (!total.isFinished) break
    try {
      await removeDead(services, tenant)
      // First what goes for ever, or it would be archived for nothing.
      total.isFinished = await retainTenant(services, tenant, options)
      if (!total.isFinished) break
      total.isFinished = await archiveTenant(services, tenant, { ...options, total })
      const settled = await settle(services, tenant, defaults)
      oldestSeconds = Math.max(oldestSeconds, settled.oldest_seconds ?? 0)
      overdueSeconds = Math.max(overdueSeconds, -settled.due_seconds)
      total.dueInSeconds = Math.min(total.dueInSeconds, Math.max(settled.due_seconds, 0))
    } catch (error) {
      services.count('ArchiveFailed')
      total.failed += 1
      log.error('tenant not archived', { ...tenant, error })
      if (error instanceof CodedError && error.code === 'unavailable') throw error
    }
  }
  if (!total.isFinished || total.unfit > 0) services.count('ArchiveFailed')
  services.measure('RowsArchived', total.messages)
  services.measure('BytesArchived', total.bytes)
  services.measure('OldestMessageAge', oldestSeconds)
  services.measure('OldestMessageOverdue', overdueSeconds)
  services.measure('ArchiveTimeLeft', total.isFinished ? Math.max(0, timeLeft() / 1_000) : 0)
  return total
}

/** False: time ran out first. */
async function retainTenant(
  services: ArchiveServices,
  tenant: Tenant,
  { timeLeft, log }: ArchiveOptions,
): Promise<boolean> {
  const { isFinished, ...counts } = await retain(services, tenant, timeLeft)
  if (Object.values(counts).some((count) => count > 0)) log.info('retention', { ...tenant, ...counts })
  return isFinished
}

const NOTHING: Archived = {
  messages: 0,
  bytes: 0,
  unfit: 0,
  failed: 0,
  isFinished: true,
  dueInSeconds: Number.POSITIVE_INFINITY,
}

interface Run extends ArchiveOptions {
  /** Added to as it goes. */
  total: Archived
}

/** False: time ran out first. */
async function archiveTenant(services: ArchiveServices, tenant: Tenant, run: Run): Promise<boolean> {
  const { defaults, timeLeft, log, total } = run
  const onUnfit = (sessionId: string, messageId: string, why: string): void => {
    total.unfit += 1
    services.count('RowUnfitForArchive')
    log.error('row not archived', { ...tenant, sessionId, messageId, why })
  }
  const rows = readArchivable(services.database, tenant, defaults)
  const pseudonymKey = await services.pseudonymKey()
  const onGivenUp = async (error: unknown): Promise<null> => {
    if (!(error instanceof GivenUp)) throw error
    log.warn('archive object was given up', { ...tenant, key: error.key })
    await removeGivenUp(services, tenant, error.key)
    total.dueInSeconds = 0
    return null
  }
  const members = compressed(segmentsOf({ bucket: services.bucket, pseudonymKey, onUnfit }, tenant, rows))
  // While one object leaves, the next one is written.
  let leaving: Promise<unknown> = Promise.resolve()
  try {
    for (;;) {
      const begunAt = timeLeft()
      // What is written has to be read back and to leave in this run, which takes about as long again.
      const isTimeUp = (): boolean => timeLeft() < begunAt - timeLeft()
      const object = await writeObject(services, tenant, members, isTimeUp).catch(onGivenUp)
      await leaving
      if (object === undefined) return true
      const isLast = isTimeUp()
      if (object !== null) leaving = leave(services, tenant, object, run).catch(onGivenUp)
      leaving.catch(() => undefined) // It is told when it is awaited.
      if (isLast) await leaving
      if (isLast || timeLeft() <= 0) return false
    }
  } finally {
    await leaving.catch(() => undefined)
    await members.return()
  }
}

/** What was written leaves Postgres, when all of it was read back. Throws GivenUp. */
async function leave(
  services: ArchiveServices,
  tenant: Tenant,
  object: WrittenObject,
  { timeLeft, log, total }: Run,
): Promise<void> {
  const { key, messages } = object
  await unlessGivenUp(services.database, tenant, key, () => readBack(services.bucket, object))
  if (!(await complete(services, tenant, object))) throw new GivenUp(key)
  const left = await letLeave(services, tenant, object, timeLeft)
  total.bytes += object.bytes
  total.messages += left
  log.info('archived', { ...tenant, key, copied: messages, left })
}

/** False: it is given up. */
async function complete(
  { database }: Pick<ArchiveServices, 'database'>,
  tenant: Tenant,
  { key, bytes, sha256, messages, segments }: WrittenObject,
): Promise<boolean> {
  const [row] = await database.callFor<{ complete_archive_object: boolean }>(
    tenant,
    'complete_archive_object',
    [{ text: key }, { jsonb: { bytes, sha256, messages, segments: segments.length } }],
  )
  return row?.complete_archive_object ?? false
}

/** In one transaction, or a segment that has more: who writes in one of its sessions waits for it, on a busy machine some 10 ms. */
const MESSAGES_IN_CALL = 100
/** Of sessions that nobody has used for long: that somebody waits for them hardly happens. */
const UNUSED_IN_CALL = 1_000
const CALLS_AT_ONCE = 2

/** Lets the messages of segments leave Postgres, batch after batch. Returns how many have. */
async function letLeave(
  { database }: Pick<ArchiveServices, 'database'>,
  tenant: Tenant,
  { key, segments }: WrittenObject,
  timeLeft: () => number,
): Promise<number> {
  const calls = inOrder(batchesOf(segments), CALLS_AT_ONCE, async (batch) => {
    if (timeLeft() <= 0) return [] // The next run copies them once more.
    return database.callFor<{ messages: number }>(tenant, 'remove_archived', [
      { text: key },
      { jsonb: batch.map(({ object_key, byte_length, text_bytes, sha256, ...segment }) => segment) },
    ])
  })
  let messages = 0
  for await (const left of calls) for (const one of left) messages += one.messages
  return messages
}

function* batchesOf(segments: readonly Written[]): Generator<Written[], void> {
  let batch: Written[] = []
  let messages = 0
  for (const segment of segments) {
    const limit = segment.last_active_at === null ? MESSAGES_IN_CALL : UNUSED_IN_CALL
    if (batch.length > 0 && messages + segment.messages > limit) {
      yield batch
      batch = []
      messages = 0
    }
    batch.push(segment)
    messages += segment.messages
  }
  if (batch.length > 0) yield batch
}

interface Settled {
  expired: number
  oldest_seconds: number | null
  /** Below 0: the oldest has been due for so long. */
  due_seconds: number
}

const EXPIRED_IN_CALL = 2_000

async function settle(
  { database }: Pick<ArchiveServices, 'database'>,
  tenant: Tenant,
  { archiveAfterDays }: ArchiveDefaults,
): Promise<Settled> {
  for (;;) {
    const [settled] = await database.callFor<Settled>(tenant, 'settle_archive', [
      { integer: archiveAfterDays },
      { integer: EXPIRED_IN_CALL },
    ])
    if (settled === undefined) throw new Error('settle_archive returned nothing')
    if (settled.expired < EXPIRED_IN_CALL) return settled
  }
}
