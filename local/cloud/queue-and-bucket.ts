import { findPackageJSON } from 'node:module'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { buildApp, type FauxqsServer } from 'fauxqs'
import type { Resources } from '../../lib/resources.ts'
import type { Gate } from './calls.ts'
import { groupCommits, type Persistence as Writing } from './group-commit.ts'
import { refuseLongKeys } from './object-keys.ts'
import { answerVersions, type ObjectList } from './object-versions.ts'
import { guard } from './queue-and-bucket-gate.ts'

const REGION = 'us-east-1'
const ACCOUNT = '000000000000' // fauxqs's own

type QueueStore = {
  host: string
  persistence: unknown
  allQueues(): Iterable<{ name: string; persistence: unknown }>
  getQueueByName(name: string): { setAttributes(attributes: Record<string, string>): void } | undefined
  createQueue(name: string, url: string, arn: string, attributes: Record<string, string>): unknown
  buildQueueUrl(name: string, port: string, host: string, region: string): string
  inspectQueue: FauxqsServer['inspectQueue']
  shutdown(): void
}
type BucketStore = ObjectList & { persistence: unknown; createBucket(name: string): void }
type Persistence = Writing & {
  db: { prepare(sql: string): { run(...values: unknown[]): unknown }; exec(sql: string): void }
  load(queues: QueueStore, topics: object, buckets: BucketStore): void
  updateMessageReady(messageId: string): void
  close(): void
}

/** SQS and S3, as one HTTP server on loopback. */
export type QueueAndBucket = {
  address: string
  queueUrl(name: string): string
  queueArn(name: string): string
  /** What is in a queue, without receiving it. */
  inspectQueue: FauxqsServer['inspectQueue']
  stop(): Promise<void>
}

/**
 * Puts fauxqs together from its parts instead of calling `startFauxqs`, which listens on every interface.
 * Existing queues keep their messages and get the attributes that `resources` says.
 */
export async function startQueueAndBucket(
  { queues, buckets }: Pick<Resources, 'queues' | 'buckets'>,
  dataDir?: string,
  gate?: Gate,
): Promise<QueueAndBucket> {
  const parts = await loadParts()
  const persistence = dataDir ? openPersistence(parts, dataDir) : undefined
  const stores = {
    sqsStore: new parts.SqsStore(),
    snsStore: new parts.SnsStore(),
    s3Store: new parts.S3Store(),
  }
  const { sqsStore, s3Store } = stores
  sqsStore.host = '' // or queue URLs would name a host that does not resolve everywhere
  if (persistence) {
    persistence.load(sqsStore, stores.snsStore, s3Store) // before it is attached: loading must not write
    sqsStore.persistence = persistence
    s3Store.persistence = persistence
    for (const queue of sqsStore.allQueues()) queue.persistence = persistence
  }

  const queueArn = (name: string): string => `arn:aws:sqs:${REGION}:${ACCOUNT}:${name}`
  const app = buildApp({ logger: false, defaultRegion: REGION, stores: stores as never })
  app.addHook('onRequest', (_request, reply, done) => {
    // A long poll whose client is gone would take the next message and keep it invisible: wake it up empty.
    reply.raw.once('close', () => {
      if (!reply.raw.writableFinished) sqsStore.shutdown()
    })
    done()
  })
  if (gate) guard(app, gate, queueArn)
  refuseLongKeys(app)
  answerVersions(app, s3Store)
  // What a request wrote is durable before its answer leaves.
  const writes = persistence && groupCommits(persistence)
  app.addHook('onSend', async () => writes?.committed())
  app.addHook('onClose', async () => {
    await writes?.committed()
    persistence?.close()
  })
  const address = await app.listen({ port: 0, host: '127.0.0.1' })

  const queueUrl = (name: string): string => `${address}/${ACCOUNT}/${name}`
  for (const [name, { visibilitySeconds, retentionSeconds, deadLetters }] of Object.entries(queues)) {
    const attributes: Record<string, string> = {
      VisibilityTimeout: String(visibilitySeconds),
      MessageRetentionPeriod: String(retentionSeconds),
      ...(deadLetters && {
        RedrivePolicy: JSON.stringify({
          deadLetterTargetArn: queueArn(deadLetters.queue),
          maxReceiveCount: deadLetters.maxReceiveCount,
        }),
      }),
    }
    const existing = sqsStore.getQueueByName(name)
    if (existing) existing.setAttributes(attributes)
    else sqsStore.createQueue(name, queueUrl(name), queueArn(name), attributes)
  }
  for (const name of buckets) s3Store.createBucket(name)
  await writes?.committed()

  return {
    address,
    queueUrl,
    queueArn,
    inspectQueue: (name) => sqsStore.inspectQueue(name),
    stop: async () => {
      await app.close()
    },
  }
}

type Parts = {
  SqsStore: new () => QueueStore
  SnsStore: new () => object
  S3Store: new () => BucketStore
  PersistenceManager: new (dataDir: string) => Persistence
}

/** The package exports none of these; its version is pinned, and the local cloud's tests hold what is used. */
async function loadParts(): Promise<Parts> {
  const manifest = findPackageJSON('fauxqs', import.meta.url)
  if (!manifest) throw new Error('fauxqs is not installed: run npm ci.')
  const part = (file: string) => import(pathToFileURL(join(dirname(manifest), 'dist', file)).href)
  const [sqs, sns, s3, persistence] = await Promise.all([
    part('sqs/sqsStore.js'),
    part('sns/snsStore.js'),
    part('s3/s3Store.js'),
    part('persistence.js'),
  ])
  return { ...sqs, ...sns, ...s3, ...persistence }
}

function openPersistence({ PersistenceManager }: Parts, dataDir: string): Persistence {
  const persistence = new PersistenceManager(dataDir)
  // In KiB. With SQLite's own 2 MB most of a full queue is read from its file for each message that is received or deleted.
  persistence.db.exec('PRAGMA cache_size = -65536')
  // fauxqs 2.4.1 writes NULL into a NOT NULL column here, after it has taken the message out of its memory: a
  // message whose visibility is set to 0 would be gone until the next start.
  const makeReady = persistence.db.prepare(
    'UPDATE sqs_messages SET receipt_handle = NULL, visibility_deadline = NULL WHERE message_id = ?',
  )
  persistence.stmts.makeReady = makeReady
  persistence.updateMessageReady = (messageId) => void makeReady.run(messageId)
  return persistence
}
