/** Objects in S3. */
import type { S3Client } from '@aws-sdk/client-s3'
import { CodedError } from '../protocol.ts'

export interface Bucket {
  put(key: string, text: string): Promise<void>
  /** Undefined where there is no such object. */
  get(key: string): Promise<string | undefined>
  /** Keys below a prefix, a page at a time, in the order of S3. */
  list(prefix: string): AsyncGenerator<string[], void>
  delete(key: string): Promise<void>
}

type Loaded = typeof import('@aws-sdk/client-s3') & { client: S3Client }

const ATTEMPTS = 3
const CONNECT_TIMEOUT_MS = 2_000
const REQUEST_TIMEOUT_MS = 10_000

/** Every method throws CodedError `unavailable` where S3 cannot be reached. */
export function openBucket(name: string): Bucket {
  // Most invocations need no object, and the client is large: it is loaded when the first one comes.
  let loaded: Promise<Loaded> | undefined
  const load = (): Promise<Loaded> => {
    loaded ??= import('@aws-sdk/client-s3').then((module) => ({
      ...module,
      client: new module.S3Client({
        maxAttempts: ATTEMPTS,
        requestHandler: { connectionTimeout: CONNECT_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS },
      }),
    }))
    return loaded
  }
  const unavailable = (cause: unknown) =>
    new CodedError('unavailable', 'Stored objects cannot be reached right now.', { cause })

  return {
    async put(key, text) {
      const { client, PutObjectCommand } = await load()
      const object = { Bucket: name, Key: key, Body: text, ContentType: 'text/plain; charset=utf-8' }
      await client.send(new PutObjectCommand(object)).catch((cause) => {
        throw unavailable(cause)
      })
    },
    async get(key) {
      const { client, GetObjectCommand } = await load()
      try {
        const { Body } = await client.send(new GetObjectCommand({ Bucket: name, Key: key }))
        return await Body?.transformToString()
      } catch (cause) {
        if ((cause as Error).name === 'NoSuchKey') return undefined
        throw unavailable(cause)
      }
    },
    async *list(prefix) {
      const { client, paginateListObjectsV2 } = await load()
      try {
        for await (const page of paginateListObjectsV2({ client }, { Bucket: name, Prefix: prefix }))
          yield (page.Contents ?? []).flatMap(({ Key }) => (Key === undefined ? [] : [Key]))
      } catch (cause) {
        throw unavailable(cause)
      }
    },
    async delete(key) {
      const { client, DeleteObjectCommand } = await load()
      await client.send(new DeleteObjectCommand({ Bucket: name, Key: key })).catch((cause) => {
        throw unavailable(cause)
      })
    },
  }
}
