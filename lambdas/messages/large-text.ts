/** Texts that are too large for a row of the Data API stand in the bucket, with a pointer in their place. */
import { createHash } from 'node:crypto'
import type { Tenant } from '../protocol/callers.ts'
import { CodedError } from '../protocol/errors.ts'
import type { MessageRecord } from '../protocol/queue.ts'
import type { Bucket } from '../services/bucket.ts'
import { tenantPath } from '../tenants/tenant-path.ts'

/**
 * Bytes of text, as JSON writes it, that may stand in a row. A row of the Data API holds 64 KB, and one that returns a
 * turn holds its question and its answer, each with up to 8 KB of metadata and its sources.
 */
export const MAX_INLINE_BYTES = 24_576

/** JSON writes a character as at most 6 bytes for each of its UTF-16 units. */
const fitsInline = (text: string): boolean =>
  text.length * 6 <= MAX_INLINE_BYTES || Buffer.byteLength(JSON.stringify(text)) <= MAX_INLINE_BYTES

/** Below it all versions of one message's text lie. */
const textPrefix = ({ company_id, platform, id }: Pick<MessageRecord, 'company_id' | 'platform' | 'id'>) =>
  `content/${tenantPath({ companyId: company_id, platform })}/${id}/`

/** Named by the message and its text, so that writing twice is writing once and two versions never mix. */
const objectKey = (record: Pick<MessageRecord, 'company_id' | 'platform' | 'id'>, text: string) =>
  `${textPrefix(record)}${createHash('sha256').update(text).digest('hex').slice(0, 32)}`

type WithText = Pick<MessageRecord, 'company_id' | 'platform' | 'id' | 'content' | 'content_key'>

/** The record as it may travel: unchanged when small, otherwise with its text moved to an object. */
export async function stowText<Record extends WithText>(bucket: Bucket, record: Record): Promise<Record> {
  if (fitsInline(record.content)) return record
  const key = objectKey(record, record.content)
  await bucket.put(key, record.content)
  return { ...record, content: '', content_key: key }
}

/** Removes the text of a record that nobody will read. Where that fails it stays: it is found by nobody. */
export async function dropText(
  bucket: Pick<Bucket, 'delete'>,
  { content_key }: Pick<MessageRecord, 'content_key'>,
): Promise<void> {
  if (content_key !== null) await bucket.delete(content_key).catch(() => undefined)
}

/** The record with its text in an object that is not written yet, under the name that it will get. */
export const pointerTo = <Record extends WithText>(record: Record): Record => ({
  ...record,
  content: '',
  content_key: objectKey(record, record.content),
})

/** The whole text of a record, wherever it stands. */
export async function readText(
  bucket: Pick<Bucket, 'get'>,
  record: Pick<WithText, 'content' | 'content_key'>,
): Promise<string> {
  if (record.content_key === null) return record.content
  const text = await bucket.get(record.content_key)
  if (text === undefined) throw new CodedError('erased', 'The text of this message is gone.')
  return text
}

/** Removes every text of a message that ever stood in the bucket. Repeating it changes nothing. */
export async function removeTexts(
  bucket: Pick<Bucket, 'list' | 'deleteVersions'>,
  { companyId, platform }: Tenant,
  id: string,
): Promise<void> {
  for await (const keys of bucket.list(textPrefix({ company_id: companyId, platform, id })))
    for (const key of keys) await bucket.deleteVersions(key)
}
