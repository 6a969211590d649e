/**
 * Making records durable: in the queue or, where it refuses, in the spool.
 */
import type { Tenant } from '../protocol/callers.ts'
import { CodedError } from '../protocol/errors.ts'
import type { Count } from '../protocol/metrics.ts'
import type { MessageRecord, QueueMessage } from '../protocol/queue.ts'
import type { Bucket } from '../services/bucket.ts'
import type { TurnQueue } from '../services/turn-queue.ts'
import type { Log } from './log.ts'
import { spool } from './spool.ts'

export interface DurableServices {
  queue: TurnQueue
  bucket: Bucket
  count: Count
}

const tenantOf = ({ company_id, platform }: MessageRecord): Tenant => ({ companyId: company_id, platform })

/**
 * Resolves once the records survive anything that happens to this process. A watched turn is looked at again after a
 * while. Throws CodedError `unavailable` where neither
 * queue nor bucket takes them.
 */
export async function makeDurable(
  { queue, bucket, count }: DurableServices,
  records: readonly MessageRecord[],
  log: Log,
  watch?: { messageId: string; delaySeconds: number },
): Promise<void> {
  const [first] = records
  if (first === undefined) return
  const tenant = tenantOf(first)
  const messages: QueueMessage[] = [{ tenant, body: { records: [...records] } }]
  if (watch)
    messages.push({
      tenant,
      body: { watch: { ...tenant, messageId: watch.messageId } },
      delaySeconds: watch.delaySeconds,
    })
  try {
    await queue.send(messages)
  } catch (error) {
    await spool(bucket, messages).catch(() => {
      throw new CodedError('unavailable', 'Neither queue nor spool took the turn.', { cause: error })
    })
    count('TurnSpooled')
    log.warn('turn spooled', { messageIds: records.map(({ id }) => id), error })
  }
}
