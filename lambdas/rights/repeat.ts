/**
 * Erasures that a restored database has undone. Each has left a tombstone in the bucket, which names its user by a hash alone;
 * what this database does not know of is asked for again, up to its own cutoff.
 */
import * as v from 'valibot'
import { pseudonymOf } from '../ageing/pseudonym.ts'
import type { Tenant } from '../protocol/callers.ts'
import type { Log } from '../replies/log.ts'
import type { Bucket } from '../services/bucket.ts'
import type { Database } from '../services/database.ts'
import type { ReadSecret } from '../services/secrets.ts'
import type { JobQueue } from '../services/turn-queue.ts'
import { tenantIn } from '../tenants/tenant-path.ts'
import { TOMBSTONES } from './erase.ts'

interface RepeatServices {
  database: Database
  bucket: Pick<Bucket, 'list' | 'get'>
  jobs: JobQueue
  pseudonymKey: ReadSecret
}

/** Its key says which erasure it is. */
const tombstoneSchema = v.object({
  companyId: v.string(),
  platform: v.string(),
  user: v.string(),
  cutoff: v.string(),
})
type Tombstone = v.InferOutput<typeof tombstoneSchema> & { erasureId: string }

/** Their ids may have 200 characters, and a response of the Data API holds 1 MiB. */
const USERS_IN_CALL = 1_000

/** Returns how many were asked for again: none, unless the database was restored. */
export async function repeatErasures(services: RepeatServices, log: Log): Promise<number> {
  let repeated = 0
  for await (const keys of services.bucket.list(TOMBSTONES))
    for (const [prefix, ids] of byTenant(keys)) {
      const tenant = await tenantOf(services.bucket, prefix, ids)
      if (tenant === undefined) continue
      const unknown = await unknownOf(services.database, tenant, ids)
      const found = await Promise.all(unknown.map((id) => read(services.bucket, prefix, id)))
      const tombstones = found.filter((tombstone) => tombstone !== undefined)
      if (tombstones.length === 0) continue
      const users = await usersBehind(services, tenant, tombstones)
      for (const { erasureId, user, cutoff } of tombstones) {
        await services.database.callFor(tenant, 'repeat_erasure', [
          { text: users.get(user) ?? user },
          { uuid: erasureId },
          { timestamptz: cutoff },
        ])
        await services.jobs.send({ ...tenant, jobId: erasureId })
        repeated += 1
      }
      log.warn('erasures repeated', { ...tenant, erasures: tombstones.length })
    }
  return repeated
}

/** Ids by what stands before them: `erasures/<company>/<platform>/`. */
function byTenant(keys: readonly string[]): Map<string, string[]> {
  const ids = new Map<string, string[]>()
  for (const key of keys) {
    const [, prefix = '', id = ''] = /^(.*\/)([0-9a-f-]{36})\.json$/.exec(key) ?? []
    if (prefix !== '') ids.set(prefix, [...(ids.get(prefix) ?? []), id])
  }
  return ids
}

/** Undefined: there is no tombstone any more. */
async function tenantOf(
  bucket: Pick<Bucket, 'get'>,
  prefix: string,
  [id = '']: readonly string[],
): Promise<Tenant | undefined> {
  const named = tenantIn(prefix.slice(TOMBSTONES.length))
  if (named) return named
  const tombstone = await read(bucket, prefix, id)
  return tombstone && { companyId: tombstone.companyId, platform: tombstone.platform }
}

async function unknownOf(database: Database, tenant: Tenant, ids: readonly string[]): Promise<string[]> {
  const rows = await database.callFor<{ id: string }>(tenant, 'unknown_erasures', [{ jsonb: ids }])
  return rows.map(({ id }) => id)
}

async function read(
  bucket: Pick<Bucket, 'get'>,
  prefix: string,
  erasureId: string,
): Promise<Tombstone | undefined> {
  const text = await bucket.get(`${prefix}${erasureId}.json`)
  return text === undefined ? undefined : { erasureId, ...v.parse(tombstoneSchema, JSON.parse(text)) }
}

/** The ids of users by their hashes. Walks over all users of the tenant: it is done once after a restore. */
async function usersBehind(
  { database, pseudonymKey }: RepeatServices,
  tenant: Tenant,
  tombstones: readonly Tombstone[],
): Promise<Map<string, string>> {
  const wanted = new Set(tombstones.map(({ user }) => user))
  const users = new Map<string, string>()
  const key = await pseudonymKey()
  for (let after = ''; ; ) {
    const rows = await database.callFor<{ user_id: string }>(tenant, 'list_users', [
      { text: after },
      { integer: USERS_IN_CALL },
    ])
    for (const { user_id } of rows) {
      const hash = pseudonymOf(key, tenant, user_id)
      // By the id all of it is found, by the hash only what stands under that.
      if (wanted.has(hash) && user_id !== hash) users.set(hash, user_id)
      after = user_id
    }
    if (rows.length < USERS_IN_CALL) return users
  }
}
