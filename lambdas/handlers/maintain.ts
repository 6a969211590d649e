/** Runs every five minutes and puts in order what nobody else has. */
import middy from '@middy/core'
import { saveEarly } from '../messages/save.ts'
import { type Maintained, maintain } from '../replies/maintain.ts'
import { databaseSettings, hotStoreSettings, readConfig } from '../runtime/config.ts'
import { openLogger } from '../runtime/logger.ts'
import { openMetrics } from '../runtime/metrics.ts'
import { openBucket } from '../services/bucket.ts'
import { openDatabase } from '../services/database.ts'
import { openHotStore } from '../services/open-hot-store.ts'
import { openTurnQueue } from '../services/turn-queue.ts'

const config = readConfig([
  ...databaseSettings,
  ...hotStoreSettings,
  'contentBucket',
  'metricsNamespace',
  'turnsQueueUrl',
])
const log = openLogger('maintain')
const { count, measure, flush } = openMetrics('maintain', config)
const database = openDatabase({ ...config, measure })
const { hotStore } = await openHotStore(config, { database, save: saveEarly(database), count, measure })
const services = {
  hotStore,
  queue: openTurnQueue(config.turnsQueueUrl),
  bucket: openBucket(config.contentBucket),
  count,
  measure,
}

export const handler = middy<unknown, Maintained>({ requestEnd: flush }).handler(async () => {
  const maintained = await maintain(services, log)
  log.info('put in order', { ...maintained })
  return maintained
})
