/** A tenant whose names no key of S3 can hold: everything of it works all the same. */
import { DeleteObjectCommand } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runOps } from '../harness/ops.ts'
import { erased, erasureEnded, exported } from '../harness/rights.ts'
import { bucketOf, tracesOf } from '../harness/traces.ts'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

const MARKER = 'jabberwocky'
const LARGE = `${MARKER} ${'큰 글 😀 '.repeat(8_000)}`
const TENANT = { companyId: '회'.repeat(128), platform: '웹/'.repeat(64) }

let turnkeep: Turnkeep
beforeAll(async () => {
  turnkeep = await startTurnkeep({ name: 'long-names' })
})
afterAll(() => turnkeep.close())

const rows = (sql: string) => turnkeep.rows(sql, TENANT)
const runArchiver = async () => {
  await bucketOf(turnkeep).send(new DeleteObjectCommand({ Bucket: 'content', Key: 'archive/next-run.json' }))
  return JSON.parse(String(await turnkeep.cloud.runtimeApi.invoke('archive', '{}')))
}

test('its large texts are kept, archived, exported, restored and erased, and erased again after a restore', async () => {
  const user = turnkeep.as({ ...TENANT, userId: 'u1' })
  const { session, terminal, error } = await user.ask(LARGE)
  expect([terminal?.type, error]).toEqual(['done', undefined])
  await turnkeep.drained()
  const sessionId = session?.sessionId ?? ''
  const before = await user.messages(sessionId)
  expect(before[0]?.content).toBe(LARGE)

  await rows(`update chat_messages set created_at = created_at - interval '90 days'`)
  await rows(
    `update chat_sessions set last_active_at = now() - interval '90 days', created_at = created_at - interval '91 days'`,
  )
  await rows(`update chat_turns set finished_at = now() - interval '2 days'`)
  expect(await runArchiver()).toMatchObject({ messages: 2, failed: 0, isFinished: true })
  const read = (await user.messages(sessionId)).map(({ messageId, content }) => [messageId, content])
  expect(read).toEqual(before.map(({ messageId, content }) => [messageId, content]))

  const { lines } = await exported(user, 'u1')
  expect(lines.filter(({ kind }) => kind === 'message').map(({ content }) => content)).toContain(LARGE)

  const named = [TENANT.companyId, TENANT.platform].map(encodeURIComponent).join('/')
  const restored = await runOps(
    ['restore', '--from', 'archive/', '--tenant', named],
    turnkeep.cloud.functionEnvironment,
  )
  expect(restored).toMatchObject({ code: 0, out: expect.stringContaining('1 object: 2 put back') })

  const receipt = await erased(user, 'u1')
  expect(receipt.status).toBe('done')
  expect(await tracesOf(turnkeep, bucketOf(turnkeep), MARKER)).toEqual([])

  for (const table of ['user_jobs', 'erasures', 'erased_sessions']) await rows(`delete from ${table}`)
  await runArchiver()
  const admin = turnkeep.as({ ...TENANT, userId: 'admin', role: 'admin' })
  expect(await erasureEnded(admin, receipt.erasureId)).toMatchObject({ status: 'done' })
}, 60_000)
