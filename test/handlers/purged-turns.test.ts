/** What was deleted stays away where nothing was saved since: its turn goes with it. */
import { DeleteObjectCommand } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { exported } from '../harness/rights.ts'
import { bucketOf } from '../harness/traces.ts'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

let turnkeep: Turnkeep
beforeAll(async () => {
  turnkeep = await startTurnkeep({
    name: 'purged-turns',
    scriptedModel: { tokenDelayMs: 0, respond: () => ({ content: ['the answer jabberwocky'] }) },
  })
})
afterAll(() => turnkeep.close())

test.each([
  { of: 'the question', deleted: ['userMessageId'], left: ['assistant'] },
  { of: 'the answer', deleted: ['messageId'], left: ['user'] },
  { of: 'both', deleted: ['userMessageId', 'messageId'], left: [] },
] as const)(
  '$of of the last turn of a tenant that then sleeps for a month',
  async ({ of, deleted, left }) => {
    const tenant = { companyId: of, platform: 'web' }
    const user = turnkeep.as({ ...tenant, userId: 'u1' })
    const admin = turnkeep.as({ ...tenant, userId: 'admin', role: 'admin' })
    await admin.call('PATCH', '/api/tenant', { archiveAfterDays: 90 })
    const { session } = await user.ask('the question bandersnatch')
    const sessionId = session?.sessionId ?? ''
    await turnkeep.drained()
    await user.call('PATCH', `/api/sessions/${sessionId}`, { title: 'a title' })
    for (const id of deleted) await user.call('DELETE', `/api/messages/${session?.[id]}`)
    const ago = `- interval '31 days'`
    for (const sql of [
      `update chat_messages set created_at = created_at ${ago}, deleted_at = deleted_at ${ago}`,
      `update chat_turns set opened_at = opened_at ${ago}, finished_at = finished_at ${ago}`,
      `update chat_sessions set created_at = created_at ${ago}, last_active_at = last_active_at ${ago}`,
    ])
      await turnkeep.rows(sql, tenant)
    const s3 = bucketOf(turnkeep)
    await s3.send(new DeleteObjectCommand({ Bucket: 'content', Key: 'archive/next-run.json' }))
    await turnkeep.cloud.runtimeApi.invoke('archive', '{}')
    expect((await user.messages(sessionId)).map(({ role }) => role)).toEqual(left)
    const { lines } = await exported(user, 'u1')
    expect(lines.flatMap(({ kind, role }) => (kind === 'message' ? [role] : []))).toEqual(left)
    const rows = JSON.stringify([
      await turnkeep.rows('select to_jsonb(t) from chat_turns t', tenant),
      await turnkeep.rows('select to_jsonb(t) from chat_reply_events t', tenant),
      await turnkeep.rows('select to_jsonb(t) from chat_messages t', tenant),
    ])
    expect([rows.includes('bandersnatch'), rows.includes('jabberwocky')]).toEqual([
      left[0] === 'user',
      left[0] === 'assistant',
    ])
  },
)
