/** The archiver on a test's own database and bucket, and what it has made of them. */
import { type Archived, type ArchiveServices, archive } from '../../lambdas/ageing/archive.ts'
import { type ArchivedMessage, readSegment, type SegmentPlace } from '../../lambdas/ageing/segments.ts'
import type { Metric } from '../../lambdas/protocol/metrics.ts'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'
import type { Log } from '../../lambdas/replies/log.ts'
import { type Bucket, openBucket } from '../../lambdas/services/bucket.ts'
import { resources } from '../../lib/resources.ts'
import { startQueueAndBucket } from '../../local/cloud/queue-and-bucket.ts'
import { type Engine, type NewTestDatabase, startTestDatabase, type TestDatabase } from './database.ts'
import { conversation, record } from './records.ts'

export const PSEUDONYM_KEY = 'a key of this test'

export interface StoredSegment extends SegmentPlace {
  id: string
  session_id: string
  first_sequence: number
  last_sequence: number
  state: 'copied' | 'live'
}

export interface TestArchive {
  database: TestDatabase
  bucket: Bucket
  /** One run for one company, with whatever is put in place of a service. */
  run(companyId: string, changes?: Partial<ArchiveServices>, options?: RunOptions): Promise<Archived>
  /** What was counted since the last time it was asked. */
  counted(): Metric[]
  /** What was logged as an error since the last time it was asked: messages and fields. */
  errors(): [string, Record<string, unknown>][]
  save(records: readonly MessageRecord[]): Promise<void>
  segments(companyId: string): Promise<StoredSegment[]>
  /** Every archived message that a reader would be given: of each the copy that archived_messages names. */
  copies(companyId: string): Promise<ArchivedMessage[]>
  close(): Promise<void>
}

export interface RunOptions {
  afterDays?: number
  aboveMessages?: number
  timeLeft?: () => number
}

export async function startTestArchive(
  engine: Engine,
  name: string,
  newDatabase?: NewTestDatabase,
): Promise<TestArchive> {
  const database = await startTestDatabase(engine, name, newDatabase)
  const cloud = await startQueueAndBucket(resources)
  process.env.AWS_ENDPOINT_URL_S3 = cloud.address
  const bucket = openBucket('content')
  let counted: Metric[] = []
  let errors: [string, Record<string, unknown>][] = []
  const log: Log = {
    info: () => undefined,
    warn: () => undefined,
    error: (message, fields) => void errors.push([message, fields]),
  }
  const services: ArchiveServices = {
    database: database.app,
    bucket,
    pseudonymKey: async () => PSEUDONYM_KEY,
    measure: () => undefined,
    count: (metric) => void counted.push(metric),
  }
  const segments = (companyId: string) =>
    database.inTenant<StoredSegment>(
      companyId,
      `select * from archive_segments where company_id = '${companyId}' order by object_key, byte_offset`,
    )
  return {
    database,
    bucket,
    run: (companyId, changes = {}, options = {}) => {
      const { afterDays = 30, aboveMessages = 10_000, timeLeft = () => 900_000 } = options
      return archive(
        { ...services, ...changes },
        {
          defaults: { archiveAfterDays: afterDays, archiveAboveMessages: aboveMessages },
          timeLeft,
          log,
          tenants: [{ companyId, platform: 'web' }],
        },
      )
    },
    counted: () => {
      const taken = counted
      counted = []
      return taken
    },
    errors: () => {
      const taken = errors
      errors = []
      return taken
    },
    save: async (records) => {
      await database.app.call('save_records', [{ jsonb: records }])
    },
    segments,
    copies: async (companyId) => {
      const places = await database.inTenant<{ id: string; segment_id: string }>(
        companyId,
        `select id, segment_id from archived_messages where company_id = '${companyId}'`,
      )
      const holders = new Map(places.map(({ id, segment_id }) => [id, segment_id]))
      const copies: ArchivedMessage[] = []
      for (const segment of (await segments(companyId)).filter(({ state }) => state === 'live'))
        for (const message of await readSegment(bucket, segment))
          if (holders.get(message.id) === segment.id) copies.push(message)
      return copies
    },
    close: async () => {
      await database.close()
      await cloud.stop()
    },
  }
}

const DAY_MS = 24 * 3600_000

/** A thread of questions and answers that ended so many days ago, a second apart. */
export function oldConversation(
  length: number,
  days: number,
  changes: Partial<MessageRecord> = {},
): MessageRecord[] {
  const end = Date.now() - days * DAY_MS
  return conversation(length, changes).map((message) => ({
    ...message,
    created_at: new Date(end - (length - message.sequence_number) * 1_000).toISOString(),
  }))
}

/** Another answer to the same question. */
export const siblingOf = (message: MessageRecord, content: string): MessageRecord =>
  record({ ...message, id: record().id, content })
