/** An object of the archive from its begin until it is complete: who erases may give it up meanwhile. docs/archive-format.md. */
import type { Tenant } from '../protocol/callers.ts'
import type { Bucket, Upload } from '../services/bucket.ts'
import type { Database } from '../services/database.ts'

export interface ObjectServices {
  database: Database
  bucket: Bucket
}

/** An erasure has given an object up while it was written, since it might hold what is erased. What was written is to be removed. */
export class GivenUp extends Error {
  readonly key: string
  constructor(key: string) {
    super(`${key} was given up`)
    this.name = 'GivenUp'
    this.key = key
  }
}

/**
 * Works on an object that was begun and is not complete. Where that goes wrong the object is given up; throws GivenUp where
 * somebody else had done that before, which is then why it went wrong.
 */
export async function unlessGivenUp<Result>(
  database: Database,
  tenant: Tenant,
  key: string,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    throw (await giveUp(database, tenant, key)) ? error : new GivenUp(key)
  }
}

/** False: somebody else had done it before. */
export async function giveUp(database: Database, tenant: Tenant, key: string): Promise<boolean> {
  const [row] = await database.callFor<{ give_up_archive_object: boolean }>(
    tenant,
    'give_up_archive_object',
    [{ text: key }],
  )
  return row?.give_up_archive_object ?? false
}

/** An upload to an object that was begun. */
export const uploadTo = ({ database, bucket }: ObjectServices, tenant: Tenant, key: string): Upload =>
  bucket.upload(key, {
    contentType: 'application/gzip',
    onBegun: async (uploadId) => {
      const [row] = await database.callFor<{ note_archive_upload: boolean }>(tenant, 'note_archive_upload', [
        { text: key },
        { text: uploadId },
      ])
      if (row?.note_archive_upload) return
      await bucket.abortUpload(key, uploadId) // Nobody else knows of it.
      throw new GivenUp(key)
    },
  })
