/**
 * An export: NDJSON, as gzip members in one object. It is made in parts, and after each part Postgres knows where to go on:
 * a run that is killed costs the part that it was at. Memory holds one part, whatever there is of the user.
 */
import { promisify } from 'node:util'
import { gzip as gzipWithCallback } from 'node:zlib'
import type { SentPart } from '../services/bucket.ts'
import { collectors } from './collectors.ts'
import { openPart, type Part } from './export-part.ts'
import type { JobServices, Run } from './jobs.ts'
import { exportKey, idsOf, isGone, type Outcome } from './user-jobs.ts'

const gzip = promisify(gzipWithCallback)

const CONTENT_TYPE = 'application/gzip'
/** S3 takes parts from 5 MB on. A thousand of them are noted in 64 KB, the most that a row may have. */
const PART_BYTES = 8 * 1024 * 1024
/** People look at it while it is made. */
const SHOW_EVERY_MS = 2_000

/** What Postgres keeps of an export that is not done. */
interface ExportProgress {
  /** Null: it begins anew, because its upload is gone. */
  uploadId: string | null
  parts: SentPart[]
  /** The collector, and the place that it goes on at. */
  place: { collector: number; after: unknown }
  counts: Record<string, number>
  /** Bytes of the next part stand in an object beside this one. */
  hasRest: boolean
  /** All parts are there. */
  isWhole: boolean
}

interface Making {
  services: JobServices
  run: Run
  key: string
  progress: ExportProgress
}

const restKey = (key: string): string => `${key}.rest`

/** Makes the export, or as much of it as there is time for. */
export async function exportUser(services: JobServices, run: Run): Promise<Outcome> {
  const key = exportKey(run.job.tenant, run.job.id)
  const making = { services, run, key, progress: await begin(services, run, key) }
  const outcome = (await makeParts(making)) ?? (await complete(making))
  if (outcome === 'lost' && (await isGone(services.database, run.job))) await remove(making)
  return outcome
}

/** Where the last run noted that it was, or the start. */
async function begin(services: JobServices, { job }: Run, key: string): Promise<ExportProgress> {
  const known = job.progress as Partial<ExportProgress>
  if (known.uploadId) return known as ExportProgress
  const uploadId = await services.bucket.beginParts(key, { contentType: CONTENT_TYPE })
  const place = { collector: 0, after: null }
  return { uploadId, parts: [], place, counts: {}, hasRest: false, isWhole: false }
}

/** Undefined: all parts are there. */
async function makeParts(making: Making): Promise<Outcome | undefined> {
  const { services, run, progress } = making
  if (progress.isWhole) return undefined
  if (!(await note(making, progress))) return 'lost'
  const { tenant, userId } = run.job
  const subject = { tenant, ids: await idsOf(services.pseudonymKey, tenant, userId) }
  const part = openPart(progress.hasRest ? await readRest(making) : undefined)
  let shownAt = Date.now()
  for (;;) {
    const { collector, after } = progress.place
    const collect = collectors[collector]
    if (collect === undefined) break
    if (run.timeLeft() <= 0) return rest(making, part)
    const page = await collect(services, subject, after)
    for (const line of page.lines) {
      progress.counts[line.kind] = (progress.counts[line.kind] ?? 0) + 1
      await part.add(line)
    }
    progress.place =
      page.after === undefined ? { collector: collector + 1, after: null } : { collector, after: page.after }
    if (part.size() >= PART_BYTES) {
      const sent = await send(making, part)
      if (sent !== undefined) return sent
    } else if (Date.now() - shownAt > SHOW_EVERY_MS) {
      if (!(await note(making, {}))) return 'lost'
      shownAt = Date.now()
    }
  }
  await part.seal()
  // Nothing is no gzip: an export without a line is an empty member.
  if (part.size() === 0 && progress.parts.length === 0) part.put(await gzip(''))
  progress.isWhole = true
  return part.size() > 0 ? send(making, part) : (await note(making, progress)) ? undefined : 'lost'
}

/** Sends what has come together, and notes where to go on. Undefined: it goes on. */
async function send(making: Making, part: Part): Promise<Outcome | undefined> {
  const { services, key, progress } = making
  const number = progress.parts.length + 1
  const sent = await services.bucket.sendPart(key, String(progress.uploadId), number, await part.take())
  if (sent === undefined) return beginAnew(making)
  progress.parts.push(sent)
  progress.hasRest = false
  return (await note(making, progress)) ? undefined : 'lost'
}

/** Time is up: S3 takes no part of this size, so it is kept beside. */
async function rest(making: Making, part: Part): Promise<Outcome> {
  const { services, key, progress } = making
  await services.bucket.put(restKey(key), (await part.take()).toString('base64'))
  return (await note(making, { ...progress, hasRest: true })) ? 'more' : 'lost'
}

const readRest = async ({ services, key }: Making): Promise<Buffer> =>
  Buffer.from((await services.bucket.get(restKey(key))) ?? '', 'base64')

/** S3 has thrown the parts away, or a run that was believed dead has written over one. */
async function beginAnew(making: Making): Promise<Outcome> {
  await making.services.bucket.abortUpload(making.key, String(making.progress.uploadId))
  return (await note(making, { uploadId: null })) ? 'more' : 'lost'
}

async function complete(making: Making): Promise<Outcome> {
  const { services, key, progress } = making
  if (!(await services.bucket.completeParts(key, String(progress.uploadId), progress.parts)))
    return beginAnew(making)
  await services.bucket.deleteVersions(restKey(key))
  return (await note(making, { parts: [] }, 'done')) ? 'done' : 'lost'
}

/** The user was erased while this was made. */
async function remove({ services: { bucket }, key, progress }: Making): Promise<void> {
  await bucket.abortUpload(key, String(progress.uploadId))
  await bucket.deleteVersions(key)
  await bucket.deleteVersions(restKey(key))
}

/** False: the job is somebody else's by now, or gone. */
async function note(
  { services, run: { job }, progress: { counts } }: Making,
  changed: Partial<ExportProgress>,
  state: 'done' | null = null,
): Promise<boolean> {
  const shown = { sessions: counts.session ?? 0, messages: counts.message ?? 0 }
  const [row] = await services.database.callFor<{ note_user_job: boolean }>(job.tenant, 'note_user_job', [
    { uuid: job.id },
    { integer: job.attempt },
    { jsonb: { ...changed, shown } },
    { text: state },
  ])
  return row?.note_user_job ?? false
}
