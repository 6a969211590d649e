/** The bucket, as far as a restore reads it and puts texts back. */
import {
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  paginateListObjectsV2,
  S3Client,
} from '@aws-sdk/client-s3'
import type { Tenant } from '../../lambdas/protocol/callers.ts'
import { tenantIn } from '../../lambdas/tenants/tenant-path.ts'
import type { Environment } from '../environment.ts'

/** One gzip member, as the manifest has it. docs/archive-format.md. */
export interface ManifestSegment {
  sessionId: string
  offset: number
  length: number
  textBytes: number
  messages: number
  firstSequence: number
  lastSequence: number
  sha256: string
}

export interface Manifest extends Tenant {
  schemaVersion: number
  bytes: number
  sha256: string
  messages: number
  segments: ManifestSegment[]
}

export interface ArchiveObject {
  key: string
  tenant: Tenant
}

export interface Archive {
  /** Objects whose keys begin so, in their order: a tenant's oldest first. */
  objects(from: string): AsyncGenerator<ArchiveObject, void>
  /** Undefined where it has none: then it was never finished, and nothing has left Postgres because of it. */
  manifest(object: ArchiveObject): Promise<Manifest | undefined>
  has(key: string): Promise<boolean>
  /** Undefined: there is no such object, or not so much of it. */
  range(key: string, offset: number, length: number): Promise<Buffer | undefined>
  /** Texts of objects below a prefix. */
  texts(prefix: string): AsyncGenerator<string, void>
  /** Puts a text where a row says that it is, unless it is there. */
  keepText(key: string, text: string): Promise<void>
}

const OBJECT = /^archive\/([^/]+\/[^/]+)\/\d{4}\/\d{2}\/\d{2}\/[0-9a-f-]{36}\.jsonl\.gz$/

const isMissing = (error: unknown): boolean =>
  /^(NoSuchKey|NotFound|InvalidRange)$/.test((error as Error).name)

export function openArchive(environment: Environment, abortSignal: AbortSignal): Archive {
  const client = new S3Client({ ...environment.reach('S3') })
  const Bucket = environment.values.CONTENT_BUCKET ?? ''
  const read = async (Key: string, Range?: string): Promise<Buffer> => {
    const { Body } = await client.send(new GetObjectCommand({ Bucket, Key, Range }), { abortSignal })
    return Buffer.from((await Body?.transformToByteArray()) ?? [])
  }
  async function* keysBelow(Prefix: string): AsyncGenerator<string, void> {
    for await (const { Contents = [] } of paginateListObjectsV2(
      { client },
      { Bucket, Prefix },
      { abortSignal },
    ))
      for (const { Key = '' } of Contents) yield Key
  }
  const manifestOf = async (key: string): Promise<Manifest | undefined> => {
    try {
      return JSON.parse((await read(key.replace(/\.jsonl\.gz$/, '.manifest.json'))).toString())
    } catch (error) {
      if (isMissing(error)) return undefined
      throw error
    }
  }
  return {
    async *objects(from) {
      for await (const key of keysBelow(from)) {
        const [, path] = OBJECT.exec(key) ?? []
        const tenant = path && (tenantIn(path) ?? (await manifestOf(key)))
        if (tenant) yield { key, tenant: { companyId: tenant.companyId, platform: tenant.platform } }
      }
    },
    manifest: ({ key }) => manifestOf(key),
    async has(Key) {
      try {
        await client.send(new HeadObjectCommand({ Bucket, Key }), { abortSignal })
        return true
      } catch (error) {
        if (isMissing(error)) return false
        throw error
      }
    },
    async range(key, offset, length) {
      try {
        return await read(key, `bytes=${offset}-${offset + length - 1}`)
      } catch (error) {
        if (isMissing(error)) return undefined
        throw error
      }
    },
    async *texts(prefix) {
      for await (const key of keysBelow(prefix)) yield (await read(key)).toString()
    },
    async keepText(Key, text) {
      try {
        await client.send(new HeadObjectCommand({ Bucket, Key }), { abortSignal })
      } catch (error) {
        if (!isMissing(error)) throw error
        const ContentType = 'text/plain; charset=utf-8'
        await client.send(new PutObjectCommand({ Bucket, Key, Body: text, ContentType }), { abortSignal })
      }
    },
  }
}
