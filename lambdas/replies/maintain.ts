/** What has to be put in order from time to time: spooled turns, and turns that nobody has rescued. */
import type { DurableServices } from './durable.ts'
import type { Log } from './log.ts'
import { type RescueServices, rescue } from './rescue.ts'
import { readSpool } from './spool.ts'

/** Rescues of one run and tenant; the next run goes on. */
const MAX_RESCUES = 100

export interface Maintained {
  requeued: number
  unreadable: number
  rescued: number
}

/**
 * Spool first, then the queue. Postgres is looked at only when one of them held something, because then it is awake
 * anyway: an idle environment must be left asleep.
 */
export async function maintain(services: RescueServices, log: Log): Promise<Maintained> {
  const spooled = await unspool(services, log)
  if (spooled.requeued === 0 && (await services.queue.isEmpty())) return { ...spooled, rescued: 0 }
  let rescued = 0
  for (const { messageId, ...tenant } of await services.hotStore.lapsed(MAX_RESCUES))
    if (await rescue(services, tenant, messageId, log)) rescued += 1
  return { ...spooled, rescued }
}

/**
 * Queues every spooled object's messages and then removes it; killed in between, it queues them once more, and saving
 * twice is saving once. An object that cannot be read stays where it is and is reported. Returns how many went and
 * how many stayed.
 */
async function unspool(
  { queue, bucket }: Pick<DurableServices, 'queue' | 'bucket'>,
  log: Log,
): Promise<{ requeued: number; unreadable: number }> {
  let requeued = 0
  let unreadable = 0
  for await (const { key, messages } of readSpool(bucket)) {
    if (messages === undefined) {
      unreadable += 1
      log.error('spooled object cannot be read', { key })
      continue
    }
    await queue.send(messages)
    await bucket.delete(key)
    requeued += 1
  }
  return { requeued, unreadable }
}
