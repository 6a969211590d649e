/** Where turns wait while the queue refuses them: a prefix of the bucket, which `maintain` empties into the queue again. */
import { createHash } from 'node:crypto'
import * as v from 'valibot'
import { type MessageRecord, type QueueMessage, queueMessageSchema } from '../protocol/queue.ts'
import type { Bucket } from '../services/bucket.ts'

export const SPOOL_PREFIX = 'spool/'
const spooledSchema = v.array(queueMessageSchema)

/** One object, written once: its name is its content's. */
export async function spool(bucket: Pick<Bucket, 'put'>, messages: readonly QueueMessage[]): Promise<void> {
  const text = JSON.stringify(messages)
  const name = createHash('sha256').update(text).digest('hex')
  await bucket.put(`${SPOOL_PREFIX}${name}.json`, text)
}

export interface Spooled {
  key: string
  /** Undefined: it cannot be read. */
  messages: QueueMessage[] | undefined
}

/** All objects that are there; one that goes meanwhile may be left out. */
export async function* readSpool(bucket: Pick<Bucket, 'list' | 'get'>): AsyncGenerator<Spooled, void> {
  for await (const keys of bucket.list(SPOOL_PREFIX))
    for (const key of keys) {
      const text = await bucket.get(key)
      if (text !== undefined) yield { key, messages: parse(text) }
    }
}

function parse(text: string): QueueMessage[] | undefined {
  try {
    return v.parse(spooledSchema, JSON.parse(text))
  } catch {
    return undefined
  }
}

/**
 * Drops records from the spool, all versions of their objects; others of the same object are written anew before. Returns how
 * many. What is on its way from here to the queue at that moment is not met any more.
 */
export async function dropSpooled(
  bucket: Pick<Bucket, 'list' | 'get' | 'put' | 'deleteVersions'>,
  isDropped: (record: MessageRecord) => boolean,
): Promise<number> {
  let dropped = 0
  for await (const { key, messages = [] } of readSpool(bucket)) {
    const records = messages.flatMap(({ body }) => ('records' in body ? body.records : []))
    const count = records.filter(isDropped).length
    if (count === 0) continue
    // Of a turn that is gone nothing is to be watched.
    if (count < records.length)
      await spool(
        bucket,
        messages.flatMap((message) => without(message, isDropped)),
      )
    await bucket.deleteVersions(key)
    dropped += count
  }
  return dropped
}

function without(message: QueueMessage, isDropped: (record: MessageRecord) => boolean): QueueMessage[] {
  if (!('records' in message.body)) return [message]
  const records = message.body.records.filter((record) => !isDropped(record))
  return records.length === 0 ? [] : [{ ...message, body: { ...message.body, records } }]
}
