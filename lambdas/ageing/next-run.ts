/** When the daily run has something to do again: an idle environment's database is left asleep until then. */
import type { Bucket } from '../services/bucket.ts'

const KEY = 'archive/next-run.json'
/** A tenant that is new, or has changed its settings, is not waited for any longer. */
const MAX_PAUSE_MS = 7 * 24 * 3600_000

/**
 * Whether a run may look at Postgres. What cannot be read, or lies further ahead than any run has said, counts as due: a
 * clock that was wrong must not stop the archiver.
 */
export async function isDue(bucket: Pick<Bucket, 'get'>, now: number): Promise<boolean> {
  const text = await bucket.get(KEY)
  const notBefore = text === undefined ? Number.NaN : timeIn(text)
  return !(now < notBefore && notBefore <= now + MAX_PAUSE_MS)
}

/** `dueInSeconds`: 0 where something is left to be done. */
export async function postpone(
  bucket: Pick<Bucket, 'put'>,
  dueInSeconds: number,
  now: number,
): Promise<void> {
  const notBefore = new Date(now + Math.min(dueInSeconds * 1_000, MAX_PAUSE_MS))
  await bucket.put(KEY, JSON.stringify({ notBefore: notBefore.toISOString() }))
}

function timeIn(text: string): number {
  try {
    return Date.parse(JSON.parse(text).notBefore)
  } catch {
    return Number.NaN
  }
}
