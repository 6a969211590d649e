/** Consumes the turns queue: saves finished turns and looks after running ones. Batches, with partial failures. */
import middy from '@middy/core'
import type { SQSBatchResponse, SQSEvent } from 'aws-lambda'
import { saveEarly } from '../messages/save.ts'
import { deliver } from '../replies/deliver.ts'
import { databaseSettings, hotStoreSettings, readConfig } from '../runtime/config.ts'
import { openLogger } from '../runtime/logger.ts'
import { openMetrics } from '../runtime/metrics.ts'
import { openBucket } from '../services/bucket.ts'
import { openDatabase } from '../services/database.ts'
import { openHotStore } from '../services/open-hot-store.ts'
import { openDeliveryDesk, openTurnQueue } from '../services/turn-queue.ts'
import { openUserCount } from '../sessions/count-users.ts'

const config = readConfig([
  ...databaseSettings,
  ...hotStoreSettings,
  'contentBucket',
  'metricsNamespace',
  'turnsDeadQueueUrl',
  'turnsQueueUrl',
])
const log = openLogger('persist')
const { count, measure, flush } = openMetrics('persist', config)
const database = openDatabase({ ...config, measure })
const { hotStore } = await openHotStore(config, { database, save: saveEarly(database), count, measure })
const services = {
  database,
  hotStore,
  queue: openTurnQueue(config.turnsQueueUrl),
  desk: openDeliveryDesk({ queueUrl: config.turnsQueueUrl, deadQueueUrl: config.turnsDeadQueueUrl }),
  bucket: openBucket(config.contentBucket),
  count,
  measure,
  countUsers: openUserCount(database, measure),
}

export const handler = middy<SQSEvent, SQSBatchResponse>({ requestEnd: flush }).handler(async (event) => {
  const back = await deliver(
    services,
    event.Records.map((record) => ({
      id: record.messageId,
      receiptHandle: record.receiptHandle,
      body: record.body,
      groupId: record.attributes.MessageGroupId,
      sentAt: Number(record.attributes.SentTimestamp),
    })),
    log,
  )
  return { batchItemFailures: back.map((itemIdentifier) => ({ itemIdentifier })) }
})
