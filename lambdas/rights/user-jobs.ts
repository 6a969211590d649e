/** Exports and erasures as their users and admins see them: asked for here, done by the function `jobs`. */
import { v7 as uuidv7 } from 'uuid'
import { pseudonymOf } from '../ageing/pseudonym.ts'
import { type Caller, isPseudonym, type Tenant } from '../protocol/callers.ts'
import { CodedError, invalidField } from '../protocol/errors.ts'
import {
  type ErasureReceipt,
  type ExportAnswer,
  erasedPlaces,
  type JobKind,
  type UserAnswer,
} from '../protocol/rights.ts'
import type { Bucket } from '../services/bucket.ts'
import type { Database } from '../services/database.ts'
import type { ReadSecret } from '../services/secrets.ts'
import type { JobQueue } from '../services/turn-queue.ts'
import { actorBody } from '../tenants/audit.ts'
import { tenantPath } from '../tenants/tenant-path.ts'

export interface RightsServices {
  database: Database
  bucket: Bucket
  jobs: JobQueue
  pseudonymKey: ReadSecret
}

/** How a run of a job ended: done; time ran out; somebody else has it, or it is gone. */
export type Outcome = 'done' | 'more' | 'lost'

/** Long enough to begin a download, and too short to be passed on. */
const LINK_SECONDS = 900

interface JobRow {
  id: string
  kind: JobKind
  user_id: string
  state: 'queued' | 'running' | 'done' | 'failed'
  progress: { shown?: { sessions: number; messages: number }; places?: Record<string, number> }
  created_at: string
  completed_at: string | null
}

/** Where an export lies; what is left of it while it is made lies beside it. */
export const exportKey = (tenant: Tenant, id: string): string =>
  `exports/${tenantPath(tenant)}/${id}.jsonl.gz`

/** A user's id and what stands in its place where it was not used for a year. */
export async function idsOf(pseudonymKey: ReadSecret, tenant: Tenant, userId: string): Promise<string[]> {
  return [userId, pseudonymOf(await pseudonymKey(), tenant, userId)]
}

const forbidden = (): CodedError =>
  new CodedError('forbidden', 'This is for admins, and for users about themselves.')

const iso = (time: string): string => new Date(time).toISOString()

/**
 * Asks for everything of a user. One that is being made already is the same one. Refuses `forbidden`; a user whom nobody
 * has seen gets an export with nothing in it.
 */
export async function requestExport(
  { database, jobs }: Pick<RightsServices, 'database' | 'jobs'>,
  caller: Caller,
  userId: string,
): Promise<{ exportId: string }> {
  const [row] = await database.callFor<{ id: string }>(caller, 'request_export', [
    { jsonb: actorBody(caller) },
    { text: userId },
    { uuid: uuidv7() },
  ])
  if (row === undefined) throw forbidden()
  await jobs.send(messageFor(caller, row.id))
  return { exportId: row.id }
}

/**
 * Asks for everything of a user to be removed. It stands once this returns: nothing that was made before comes back. Again
 * it is the same erasure, unless the user has been here since. Refuses `forbidden`, and `invalid_request` a hash in an id's place:
 * its tombstone would say the same as the user's own, and a restore would pass over all that the user has.
 */
export async function requestErasure(
  { database, jobs, pseudonymKey }: Pick<RightsServices, 'database' | 'jobs' | 'pseudonymKey'>,
  caller: Caller,
  userId: string,
): Promise<{ erasureId: string }> {
  if (isPseudonym(userId))
    throw invalidField('userId', 'is a hash: with a user’s id what stands under it goes, too.')
  const [row] = await database.callFor<{ id: string }>(caller, 'request_erasure', [
    { jsonb: actorBody(caller) },
    { text: userId },
    { jsonb: await idsOf(pseudonymKey, caller, userId) },
    { uuid: uuidv7() },
  ])
  if (row === undefined) throw forbidden()
  // One that is done takes no notice of it.
  await jobs.send(messageFor(caller, row.id))
  return { erasureId: row.id }
}

const messageFor = ({ companyId, platform }: Tenant, jobId: string) => ({ companyId, platform, jobId })

async function find(database: Database, caller: Caller, kind: JobKind, id: string): Promise<JobRow> {
  const [row] = await database.callFor<{ job: string }>(caller, 'get_user_job', [
    { jsonb: actorBody(caller) },
    { text: kind },
    { uuid: id },
  ])
  if (row === undefined) throw new CodedError('not_found', `There is no such ${kind}.`)
  return JSON.parse(row.job)
}

/** Refuses `not_found`, also for what is somebody else's. */
export async function readExport(
  services: Pick<RightsServices, 'database' | 'bucket'>,
  caller: Caller,
  id: string,
): Promise<ExportAnswer> {
  return toExport(services.bucket, caller, await find(services.database, caller, 'export', id))
}

/** Refuses `not_found`, also for what is somebody else's. */
export async function readErasure(database: Database, caller: Caller, id: string): Promise<ErasureReceipt> {
  return toReceipt(await find(database, caller, 'erasure', id))
}

/** Refuses `forbidden`. A user whom nobody has seen has nothing. */
export async function readUser(
  { database, bucket, pseudonymKey }: Pick<RightsServices, 'database' | 'bucket' | 'pseudonymKey'>,
  caller: Caller,
  userId: string,
): Promise<UserAnswer> {
  const rows = await database.callFor<{ kind: 'counts' | 'job'; body: string }>(caller, 'read_user', [
    { jsonb: actorBody(caller) },
    { text: userId },
    { jsonb: await idsOf(pseudonymKey, caller, userId) },
  ])
  const counts = rows.find(({ kind }) => kind === 'counts')
  if (counts === undefined) throw forbidden()
  const jobs = rows.flatMap(({ kind, body }): JobRow[] => (kind === 'job' ? [JSON.parse(body)] : []))
  const exported = jobs.find(({ kind }) => kind === 'export')
  const erased = jobs.find(({ kind }) => kind === 'erasure')
  const { sessions, messages } = JSON.parse(counts.body)
  return {
    userId,
    sessions,
    messages,
    export: exported ? await toExport(bucket, caller, exported) : null,
    erasure: erased ? toReceipt(erased) : null,
  }
}

async function toExport(bucket: Bucket, tenant: Tenant, job: JobRow): Promise<ExportAnswer> {
  const key = exportKey(tenant, job.id)
  const isThere = job.state === 'done' && (await bucket.has(key))
  const expiresAt = new Date(Date.now() + LINK_SECONDS * 1_000).toISOString()
  const link = { seconds: LINK_SECONDS, fileName: `${job.id}.jsonl.gz` }
  return {
    exportId: job.id,
    userId: job.user_id,
    status: job.state !== 'done' ? job.state : isThere ? 'ready' : 'expired',
    progress: job.progress.shown ?? { sessions: 0, messages: 0 },
    createdAt: iso(job.created_at),
    completedAt: job.completed_at && iso(job.completed_at),
    download: isThere ? { url: await bucket.linkTo(key, link), expiresAt } : null,
  }
}

const toReceipt = (job: JobRow): ErasureReceipt => ({
  erasureId: job.id,
  userId: job.user_id,
  status: job.state,
  requestedAt: iso(job.created_at),
  completedAt: job.completed_at && iso(job.completed_at),
  places: erasedPlaces.map((place) => ({ place, removed: job.progress.places?.[place] ?? 0 })),
})

/** Whether a job was removed with its user while somebody worked on it. */
export async function isGone(
  database: Database,
  { tenant, kind, id, userId }: { tenant: Tenant; kind: JobKind; id: string; userId: string },
): Promise<boolean> {
  const rows = await database.callFor(tenant, 'get_user_job', [
    { jsonb: actorBody({ userId, role: 'user' }) },
    { text: kind },
    { uuid: id },
  ])
  return rows.length === 0
}
