/**
 * An erasure: everything of a user that was made up to its cutoff. Its tombstone stood before this begins. Every step may be
 * repeated, and does nothing where there is nothing left: a run that is killed is followed by one that begins at the first.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { pseudonymOf } from '../ageing/pseudonym.ts'
import { dropSpooled } from '../replies/spool.ts'
import { tenantPath } from '../tenants/tenant-path.ts'
import { eraseArchived } from './erase-archived.ts'
import { clearSessions } from './erase-sessions.ts'
import type { JobServices, Run } from './jobs.ts'
import { continueIfTime, OutOfTime } from './out-of-time.ts'
import { exportKey, idsOf, type Outcome } from './user-jobs.ts'

/** An erasure as its steps know it. */
export interface Erasing {
  services: JobServices
  run: Run
  /** As in idsOf. */
  ids: string[]
  cutoff: string
}

type Step = (erasing: Erasing) => Promise<void>

/** Rows in one call: short enough for whoever waits for one of them. */
const ROWS = 500
/** An answer is stopped within a second; one whose function died cannot be. */
const STOP_WITHIN_MS = 10_000
const LOOK_AGAIN_MS = 200

const jobArgs = ({ run, ids, cutoff }: Erasing) =>
  [{ uuid: run.job.id }, { jsonb: ids }, { timestamptz: cutoff }] as const

/** Where they lie, of all tenants. */
export const TOMBSTONES = 'erasures/'

/** For a restored database, which may be older than this erasure. It names the user by a hash alone. */
const layTombstone: Step = async ({ services, run: { job }, cutoff }) => {
  const key = `${TOMBSTONES}${tenantPath(job.tenant)}/${job.id}.json`
  const user = pseudonymOf(await services.pseudonymKey(), job.tenant, job.userId)
  await services.bucket.put(key, JSON.stringify({ ...job.tenant, user, cutoff }))
}

/** From here on nobody reads them, and no answer begins in them. */
const markSessions: Step = async (erasing) => {
  const { services, run } = erasing
  for (;;) {
    continueIfTime(run)
    const marked = await services.database.callFor(run.job.tenant, 'mark_erased_sessions', [
      ...jobArgs(erasing),
      { integer: ROWS },
    ])
    if (marked.length === 0) return
  }
}

/** What an answer still sends after this is dropped: first by its log, which is gone, then by its tombstone. */
const stopAnswers: Step = async ({ services: { database, hotStore }, run: { job } }) => {
  const until = Date.now() + STOP_WITHIN_MS
  const stopped = new Set<string>()
  do {
    const running = await database.callFor<{ message_id: string }>(job.tenant, 'running_in_erased', [
      { uuid: job.id },
      { integer: ROWS },
    ])
    for (const { message_id } of running) {
      const turn = await hotStore.requestStop(job.tenant, null, message_id)
      if (turn?.lapsed === false) stopped.add(message_id)
    }
    if (running.every(({ message_id }) => !stopped.has(message_id))) break
    await sleep(LOOK_AGAIN_MS)
  } while (Date.now() < until)
  if (stopped.size > 0) await noteErased(database, job, { runningAnswers: stopped.size })
}

const removeSessions: Step = ({ services, run }) =>
  clearSessions(services, { tenant: run.job.tenant, jobId: run.job.id, run })

const removeArchived: Step = ({ services, run }) =>
  eraseArchived(services, { tenant: run.job.tenant, jobId: run.job.id, run })

/** What comes there later, or is in the queue, is dropped by its tombstone when it is read. */
const removeSpooled: Step = async ({ services, run: { job }, ids, cutoff }) => {
  const { companyId, platform } = job.tenant
  const removed = await dropSpooled(
    services.bucket,
    (record) =>
      record.company_id === companyId &&
      record.platform === platform &&
      ids.includes(record.user_id) &&
      Date.parse(record.created_at) <= Date.parse(cutoff),
  )
  if (removed > 0) await noteErased(services.database, job, { spool: removed })
}

const removeExports: Step = async (erasing) => {
  const { services, run } = erasing
  const { tenant } = run.job
  let gone: string[] = []
  for (;;) {
    continueIfTime(run)
    const exports = await services.database.callFor<{ id: string; upload_id: string | null }>(
      tenant,
      'erase_exports',
      [...jobArgs(erasing), { jsonb: gone }],
    )
    if (exports.length === 0) return
    for (const { id, upload_id } of exports) {
      const key = exportKey(tenant, id)
      if (upload_id !== null) await services.bucket.abortUpload(key, upload_id)
      for await (const keys of services.bucket.list(key))
        for (const one of keys) await services.bucket.deleteVersions(one)
    }
    gone = exports.map(({ id }) => id)
  }
}

const removeUserRows: Step = async (erasing) => {
  const { services, run } = erasing
  for (;;) {
    continueIfTime(run)
    const [row] = await services.database.callFor<{ erase_user_rows: number }>(
      run.job.tenant,
      'erase_user_rows',
      [...jobArgs(erasing), { integer: ROWS }],
    )
    if (!row?.erase_user_rows) return
  }
}

/** The one place where a feature that keeps something of a user adds how it is removed. */
const steps: readonly Step[] = [
  layTombstone,
  markSessions,
  stopAnswers,
  removeSessions,
  removeArchived,
  removeSpooled,
  removeExports,
  removeUserRows,
]

/** Erases, or as much of it as there is time for. */
export async function eraseUser(services: JobServices, run: Run): Promise<Outcome> {
  const { job } = run
  if (job.cutoff === null) throw new Error('an erasure without a cutoff')
  const ids = await idsOf(services.pseudonymKey, job.tenant, job.userId)
  const erasing = { services, run, ids, cutoff: job.cutoff }
  try {
    for (const step of steps) await step(erasing)
  } catch (error) {
    if (error instanceof OutOfTime) return 'more'
    throw error
  }
  if (await note(services.database, job, 'done')) return 'done'
  // It is not done where it was asked for once more: then it is still this one's.
  return (await note(services.database, job, null)) ? 'more' : 'lost'
}

async function note(
  database: JobServices['database'],
  { tenant, id, attempt }: Run['job'],
  state: 'done' | null,
): Promise<boolean> {
  const [row] = await database.callFor<{ note_user_job: boolean }>(tenant, 'note_user_job', [
    { uuid: id },
    { integer: attempt },
    { jsonb: {} },
    { text: state },
  ])
  return row?.note_user_job ?? false
}

async function noteErased(
  database: JobServices['database'],
  { tenant, id }: Run['job'],
  counts: Record<string, number>,
): Promise<void> {
  await database.callFor(tenant, 'note_erased', [{ uuid: id }, { jsonb: counts }])
}
