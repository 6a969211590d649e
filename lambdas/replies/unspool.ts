/** Brings what was spooled while the queue refused back to the queue. */
import * as v from 'valibot'
import { queueMessageSchema } from '../protocol.ts'
import { type DurableServices, SPOOL_PREFIX } from './durable.ts'
import type { Log } from './log.ts'

const spooledSchema = v.array(queueMessageSchema)

/**
 * Queues every spooled object's messages and then removes it; killed in between, it queues them once more, and saving
 * twice is saving once. An object that cannot be read stays where it is and is reported. Returns how many went and
 * how many stayed.
 */
export async function unspool(
  { queue, bucket }: Pick<DurableServices, 'queue' | 'bucket'>,
  log: Log,
): Promise<{ requeued: number; unreadable: number }> {
  let requeued = 0
  let unreadable = 0
  for await (const keys of bucket.list(SPOOL_PREFIX))
    for (const key of keys) {
      const text = await bucket.get(key)
      if (text === undefined) continue // Another run was quicker.
      const spooled = parse(text)
      if (spooled === undefined) {
        unreadable += 1
        log.error('spooled object cannot be read', { key })
        continue
      }
      await queue.send(spooled)
      await bucket.delete(key)
      requeued += 1
    }
  return { requeued, unreadable }
}

function parse(text: string): v.InferOutput<typeof spooledSchema> | undefined {
  try {
    return v.parse(spooledSchema, JSON.parse(text))
  } catch {
    return undefined
  }
}
