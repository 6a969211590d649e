/** `npm run ops -- retention`: says what is due, and changes nothing. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runOps } from '../harness/ops.ts'
import { bucketOf, tracesOf } from '../harness/traces.ts'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

/** More than a row holds. */
const LARGE = '큰 글 😀 '.repeat(8_000)

let turnkeep: Turnkeep
beforeAll(async () => {
  turnkeep = await startTurnkeep({ name: 'retention-command' })
})
afterAll(() => turnkeep.close())

const retention = (...args: string[]) => {
  const { functionEnvironment } = turnkeep.cloud
  const told = [
    'DATABASE_CLUSTER_ARN',
    'DATABASE_SECRET_ARN',
    'DATABASE_NAME',
    'TURNS_QUEUE_URL',
    'AWS_ENDPOINT_URL_RDS_DATA',
  ]
  const variables = Object.fromEntries(told.map((name) => [name, functionEnvironment[name]]))
  return runOps(['retention', ...args], variables)
}

test('says nothing is due where nothing is', async () => {
  await turnkeep.as().ask('hello')
  await turnkeep.drained()
  expect(await retention('--dry-run')).toMatchObject({ code: 0, out: 'Nothing is due.\n' })
})

test('says of each tenant what would go, and lets all of it stay', async () => {
  const { session } = await turnkeep.as().ask(LARGE)
  await turnkeep.drained()
  const old = `id = '${session?.sessionId}'`
  await turnkeep.rows(`update chat_sessions set last_active_at = now() - interval '400 days' where ${old}`)
  const admin = turnkeep.as({ userId: 'admin', role: 'admin' })
  await admin.call('PATCH', '/api/tenant', { retentionDays: 300 })
  const before = await turnkeep.rows('select * from chat_messages order by id')
  const { code, out } = await retention()
  expect(code).toBe(0)
  expect(out).toMatch(/tenant +deleted sessions +sessions too old/)
  expect(out).toMatch(/acme\/web +0 +1 /)
  const machine = await retention('--json')
  expect(JSON.parse(machine.out)).toEqual([
    {
      companyId: 'acme',
      platform: 'web',
      // The user goes with the session.
      due: expect.objectContaining({ overdueSessions: 1, usersToHide: 0 }),
    },
  ])
  expect(await turnkeep.rows('select * from chat_messages order by id')).toEqual(before)
  // What it told of is what the run then does.
  expect(JSON.parse(String(await turnkeep.cloud.runtimeApi.invoke('archive', '{}')))).toMatchObject({
    isFinished: true,
  })
  expect(await turnkeep.rows(`select 1 from chat_sessions where ${old}`)).toEqual([])
  expect(await tracesOf(turnkeep, bucketOf(turnkeep), '큰 글')).toEqual([])
})

test('called wrongly it ends with 2', async () => {
  expect(await retention('--everything')).toMatchObject({ code: 2 })
})
