/** Runs every five minutes. Looks at the spool first and touches nothing else while that is empty. */
import middy from '@middy/core'
import { unspool } from '../replies/unspool.ts'
import { readConfig } from '../runtime/config.ts'
import { openLogger } from '../runtime/logger.ts'
import { openBucket } from '../services/bucket.ts'
import { openTurnQueue } from '../services/turn-queue.ts'

const config = readConfig(['contentBucket', 'turnsQueueUrl'])
const log = openLogger('maintain')
const services = { queue: openTurnQueue(config.turnsQueueUrl), bucket: openBucket(config.contentBucket) }

export const handler = middy<unknown, { requeued: number; unreadable: number }>().handler(async () => {
  const result = await unspool(services, log)
  if (result.requeued + result.unreadable > 0) log.warn('spool emptied', result)
  return result
})
