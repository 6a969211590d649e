/**
 * Removing sessions, and the texts of deleted messages, from the archive: each object that holds any is written again without
 * them, read back, and takes the old one's place in one transaction; then the old one goes, with all its versions.
 * docs/archive-format.md.
 */
import { giveUp, type ObjectServices } from '../ageing/begun-object.ts'
import { findingMoved, isBroken } from '../ageing/copies.ts'
import { largeIn, type ObjectSegment, segmentsIn } from '../ageing/object-segments.ts'
import { removeDropped } from '../ageing/remove-objects.ts'
import { writeAgain } from '../ageing/rewrite-object.ts'
import { removeTexts } from '../messages/large-text.ts'
import type { Tenant } from '../protocol/callers.ts'
import type { Count } from '../protocol/metrics.ts'
import type { Database } from '../services/database.ts'
import type { Clearing } from './erase-sessions.ts'
import { continueIfTime } from './out-of-time.ts'

export interface ArchiveErasing extends ObjectServices {
  count: Count
}

/**
 * Throws OutOfTime where time is up; the next call goes on. What is erased may be damaged; an object in which something else is
 * stays, and is counted as ArchiveUnreadable, since with it the last version would go that can be mended: that is thrown when
 * all others are done.
 */
export async function eraseArchived(services: ArchiveErasing, clearing: Clearing): Promise<void> {
  const { tenant, jobId, run } = clearing
  await services.database.callFor(tenant, 'give_up_written_objects', [{ uuid: jobId }])
  await removeDropped(services, tenant)
  let after = ''
  let damage: unknown
  for (;;) {
    continueIfTime(run)
    const key = await nextObject(services.database, { tenant, jobId }, after)
    if (key === undefined) break
    try {
      await findingMoved(services.count, () => rewrite(services, clearing, key))
    } catch (error) {
      if (!isBroken(error)) throw error
      damage = error
      after = key
    }
    await removeDropped(services, tenant)
  }
  if (damage !== undefined) throw damage
}

/** One that is to be written again. */
export async function nextObject(
  database: Database,
  { tenant, jobId }: Omit<Clearing, 'run'>,
  after = '',
): Promise<string | undefined> {
  const [row] = await database.callFor<{ next_object_to_rewrite: string | null }>(
    tenant,
    'next_object_to_rewrite',
    [{ uuid: jobId }, { text: after }],
  )
  return row?.next_object_to_rewrite ?? undefined
}

/** Where somebody else has been at it nothing is done, and it is to be looked at once more. */
async function rewrite(services: ArchiveErasing, clearing: Clearing, key: string): Promise<void> {
  const { tenant, jobId, run } = clearing
  const segments = await segmentsIn(services.database, tenant, key)
  for (const segment of segments.filter(({ is_erased }) => is_erased)) {
    continueIfTime(run)
    await removeTextsOf(services, tenant, key, segment)
  }
  const kept = segments.filter(({ has_gone }) => !has_gone)
  const written = kept.length > 0 ? await writeAgain(services, clearing, key, kept) : null
  if (written === undefined) return
  const [row] = await services.database.callFor<{ switch_object: boolean }>(tenant, 'switch_object', [
    { uuid: jobId },
    { text: key },
    { jsonb: written },
    { jsonb: kept.map(({ id }) => id) },
    { jsonb: segments.flatMap(({ id, has_gone }) => (has_gone ? [id] : [])) },
  ])
  if (!row?.switch_object && written !== null) await giveUp(services.database, tenant, written.key)
}

/** Texts that stand in objects of their own, of which the archive's lines alone know by now. */
async function removeTextsOf(
  services: ObjectServices,
  tenant: Tenant,
  key: string,
  segment: ObjectSegment,
): Promise<void> {
  for (const id of await largeIn(services, tenant, key, segment))
    await removeTexts(services.bucket, tenant, id)
}
