/** Texts that are too large for a row of the Data API or a queue message, in the bucket. */

import { createHash } from 'node:crypto'
import type { S3Client } from '@aws-sdk/client-s3'
import { CodedError, type MessageRecord, type Tenant } from '../protocol.ts'

/**
 * Bytes of text, as JSON writes it, that may stand in a row: half of the 64 KB that a row of the Data API holds,
 * which leaves room for the 8 KB of metadata, the sources and a second round of escaping.
 */
export const MAX_INLINE_BYTES = 32_768

export interface ContentStore {
  /** The record as it may travel: unchanged when small, otherwise with its text moved to an object. */
  stow(record: MessageRecord): Promise<MessageRecord>
  /** The text behind a key that `stow` made. */
  read(key: string): Promise<string>
}

type Loaded = typeof import('@aws-sdk/client-s3') & { client: S3Client }

const jsonBytes = (text: string): number => Buffer.byteLength(JSON.stringify(text))

/** Named by the message and its text, so that writing twice is writing once and two versions never mix. */
const objectKey = (tenant: Tenant, messageId: string, text: string): string =>
  [
    encodeURIComponent(tenant.companyId),
    encodeURIComponent(tenant.platform),
    'messages',
    messageId,
    createHash('sha256').update(text).digest('hex').slice(0, 32),
  ].join('/')

export function openContentStore(options: { bucket: string }): ContentStore {
  // Large texts are rare and the client is large: it is loaded when the first one comes.
  let loaded: Promise<Loaded> | undefined
  const load = (): Promise<Loaded> => {
    loaded ??= import('@aws-sdk/client-s3').then((module) => ({
      ...module,
      client: new module.S3Client({ maxAttempts: 3 }),
    }))
    return loaded
  }
  const unavailable = (cause: unknown) =>
    new CodedError('unavailable', 'A large message cannot be reached right now.', { cause })

  return {
    async stow(record) {
      if (record.content.length * 6 <= MAX_INLINE_BYTES || jsonBytes(record.content) <= MAX_INLINE_BYTES)
        return record
      const key = objectKey(
        { companyId: record.company_id, platform: record.platform },
        record.id,
        record.content,
      )
      try {
        const { client, PutObjectCommand } = await load()
        await client.send(
          new PutObjectCommand({
            Bucket: options.bucket,
            Key: key,
            Body: record.content,
            ContentType: 'text/plain; charset=utf-8',
          }),
        )
      } catch (cause) {
        throw unavailable(cause)
      }
      return { ...record, content: '', content_key: key }
    },
    async read(key) {
      try {
        const { client, GetObjectCommand } = await load()
        const { Body } = await client.send(new GetObjectCommand({ Bucket: options.bucket, Key: key }))
        return (await Body?.transformToString()) ?? ''
      } catch (cause) {
        throw unavailable(cause)
      }
    },
  }
}
