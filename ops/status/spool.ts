/** What the queue refused and the bucket holds until `maintain` brings it back, every five minutes. */
import { paginateListObjectsV2, S3Client } from '@aws-sdk/client-s3'
import type { Environment } from '../environment.ts'

const PREFIX = 'spool/'
/** More than that is trouble enough to know, and a listing of minutes. */
const LISTED_AT_MOST = 10_000

export interface Spool {
  /** The least that there are, where `complete` is false. */
  objects: number
  complete: boolean
  /** Milliseconds since the epoch. */
  oldestAt: number | null
}

export async function lookAtSpool(
  environment: Environment,
  bucket: string,
  abortSignal: AbortSignal,
): Promise<Spool> {
  const client = new S3Client({ ...environment.reach('S3') })
  const spool: Spool = { objects: 0, complete: true, oldestAt: null }
  const pages = paginateListObjectsV2({ client }, { Bucket: bucket, Prefix: PREFIX }, { abortSignal })
  for await (const { Contents = [] } of pages) {
    spool.objects += Contents.length
    for (const { LastModified } of Contents)
      if (LastModified !== undefined)
        spool.oldestAt = Math.min(spool.oldestAt ?? Infinity, LastModified.getTime())
    if (spool.objects < LISTED_AT_MOST) continue
    spool.complete = false
    break
  }
  return spool
}
