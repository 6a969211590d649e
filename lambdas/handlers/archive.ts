/** Runs once a day: what is old leaves Postgres for the bucket. */
import middy from '@middy/core'
import type { Context } from 'aws-lambda'
import { type Archived, archive } from '../ageing/archive.ts'
import { isDue, postpone } from '../ageing/next-run.ts'
import { repeatErasures } from '../rights/repeat.ts'
import { databaseSettings, readConfig } from '../runtime/config.ts'
import { openLogger } from '../runtime/logger.ts'
import { openMetrics } from '../runtime/metrics.ts'
import { openBucket } from '../services/bucket.ts'
import { openDatabase } from '../services/database.ts'
import { openSecrets } from '../services/secrets.ts'
import { openJobQueue } from '../services/turn-queue.ts'

/** A call that is under way may take 45 s, and what comes after it is soon done. */
const RESERVE_MS = 60_000

const config = readConfig([
  ...databaseSettings,
  'archiveAboveMessages',
  'archiveAfterDays',
  'contentBucket',
  'jobsQueueUrl',
  'metricsNamespace',
  'pseudonymSecretArn',
])
const log = openLogger('archive')
const { count, measure, flush } = openMetrics('archive', config)
const { pseudonymKey } = openSecrets({ pseudonymKey: config.pseudonymSecretArn })
const services = {
  database: openDatabase({ ...config, measure }),
  bucket: openBucket(config.contentBucket),
  jobs: openJobQueue(config.jobsQueueUrl),
  pseudonymKey,
  count,
  measure,
}

export const handler = middy<unknown, Archived | { isDue: false }>({ requestEnd: flush }).handler(
  async (_event: unknown, context: Context) => {
    if (!(await isDue(services.bucket, Date.now()))) return { isDue: false }
    const timeLeft = () => context.getRemainingTimeInMillis() - RESERVE_MS
    await repeatErasures(services, log)
    const archived = await archive(services, { defaults: config, timeLeft, log })
    const { isFinished, failed, dueInSeconds } = archived
    await postpone(services.bucket, isFinished && failed === 0 ? dueInSeconds : 0, Date.now())
    log.info('archive run ended', { ...archived })
    return archived
  },
)
