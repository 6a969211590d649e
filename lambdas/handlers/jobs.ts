/** Consumes the jobs queue, one job at a time: exports and erasures of users. */
import middy from '@middy/core'
import type { Context, SQSBatchResponse, SQSEvent } from 'aws-lambda'
import { saveEarly } from '../messages/save.ts'
import { workOff } from '../rights/jobs.ts'
import { databaseSettings, hotStoreSettings, readConfig } from '../runtime/config.ts'
import { openLogger } from '../runtime/logger.ts'
import { openMetrics } from '../runtime/metrics.ts'
import { openBucket } from '../services/bucket.ts'
import { openDatabase } from '../services/database.ts'
import { openHotStore } from '../services/open-hot-store.ts'
import { openSecrets } from '../services/secrets.ts'
import { openJobQueue } from '../services/turn-queue.ts'

/** A call that is under way may take 45 s, and what comes after it is soon done. */
const RESERVE_MS = 60_000

const config = readConfig([
  ...databaseSettings,
  ...hotStoreSettings,
  'contentBucket',
  'jobsQueueUrl',
  'metricsNamespace',
  'pseudonymSecretArn',
])
const log = openLogger('jobs')
const { count, measure, flush } = openMetrics('jobs', config)
const { pseudonymKey } = openSecrets({ pseudonymKey: config.pseudonymSecretArn })
const database = openDatabase({ ...config, measure })
const { hotStore } = await openHotStore(config, { database, save: saveEarly(database), count, measure })
const services = {
  database,
  hotStore,
  bucket: openBucket(config.contentBucket),
  jobs: openJobQueue(config.jobsQueueUrl),
  pseudonymKey,
  count,
}

export const handler = middy<SQSEvent, SQSBatchResponse>({ requestEnd: flush }).handler(
  async (event: SQSEvent, context: Context) => {
    const back: string[] = []
    const timeLeft = () => context.getRemainingTimeInMillis() - RESERVE_MS
    for (const { messageId, body, receiptHandle, attributes } of event.Records) {
      const receives = Number(attributes.ApproximateReceiveCount)
      if (!(await workOff(services, { body, receiptHandle, receives }, timeLeft, log))) back.push(messageId)
    }
    return { batchItemFailures: back.map((itemIdentifier) => ({ itemIdentifier })) }
  },
)
