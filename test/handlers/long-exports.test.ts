/** Exports that take several runs, lose their upload, or have their user erased meanwhile. */
import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { createGunzip } from 'node:zlib'
import { AbortMultipartUploadCommand, type S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { resources } from '../../lib/resources.ts'
import { exportEnded } from '../harness/rights.ts'
import { bucketOf } from '../harness/traces.ts'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

/** The long form is that of the issue, in less memory than its text has. */
const LONG = process.env.DRILLS === 'long'
const MESSAGES = LONG ? 1_000_000 : 2_000
const SESSIONS = 20
/** Pieces of 32 characters that a text is made of: in the short form the fewer messages are the larger. */
const PIECES = LONG ? 10 : 350
const ENDED_WITHIN_MS = 1_200_000
const HEAP_MB = 192
/** Two runs in a row take longer, so that what stands between them is seen. */
const LOOK_EACH_MS = LONG ? 500 : 20

let turnkeep: Turnkeep
let s3: S3Client
beforeAll(async () => {
  // A run has a second: what it keeps back for its end is a minute.
  const jobs = { ...resources.functions.jobs, handler: 'lambdas/handlers/jobs.ts', timeoutSeconds: 61 }
  turnkeep = await startTurnkeep({
    name: 'long-exports',
    resources: { ...resources, functions: { ...resources.functions, jobs } },
    environment: LONG ? { NODE_OPTIONS: `--max-old-space-size=${HEAP_MB}` } : {},
  })
  s3 = bucketOf(turnkeep)
  await turnkeep.rows(`insert into tenants (company_id, platform) values ('acme', 'web')`)
})
afterAll(() => turnkeep.close())

/** Conversations with texts that gzip can do little about, made where they are kept. */
async function conversations(userId: string, messages: number): Promise<void> {
  const each = messages / SESSIONS
  await turnkeep.rows(
    `insert into chat_sessions (id, company_id, platform, user_id, message_count)
     select gen_random_uuid(), 'acme', 'web', '${userId}', ${each} from generate_series(1, ${SESSIONS})`,
  )
  await turnkeep.rows(
    `insert into chat_messages (id, company_id, platform, session_id, role, content, status, sequence_number)
     select gen_random_uuid(), 'acme', 'web', s.id, case n % 2 when 1 then 'user' else 'assistant' end,
       n || ' 한글 😀 ' || (select string_agg(md5(n || ' ' || k || random()), '') from generate_series(1, ${PIECES}) k), 'complete', n
     from chat_sessions s cross join generate_series(1, ${each}) n where s.user_id = '${userId}'`,
  )
}

/** How many lines of each kind there are, and that each message is there once; the file is not held in memory. */
async function counted(url: string): Promise<{ kinds: Record<string, number>; distinct: number }> {
  const kinds: Record<string, number> = {}
  const seen = new Set<string>()
  const { body } = await fetch(url)
  const lines = createInterface({ input: Readable.fromWeb(body as never).pipe(createGunzip()) })
  for await (const line of lines) {
    const { kind, messageId } = JSON.parse(line)
    kinds[kind] = (kinds[kind] ?? 0) + 1
    if (kind === 'message') seen.add(messageId)
  }
  return { kinds, distinct: seen.size }
}

const progressOf = async (id: string) => {
  const [row] = await turnkeep.rows<{ progress: Record<string, never>; attempt: number }>(
    `select progress, attempt from user_jobs where id = '${id}'`,
  )
  return row
}

test('one that takes several parts and runs is whole', {
  timeout: ENDED_WITHIN_MS,
}, async () => {
  await conversations('many', MESSAGES)
  const user = turnkeep.as({ userId: 'many' })
  const { body } = await user.call<{ exportId: string }>('POST', '/api/users/many/export')
  const seen = new Set<number>()
  let hasEnded = false
  const watch = async (): Promise<void> => {
    while (!hasEnded) {
      const { body: now } = await user.call<{ progress: { messages: number } }>(
        'GET',
        `/api/exports/${body.exportId}`,
      )
      seen.add(now.progress.messages)
      await sleep(LOOK_EACH_MS)
    }
  }
  const watching = watch()
  const answer = await exportEnded(user, body.exportId, ENDED_WITHIN_MS)
  hasEnded = true
  await watching
  expect(answer).toMatchObject({ status: 'ready', progress: { sessions: SESSIONS, messages: MESSAGES } })
  expect(await counted(answer.download?.url ?? '')).toEqual({
    kinds: { session: SESSIONS, message: MESSAGES, audit: 1 },
    distinct: MESSAGES,
  })
  // It was in several runs, and its progress was seen to grow.
  expect((await progressOf(body.exportId))?.attempt).toBeGreaterThan(1)
  expect(seen.size).toBeGreaterThan(2)
})

test('one whose upload is gone begins anew, and ends', { timeout: ENDED_WITHIN_MS }, async () => {
  await conversations('lost', 500)
  const user = turnkeep.as({ userId: 'lost' })
  const { body } = await user.call<{ exportId: string }>('POST', '/api/users/lost/export')
  let uploadId: string | undefined
  await expect
    .poll(async () => (uploadId = (await progressOf(body.exportId))?.progress.uploadId))
    .toEqual(expect.any(String))
  await s3.send(
    new AbortMultipartUploadCommand({
      Bucket: 'content',
      Key: `exports/acme/web/${body.exportId}.jsonl.gz`,
      UploadId: uploadId,
    }),
  )
  const answer = await exportEnded(user, body.exportId, ENDED_WITHIN_MS)
  expect(await counted(answer.download?.url ?? '')).toMatchObject({ distinct: 500 })
})

test('one whose user is erased meanwhile leaves nothing', { timeout: ENDED_WITHIN_MS }, async () => {
  await conversations('gone', 500)
  const user = turnkeep.as({ userId: 'gone' })
  const { body } = await user.call<{ exportId: string }>('POST', '/api/users/gone/export')
  await expect.poll(async () => (await progressOf(body.exportId))?.attempt).toBeGreaterThan(0)
  const { body: erasure } = await user.call<{ erasureId: string }>('DELETE', '/api/users/gone')
  await expect
    .poll(async () => (await user.call('GET', `/api/erasures/${erasure.erasureId}`)).body.status, {
      timeout: 60_000,
    })
    .toBe('done')
  expect((await user.call('GET', `/api/exports/${body.exportId}`)).status).toBe(404)
  await expect
    .poll(() => turnkeep.cloud.fauxqs.inspectQueue('jobs')?.messages.inflight.length, { timeout: 60_000 })
    .toBe(0)
  expect(
    await turnkeep.rows(
      `select 1 from chat_messages m join chat_sessions s on s.id = m.session_id where s.user_id = 'gone'`,
    ),
  ).toEqual([])
})
