/** Erasures of one tenant that run at the same time, beside each other and beside the archiver: none undoes what another does. */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { pseudonymOf } from '../../lambdas/ageing/pseudonym.ts'
import { retain } from '../../lambdas/ageing/retention.ts'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'
import { type JobServices, workOff } from '../../lambdas/rights/jobs.ts'
import type { Bucket } from '../../lambdas/services/bucket.ts'
import { openPostgresHotStore } from '../../lambdas/services/postgres-hot-store.ts'
import { oldConversation, PSEUDONYM_KEY, startTestArchive, type TestArchive } from '../harness/archive.ts'
import { onBothEngines } from '../harness/database.ts'

const ADMIN = { jsonb: { user_id: 'admin', role: 'admin' } }
const PLENTY = () => 900_000
const LOG = { info: () => undefined, warn: () => undefined, error: () => undefined }
/** After so many a job has failed for good. */
const RECEIVES = 5

onBothEngines('an erasure', (engine) => {
  let archive: TestArchive
  let tenant = { companyId: '', platform: 'web' }
  let count = 0
  beforeAll(async () => {
    archive = await startTestArchive(engine, 'at_once')
  })
  afterAll(() => archive.close())
  beforeEach(() => {
    count += 1
    tenant = { companyId: `company ${count}`, platform: 'web' }
  })

  const rows = <Row = Record<string, unknown>>(sql: string) =>
    archive.database.inTenant<Row>(tenant.companyId, sql)
  const saved = async (changes: Partial<MessageRecord> = {}, length = 4) => {
    const messages = oldConversation(length, 40, { company_id: tenant.companyId, ...changes })
    await archive.save(messages)
    return messages
  }
  /** Longer than a part of an upload, and of texts that do not compress. */
  const savedLong = async (changes: Partial<MessageRecord> = {}) => {
    for (let conversation = 0; conversation < 45; conversation += 1) {
      const messages = oldConversation(20, 40, { company_id: tenant.companyId, ...changes })
      await archive.save(
        messages.map((message) => ({ ...message, content: randomBytes(12_000).toString('base64') })),
      )
    }
  }
  const asked = async (userId: string): Promise<string> => {
    const [row] = await archive.database.app.callFor<{ id: string }>(tenant, 'request_erasure', [
      ADMIN,
      { text: userId },
      { jsonb: [userId, pseudonymOf(PSEUDONYM_KEY, tenant, userId)] },
      { uuid: uuidv7() },
    ])
    return row?.id ?? ''
  }
  const services = (bucket: Bucket = archive.bucket) => ({
    database: archive.database.app,
    bucket,
    pseudonymKey: async () => PSEUDONYM_KEY,
    count: () => undefined,
  })
  const work = (jobId: string, { bucket, receives = 1 }: { bucket?: Bucket; receives?: number } = {}) => {
    const hotStore = openPostgresHotStore(archive.database.app, { leaseSeconds: 60, historyMessages: 5 })
    const jobs = { send: async () => undefined, postpone: async () => undefined }
    const message = { body: JSON.stringify({ ...tenant, jobId }), receiptHandle: 'r', receives }
    return workOff({ ...services(bucket), hotStore, jobs } as unknown as JobServices, message, PLENTY, LOG)
  }
  /** A bucket that lets somebody else go before an object is read back. */
  const slowToRead = (ms: number): Bucket => ({
    ...archive.bucket,
    getStream: async (key) => {
      await sleep(ms)
      return archive.bucket.getStream(key)
    },
  })
  const receipts = () =>
    rows<{ user_id: string; state: string; messages: number }>(
      `select user_id, state, (progress #>> '{places,archiveMessages}')::integer as messages from user_jobs order by user_id`,
    )
  const keys = async () => {
    const all: string[] = []
    for await (const page of archive.bucket.list(`archive/${encodeURIComponent(tenant.companyId)}/`))
      all.push(...page.filter((key) => key.endsWith('.gz')))
    return all
  }
  const liveObjects = async () => [
    ...new Set((await archive.segments(tenant.companyId)).map(({ object_key }) => object_key)),
  ]

  test('is not undone by others of its tenant that run meanwhile', async () => {
    for (const user_id of ['erased', 'kept']) await saved({ user_id })
    await archive.run(tenant.companyId)
    const erasure = await asked('erased')
    for (let receives = 1; receives <= RECEIVES; receives += 1) {
      const other = await asked(`unknown ${receives}`)
      await Promise.all([
        work(erasure, { bucket: slowToRead(300), receives }),
        sleep(100).then(() => work(other)),
      ])
    }

    expect((await receipts()).filter(({ state }) => state !== 'done')).toEqual([])
  })

  test('of two users in one object tells each of what was its own', async () => {
    for (const user_id of ['a', 'b', 'kept']) await saved({ user_id })
    await archive.run(tenant.companyId)
    const jobs = [await asked('a'), await asked('b')]

    await Promise.all(jobs.map((job, place) => work(job, { bucket: slowToRead(100 + 300 * place) })))
    for (const job of jobs) await work(job, { receives: 2 })

    expect(await receipts()).toEqual([
      { user_id: 'a', state: 'done', messages: 4 },
      { user_id: 'b', state: 'done', messages: 4 },
    ])
    expect((await archive.copies(tenant.companyId)).length).toBe(4)
    expect(await keys()).toEqual(await liveObjects())
  })

  const onceOnly = engine === 'real' // They write 10 MB each.

  test.runIf(onceOnly)('of somebody who is not known leaves alone what is being archived', async () => {
    await savedLong()
    const job = await asked('unknown')
    const upload: Bucket['upload'] = (key, options) =>
      archive.bucket.upload(key, {
        ...options,
        onBegun: async (uploadId) => {
          await options.onBegun(uploadId)
          await work(job)
        },
      })

    expect(await archive.run(tenant.companyId, { bucket: { ...archive.bucket, upload } })).toMatchObject({
      messages: 900,
      failed: 0,
    })
  })

  test.runIf(onceOnly).for(['before', 'after'])(
    'of a user whose messages are being archived, %s the upload is known, lets the run go on without them',
    async (when) => {
      await savedLong({ user_id: 'erased' })
      await saved({ user_id: 'kept' })
      const job = await asked('erased')
      let isAsked = false
      const upload: Bucket['upload'] = (key, options) =>
        archive.bucket.upload(key, {
          ...options,
          onBegun: async (uploadId) => {
            if (when === 'after') await options.onBegun(uploadId)
            if (!isAsked) await work(job)
            isAsked = true
            if (when === 'before') await options.onBegun(uploadId)
          },
        })

      const first = await archive.run(tenant.companyId, { bucket: { ...archive.bucket, upload } })
      const second = await archive.run(tenant.companyId)

      expect(first).toMatchObject({ failed: 0, isFinished: true })
      expect(first.messages + second.messages).toBe(4)
      expect(await receipts()).toMatchObject([{ state: 'done' }])
      expect(await archive.copies(tenant.companyId)).toHaveLength(4)
      expect(await keys()).toEqual(await liveObjects())
    },
  )

  test('stops within an object when its time is up, and is done in the next run', async () => {
    const conversations: MessageRecord[][] = []
    for (let number = 0; number < 30; number += 1) conversations.push(await saved({}, 1))
    await archive.run(tenant.companyId)
    const sessionId = conversations[0]?.[0]?.session_id
    await rows(`update chat_sessions set deleted_at = now() - interval '31 days' where id = '${sessionId}'`)
    const before = await keys()
    let reads = 0
    const counting: Bucket = {
      ...archive.bucket,
      getRange: (key, range) => {
        reads += 1
        return archive.bucket.getRange(key, range)
      },
    }
    const timeLeft = () => (reads > 0 ? 0 : 1_000)

    expect(await retain(services(counting), tenant, timeLeft)).toMatchObject({ isFinished: false })
    expect(await keys()).toEqual(before)
    expect(await retain(services(counting), tenant, PLENTY)).toMatchObject({ isFinished: true })
    expect(await archive.copies(tenant.companyId)).toHaveLength(29)
    expect((await keys()).filter((key) => before.includes(key))).toEqual([])
  })
})
