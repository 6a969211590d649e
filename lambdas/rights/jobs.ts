/** Background work for a user: taken up from the queue, done in as many runs as it takes. docs/rights.md. */
import * as v from 'valibot'
import type { Tenant } from '../protocol/callers.ts'
import type { Count } from '../protocol/metrics.ts'
import { type JobKind, type JobMessage, jobMessageSchema } from '../protocol/rights.ts'
import type { Log } from '../replies/log.ts'
import type { Bucket } from '../services/bucket.ts'
import type { Database } from '../services/database.ts'
import type { HotStore } from '../services/hot-store.ts'
import type { ReadSecret } from '../services/secrets.ts'
import type { JobQueue } from '../services/turn-queue.ts'
import { eraseUser } from './erase.ts'
import { exportUser } from './export.ts'
import type { Outcome } from './user-jobs.ts'

export interface JobServices {
  database: Database
  bucket: Bucket
  hotStore: HotStore
  jobs: JobQueue
  pseudonymKey: ReadSecret
  count: Count
}

/** A job as Postgres keeps it. */
export interface UserJob {
  tenant: Tenant
  id: string
  kind: JobKind
  userId: string
  attempt: number
  progress: Record<string, unknown>
  /** Of an erasure: what was made up to then goes. */
  cutoff: string | null
}

/** One run of one job. */
export interface Run {
  job: UserJob
  /** Milliseconds until this run has to have ended; what is left is done in the next one. */
  timeLeft: () => number
  log: Log
}

export interface DeliveredJob {
  body: string
  receiptHandle: string
  /** How often it was handed out, this time included. */
  receives: number
}

/** As often as the queue hands a job out (lib/resources.ts): then it is a dead letter. */
export const MAX_RECEIVES = 5
/** Between attempts, longer each time: what cannot be reached now is often there in a minute. */
const RETRY_SECONDS = 15

const works: Record<JobKind, (services: JobServices, run: Run) => Promise<Outcome>> = {
  export: exportUser,
  erasure: eraseUser,
}

interface JobRow {
  id: string
  kind: JobKind
  user_id: string
  attempt: number
  progress: Record<string, unknown>
  cutoff: string | null
}

async function start(database: Database, { jobId, ...tenant }: JobMessage): Promise<UserJob | undefined> {
  const [row] = await database.callFor<{ job: string }>(tenant, 'start_user_job', [{ uuid: jobId }])
  if (row === undefined) return undefined
  const { id, kind, user_id, attempt, progress, cutoff }: JobRow = JSON.parse(row.job)
  return { tenant, id, kind, userId: user_id, attempt, progress, cutoff }
}

/**
 * Works on a job until it is done or time runs out; then the rest is queued. False: it has to come back. What goes wrong
 * for the fifth time marks the job as failed, and the queue buries its message: a redrive takes it up again.
 */
export async function workOff(
  services: JobServices,
  delivered: DeliveredJob,
  timeLeft: () => number,
  log: Log,
): Promise<boolean> {
  let job: UserJob | undefined
  try {
    const message = v.parse(jobMessageSchema, JSON.parse(delivered.body))
    job = await start(services.database, message)
    if (job === undefined) return true // done, or erased meanwhile
    const outcome = await works[job.kind](services, { job, timeLeft, log })
    log.info('job run', { jobId: job.id, kind: job.kind, outcome })
    if (outcome === 'more') await services.jobs.send(message)
    return true
  } catch (error) {
    const isLast = delivered.receives >= MAX_RECEIVES
    log.error('job failed', { jobId: job?.id, kind: job?.kind, isLast, error })
    if (isLast && job) await fail(services.database, job).catch(() => undefined)
    await services.jobs
      .postpone(delivered.receiptHandle, RETRY_SECONDS * delivered.receives)
      .catch((cause) => log.warn('job not postponed', { error: cause }))
    return false
  }
}

const fail = (database: Database, { tenant, id, attempt }: UserJob): Promise<unknown> =>
  database.callFor(tenant, 'note_user_job', [
    { uuid: id },
    { integer: attempt },
    { jsonb: {} },
    { text: 'failed' },
  ])
