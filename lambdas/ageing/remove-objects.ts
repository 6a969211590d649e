/**
 * Objects of the archive that nobody needs any more go: from the bucket first, since what Postgres forgets nobody finds again.
 * docs/archive-format.md.
 */
import type { Tenant } from '../protocol/callers.ts'
import type { Bucket } from '../services/bucket.ts'
import { manifestKeyOf } from './archive-object.ts'
import type { ObjectServices } from './begun-object.ts'

interface Unneeded {
  key: string
  /** Of one that may still be written to. */
  upload_id: string | null
}

const OBJECTS_IN_CALL = 100

/** Those that nothing has come of. */
export async function removeDead(services: ObjectServices, tenant: Tenant): Promise<void> {
  const dead = await services.database.callFor<Unneeded>(tenant, 'drop_dead_objects', [
    { integer: OBJECTS_IN_CALL },
  ])
  for (const object of dead) {
    await removeFromBucket(services.bucket, object)
    await forget(services, tenant, object.key)
  }
}

/**
 * Those that were given up, whose place another one has taken, or whose time is over. One that never was complete may still be
 * written to: it stays known, and the next archive run removes it once more.
 */
export async function removeDropped(services: ObjectServices, tenant: Tenant): Promise<void> {
  const dropped = await services.database.callFor<Unneeded & { was_complete: boolean }>(
    tenant,
    'list_dropped_objects',
    [{ integer: OBJECTS_IN_CALL }],
  )
  for (const object of dropped) {
    await removeFromBucket(services.bucket, object)
    if (object.was_complete) await forget(services, tenant, object.key)
  }
}

/** One that somebody gave up while this process wrote it. */
export async function removeGivenUp(services: ObjectServices, tenant: Tenant, key: string): Promise<void> {
  await removeFromBucket(services.bucket, { key, upload_id: null })
  await forget(services, tenant, key)
}

async function removeFromBucket(bucket: Bucket, { key, upload_id }: Unneeded): Promise<void> {
  if (upload_id !== null) await bucket.abortUpload(key, upload_id)
  await bucket.deleteVersions(key)
  await bucket.deleteVersions(manifestKeyOf(key))
}

async function forget({ database }: ObjectServices, tenant: Tenant, key: string): Promise<void> {
  await database.callFor(tenant, 'forget_archive_object', [{ text: key }])
}
