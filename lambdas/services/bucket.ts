/** Objects in S3. */
import type { CompletedPart, GetObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { CodedError } from '../protocol/errors.ts'

export interface Bucket {
  put(key: string, text: string): Promise<void>
  /** Undefined where there is no such object. */
  get(key: string): Promise<string | undefined>
  /** `length` bytes from `offset` on; fewer where the object ends before. Undefined where there is no such object. */
  getRange(key: string, range: { offset: number; length: number }): Promise<Buffer | undefined>
  /** The object's bytes as they come. Undefined where there is no such object. */
  getStream(key: string): Promise<AsyncIterable<Uint8Array> | undefined>
  /** Begins an object whose size is not known, and which need not fit into memory. Nothing is sent yet. */
  upload(key: string, options: UploadOptions): Upload
  /** Begins an object that several processes make, one after the other; the upload's id. */
  beginParts(key: string, options: Pick<UploadOptions, 'contentType'>): Promise<string>
  /**
   * One part, the first is 1: of 5 MB at least, but for the last one. Sent again it takes its own place. Undefined: the
   * upload is gone.
   */
  sendPart(key: string, uploadId: string, number: number, bytes: Uint8Array): Promise<SentPart | undefined>
  /** Makes the object of its parts; of one that was made so already: nothing. False: the upload, or a part, is gone. */
  completeParts(key: string, uploadId: string, parts: readonly SentPart[]): Promise<boolean>
  /** Throws away the parts of an upload that nobody goes on with. Of one that is gone: nothing. */
  abortUpload(key: string, uploadId: string): Promise<void>
  has(key: string): Promise<boolean>
  /** An address that is enough to have the object, under a name, for so many seconds. Whether it is there is not asked. */
  linkTo(key: string, options: { seconds: number; fileName: string }): Promise<string>
  /** Keys below a prefix, a page at a time, in the order of S3. */
  list(prefix: string): AsyncGenerator<string[], void>
  delete(key: string): Promise<void>
  /** The object and, where the bucket is versioned, every version of it. */
  deleteVersions(key: string): Promise<void>
}

/** As S3 wants it shown when the object is completed. */
export interface SentPart {
  etag: string
  crc32: string
}

export interface UploadOptions {
  contentType: string
  /** Told the upload's id before the first part leaves; never, where the object is one request. */
  onBegun(uploadId: string): Promise<void>
}

/** Holds two parts in memory: one that is filled, and one that is on its way. */
export interface Upload {
  /** Waits until there is room. Throws what went wrong with an earlier part. */
  write(bytes: Uint8Array): Promise<void>
  /** Returns when the object is there, whole. */
  close(): Promise<void>
}

type Loaded = typeof import('@aws-sdk/client-s3') & { client: S3Client }

const ATTEMPTS = 3
const CONNECT_TIMEOUT_MS = 2_000
const REQUEST_TIMEOUT_MS = 10_000
/** S3 takes parts from 5 MB on, and 10,000 of them. */
const PART_BYTES = 8 * 1024 * 1024

export interface BucketOptions {
  requestTimeoutMs?: number
}

/** Every method throws CodedError `unavailable` where S3 cannot be reached, or does not answer. */
export function openBucket(
  name: string,
  { requestTimeoutMs = REQUEST_TIMEOUT_MS }: BucketOptions = {},
): Bucket {
  // Most invocations need no object, and the client is large: it is loaded when the first one comes.
  let loaded: Promise<Loaded> | undefined
  const load = (): Promise<Loaded> => {
    loaded ??= import('@aws-sdk/client-s3').then((module) => ({
      ...module,
      client: new module.S3Client({
        maxAttempts: ATTEMPTS,
        requestHandler: {
          connectionTimeout: CONNECT_TIMEOUT_MS,
          requestTimeout: requestTimeoutMs,
          throwOnRequestTimeout: true, // else it is only warned of
        },
      }),
    }))
    return loaded
  }
  const find = async (key: string, Range?: string) => {
    const { client, GetObjectCommand } = await load()
    try {
      const { Body } = await client.send(new GetObjectCommand({ Bucket: name, Key: key, Range }))
      return Body
    } catch (cause) {
      if ((cause as Error).name === 'NoSuchKey') return undefined
      throw cause
    }
  }

  return {
    async put(key, text) {
      const { client, PutObjectCommand } = await load()
      const object = { Bucket: name, Key: key, Body: text, ContentType: 'text/plain; charset=utf-8' }
      await client.send(new PutObjectCommand(object)).catch(unavailable)
    },
    get: (key) => find(key).then((body) => body?.transformToString(), unavailable),
    async getRange(key, { offset, length }) {
      try {
        const body = await find(key, `bytes=${offset}-${offset + length - 1}`)
        return body && Buffer.from(await body.transformToByteArray())
      } catch (cause) {
        if ((cause as Error).name === 'InvalidRange') return Buffer.alloc(0) // It ends before.
        return unavailable(cause)
      }
    },
    async getStream(key) {
      const body = await find(key).catch(unavailable)
      return body && chunksOf(body as unknown as AsyncIterable<Uint8Array>)
    },
    upload: (key, options) => openUpload(load, { Bucket: name, Key: key }, options),
    async beginParts(key, { contentType }) {
      const { client, CreateMultipartUploadCommand } = await load()
      const object = { Bucket: name, Key: key, ContentType: contentType, ChecksumAlgorithm: 'CRC32' } as const
      const { UploadId = '' } = await client.send(new CreateMultipartUploadCommand(object)).catch(unavailable)
      return UploadId
    },
    async sendPart(key, UploadId, PartNumber, Body) {
      const { client, UploadPartCommand } = await load()
      const part = { Bucket: name, Key: key, UploadId, PartNumber, Body, ChecksumAlgorithm: 'CRC32' } as const
      try {
        const { ETag = '', ChecksumCRC32 = '' } = await client.send(new UploadPartCommand(part))
        return { etag: ETag, crc32: ChecksumCRC32 }
      } catch (cause) {
        if ((cause as Error).name === 'NoSuchUpload') return undefined
        return unavailable(cause)
      }
    },
    async completeParts(key, UploadId, parts) {
      const { client, CompleteMultipartUploadCommand } = await load()
      const Parts = parts.map(({ etag, crc32 }, index) => ({
        PartNumber: index + 1,
        ETag: etag,
        ...(crc32 !== '' && { ChecksumCRC32: crc32 }),
      }))
      try {
        const upload = { Bucket: name, Key: key, UploadId, MultipartUpload: { Parts } }
        await client.send(new CompleteMultipartUploadCommand(upload))
        return true
      } catch (cause) {
        const { name: why } = cause as Error
        if (why === 'NoSuchUpload') return this.has(key) // Somebody died after completing it.
        if (why === 'InvalidPart') return false
        return unavailable(cause)
      }
    },
    async has(key) {
      const { client, HeadObjectCommand } = await load()
      try {
        await client.send(new HeadObjectCommand({ Bucket: name, Key: key }))
        return true
      } catch (cause) {
        if ((cause as Error).name === 'NotFound') return false
        return unavailable(cause)
      }
    },
    async linkTo(key, { seconds, fileName }) {
      const { client, GetObjectCommand } = await load()
      const command = new GetObjectCommand({
        Bucket: name,
        Key: key,
        ResponseContentDisposition: `attachment; filename="${fileName}"`,
      })
      return signedLink(client, command, seconds)
    },
    async abortUpload(key, uploadId) {
      const { client, AbortMultipartUploadCommand } = await load()
      const upload = { Bucket: name, Key: key, UploadId: uploadId }
      await client.send(new AbortMultipartUploadCommand(upload)).catch((cause: Error) => {
        if (cause.name !== 'NoSuchUpload') unavailable(cause)
      })
    },
    async *list(prefix) {
      const { client, paginateListObjectsV2 } = await load()
      try {
        for await (const page of paginateListObjectsV2({ client }, { Bucket: name, Prefix: prefix }))
          yield (page.Contents ?? []).flatMap(({ Key }) => (Key === undefined ? [] : [Key]))
      } catch (cause) {
        unavailable(cause)
      }
    },
    async delete(key) {
      const { client, DeleteObjectCommand } = await load()
      await client.send(new DeleteObjectCommand({ Bucket: name, Key: key })).catch(unavailable)
    },
    async deleteVersions(key) {
      const { client, ListObjectVersionsCommand, DeleteObjectCommand } = await load()
      try {
        // Its own versions come before those of longer keys that begin like it.
        for (;;) {
          const { Versions = [], DeleteMarkers = [] } = await client.send(
            new ListObjectVersionsCommand({ Bucket: name, Prefix: key }),
          )
          const own = [...Versions, ...DeleteMarkers].filter(({ Key }) => Key === key)
          if (own.length === 0) return
          for (const { VersionId } of own)
            await client.send(new DeleteObjectCommand({ Bucket: name, Key: key, VersionId }))
        }
      } catch (cause) {
        unavailable(cause)
      }
    },
  }
}

interface HttpRequest {
  protocol: string
  hostname: string
  path: string
  query?: Record<string, unknown>
  headers: Record<string, string>
}
interface Signer {
  presign(request: HttpRequest, options: { expiresIn: number }): Promise<HttpRequest>
}

/** Signs a request as the client would send it, in its query, and does not send it. */
async function signedLink(client: S3Client, command: GetObjectCommand, seconds: number): Promise<string> {
  let built: HttpRequest | undefined
  command.middlewareStack.add(
    () => async (call) => {
      built = call.request as HttpRequest
      return { response: {}, output: { $metadata: {} } }
    },
    { step: 'build', priority: 'low' },
  )
  await client.send(command)
  const { host = '' } = (built as HttpRequest | undefined)?.headers ?? {}
  const headers = { host, 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' }
  const signer = (await client.config.signer()) as unknown as Signer
  const signed = await signer.presign(Object.assign(built as unknown as HttpRequest, { headers }), {
    expiresIn: seconds,
  })
  const query = Object.entries(signed.query ?? {}).map(
    ([name, value]) => `${name}=${encodeURIComponent(String(value))}`,
  )
  return `${signed.protocol}//${host}${signed.path}?${query.join('&')}`
}

function unavailable(cause: unknown): never {
  throw new CodedError('unavailable', 'Stored objects cannot be reached right now.', { cause })
}

async function* chunksOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  try {
    yield* body
  } catch (cause) {
    unavailable(cause)
  }
}

/** An object of less than a part is one request. */
function openUpload(
  load: () => Promise<Loaded>,
  object: { Bucket: string; Key: string },
  { contentType, onBegun }: UploadOptions,
): Upload {
  let filling = Buffer.allocUnsafe(PART_BYTES)
  let spare = Buffer.alloc(0) // The other buffer, once there are two.
  let filled = 0
  let uploadId: string | undefined
  let parts = 0
  const completed: CompletedPart[] = []
  let underWay: Promise<void> = Promise.resolve()

  const begin = async (): Promise<string> => {
    const { client, CreateMultipartUploadCommand } = await load()
    const { UploadId = '' } = await client
      .send(
        new CreateMultipartUploadCommand({
          ...object,
          ContentType: contentType,
          ChecksumAlgorithm: 'CRC32',
        }),
      )
      .catch(unavailable)
    await onBegun(UploadId)
    return UploadId
  }
  const send = async (UploadId: string, PartNumber: number, Body: Buffer): Promise<void> => {
    const { client, UploadPartCommand } = await load()
    const { ETag, ChecksumCRC32 } = await client
      .send(new UploadPartCommand({ ...object, UploadId, PartNumber, Body, ChecksumAlgorithm: 'CRC32' }))
      .catch(unavailable)
    completed.push({ PartNumber, ETag, ChecksumCRC32 })
  }
  const sendFilled = async (): Promise<void> => {
    await underWay // or a third part would be in memory
    uploadId ??= await begin()
    parts += 1
    underWay = send(uploadId, parts, filling.subarray(0, filled))
    underWay.catch(() => undefined) // Whoever writes or closes next is told.
    const free = spare.length > 0 ? spare : Buffer.allocUnsafe(PART_BYTES)
    spare = filling
    filling = free
    filled = 0
  }

  return {
    async write(bytes) {
      for (let from = 0; from < bytes.length; ) {
        if (filled === PART_BYTES) await sendFilled()
        const piece = bytes.subarray(from, from + PART_BYTES - filled)
        filling.set(piece, filled)
        filled += piece.length
        from += piece.length
      }
    },
    async close() {
      const { client, PutObjectCommand, CompleteMultipartUploadCommand } = await load()
      if (uploadId === undefined) {
        const Body = filling.subarray(0, filled)
        await client
          .send(new PutObjectCommand({ ...object, Body, ContentType: contentType }))
          .catch(unavailable)
        return
      }
      if (filled > 0) await sendFilled()
      await underWay
      await client
        .send(
          new CompleteMultipartUploadCommand({
            ...object,
            UploadId: uploadId,
            MultipartUpload: { Parts: completed },
          }),
        )
        .catch(unavailable)
    },
  }
}
