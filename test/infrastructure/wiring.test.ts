/**
 * The templates and the bundles, run: the local cloud is made of what the templates say, the functions are the bundles
 * that a synthesis made, with the variables that the templates give them, and what the templates do not allow is
 * refused. First hosted as on a developer's machine, then by AWS's own runtime client.
 */
import { ListObjectsV2Command, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Session } from '../../lambdas/protocol/sessions.ts'
import { resources } from '../../lib/resources.ts'
import { type ApiClient, summary } from '../harness/client.ts'
import { type Deployed, hostings, startDeployed } from '../harness/deployed.ts'
import { withStatements } from '../harness/permissions.ts'
import { record } from '../harness/records.ts'
import { erased, exported } from '../harness/rights.ts'
import { isSelected } from '../harness/run.ts'
import { synthesise } from '../harness/synthesis.ts'
import { type Deployment, readDeployment } from '../harness/template.ts'

/** Seconds, on a machine that is not busy. */
const SYNTHESIS_MS = 180_000

let deployment: Deployment
beforeAll(async () => {
  deployment = readDeployment(await synthesise())
}, SYNTHESIS_MS)

describe('the templates say what lib/resources.ts says', () => {
  test('of the functions', () => {
    const said = Object.entries(deployment.resources.functions).map(
      ([name, { timeoutSeconds, memoryMb, url }]) => [
        name,
        { timeoutSeconds, memoryMb, ...(url && { url }) },
      ],
    )
    const meant = Object.entries(resources.functions).map(([name, { handler, nodeOptions, ...rest }]) => [
      name,
      rest,
    ])
    expect(Object.fromEntries(said)).toEqual(Object.fromEntries(meant))
  })

  test('and have no function besides, but those of CDK that run while a deployment does', () => {
    for (const place of deployment.others) expect(place).toMatch(/^(Custom::|AWSCDK\.|AWS[0-9a-f]{32}$)/)
  })

  test.each(['eventSources', 'schedules', 'routes', 'startup'] as const)('of the %s', (part) => {
    expect(deployment.resources[part]).toEqual(resources[part])
  })

  test('of the queues and buckets, which are not all of them', () => {
    expect(deployment.resources.queues).toMatchObject(resources.queues)
    expect(deployment.resources.buckets).toEqual(expect.arrayContaining(resources.buckets))
  })
})

describe.each(hostings)('the bundles on %s', (hosting) => {
  let deployed: Deployed
  beforeAll(async () => {
    deployed = await startDeployed(deployment, hosting)
  })
  afterAll(() => deployed.close())

  const LONG = '길게 써 주세요'
  const stream = (messageId: string | undefined) => `/api/chat/stream/${messageId}`
  const s3 = () =>
    new S3Client({
      region: 'us-east-1',
      endpoint: deployed.cloud.fauxqs.address,
      credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
    })
  const objects = async (prefix: string): Promise<number> => {
    const list = new ListObjectsV2Command({ Bucket: 'content', Prefix: prefix })
    return (await s3().send(list)).KeyCount ?? 0
  }

  test('answer, remember, list and save a conversation', async () => {
    expect((await fetch(`${deployed.address}/api/health`)).status).toBe(200)
    const user = deployed.as()
    const first = await user.ask('제 이름은 김하늘입니다')
    expect(first.terminal).toMatchObject({
      type: 'done',
      finishReason: 'stop',
      metadata: { model: 'gpt-5-mini' },
    })
    const sessionId = first.session?.sessionId
    const second = await user.ask({ message: '아까 뭐라고 물었지?', sessionId })
    expect(second.text).toContain('김하늘')
    const { body } = await user.call<{ items: Session[] }>('GET', '/api/sessions')
    expect(body.items).toMatchObject([{ sessionId, messageCount: 4 }])
    await deployed.drained()
    const rows = await deployed.rows(
      `select content, saved_at is not null as saved from chat_messages where session_id = '${sessionId}' order by sequence_number`,
    )
    expect(rows).toEqual(
      ['제 이름은 김하늘입니다', first.text, '아까 뭐라고 물었지?', second.text].map((content) => ({
        content,
        saved: true,
      })),
    )
  })

  test('go on for a client that comes back, and stop for one that asks', async () => {
    const user = deployed.as({ userId: 'returning' })
    const before = await user.ask(LONG, { onEvent: ({ id }) => id === 7 })
    const after = await user.stream('GET', stream(before.session?.messageId), undefined, {
      headers: { 'last-event-id': String(before.events.at(-1)?.id) },
    })
    expect([...before.events, ...after.events].map(({ id }) => id)).toEqual(
      [...before.events, ...after.events].map((_, index) => index),
    )
    expect(after.terminal).toMatchObject({ type: 'done', finishReason: 'stop' })
    const link = await fetch(`${deployed.address}${before.session?.resumeUrl}`)
    expect((await link.text()).match(/^id: /gm)).toHaveLength(before.events.length + after.events.length)

    const stopped = await user.ask(`${LONG} (50 ms)`, {
      onEvent: async ({ id }, soFar) => {
        if (id === 8)
          expect((await user.call('DELETE', stream(summary(soFar).session?.messageId))).status).toBe(202)
        return false
      },
    })
    expect(stopped.terminal).toMatchObject({ type: 'done', finishReason: 'stopped' })
  })

  test('answer several at once', async () => {
    const replies = await Promise.all(
      Array.from({ length: 6 }, (_, index) => deployed.as({ userId: `one of ${index}` }).ask('hello')),
    )
    expect(replies.map(({ terminal }) => terminal?.type)).toEqual(Array(6).fill('done'))
  })

  test('keep a large text in the bucket', async () => {
    const message = '가'.repeat(100_000)
    const user = deployed.as({ userId: 'large' })
    const { session, terminal } = await user.ask({ message })
    expect(terminal?.type).toBe('done')
    await deployed.drained()
    expect(await objects('content/acme/web/')).toBeGreaterThan(0)
    expect((await user.messages(session?.sessionId ?? ''))[0]?.content === message).toBe(true)
  })

  test('bring a spooled turn back, on schedule', async () => {
    const lost = record({ content: '남겨진 질문' })
    const spooled = [{ tenant: { companyId: 'acme', platform: 'web' }, body: { records: [lost] } }]
    const Body = JSON.stringify(spooled)
    await s3().send(new PutObjectCommand({ Bucket: 'content', Key: 'spool/lost.json', Body }))
    const [schedule] = deployment.resources.schedules
    const maintained = await deployed.cloud.runtimeApi.invoke(schedule?.function ?? '', '{}')
    expect(JSON.parse(maintained.toString())).toMatchObject({ requeued: 1, unreadable: 0 })
    expect(await objects('spool/')).toBe(0)
    await deployed.drained()
    const rows = await deployed.rows(`select content from chat_messages where id = '${lost.id}'`)
    expect(rows).toEqual([{ content: '남겨진 질문' }])
  })

  test('rotate the login that they use', async () => {
    const { secrets, runtimeApi } = deployed.cloud
    const SecretId = deployment.resources.functions.rotate?.variables.DATABASE_SECRET_ARN ?? ''
    const loginOf = () => JSON.parse(secrets.valueOf(SecretId) ?? '{}').username
    const before = loginOf()
    const ClientRequestToken = secrets.beginRotation(SecretId)
    for (const Step of ['createSecret', 'setSecret', 'testSecret', 'finishSecret'])
      await runtimeApi.invoke('rotate', JSON.stringify({ Step, SecretId, ClientRequestToken }))
    expect(loginOf()).not.toBe(before)
    expect((await deployed.as({ userId: 'after' }).ask('hello')).terminal?.type).toBe('done')
  })

  test('know their clients by what the distribution says, and count those without a token', async () => {
    const answer = await fetch(`${deployed.address}/api/sessions`, {
      headers: { 'x-forwarded-for': '203.0.113.1' },
    })
    expect(answer.status).toBe(401)
    expect(answer.headers.get('x-ratelimit-limit')).not.toBeNull()
    expect(answer.headers.get('x-ratelimit-remaining')).not.toBe(answer.headers.get('x-ratelimit-limit'))
  })

  test('export a user, erase another, and archive what is old', { timeout: 60_000 }, async () => {
    const [user, gone] = ['exported', 'gone'].map((userId) => deployed.as({ userId }))
    await user?.ask('무엇을 보관하나요?')
    await gone?.ask('지워 주세요')
    await deployed.drained()
    const { lines } = await exported(user as ApiClient, 'exported')
    expect(lines.filter(({ kind }) => kind === 'message')).toHaveLength(2)
    expect(await erased(gone as ApiClient, 'gone')).toMatchObject({ status: 'done' })
    expect(await deployed.rows(`select 1 from chat_sessions where user_id = 'gone'`)).toEqual([])
    expect(JSON.parse(String(await deployed.cloud.runtimeApi.invoke('archive', '{}')))).toMatchObject({
      failed: 0,
      isFinished: true,
    })
  })

  test('ask, each of them, for nothing that their roles do not allow', ({ skip }) => {
    skip(isSelected(), 'not all of what they do was done')
    expect(new Set(deployed.asked.map((call) => call.function))).toEqual(
      new Set(Object.keys(resources.functions)),
    )
    expect(deployed.refused).toEqual([])
  })

  test('are refused what a role does not allow', async () => {
    const { policies } = deployment
    const own = policies.roles.api ?? []
    const lacking = own.filter(({ actions }) => !actions.includes('rds-data:ExecuteStatement'))
    deployed.enforce(withStatements(policies, 'api', lacking))
    try {
      expect((await deployed.as().call('GET', '/api/sessions')).status).toBe(500)
      // Once for the limits, without which it goes on, and once for what was asked.
      const call = { function: 'api', action: 'rds-data:ExecuteStatement' }
      expect(deployed.refused).toMatchObject([{ call }, { call }])
    } finally {
      deployed.enforce(policies)
    }
  })

  test('write metrics as lines of their own, which CloudWatch reads', () => {
    const lines = deployed.output().split('\n')
    const metrics = lines.filter((line) => line.includes('CloudWatchMetrics'))
    expect(metrics.length).toBeGreaterThan(0)
    for (const line of metrics)
      expect(JSON.parse(line)).toMatchObject({
        _aws: { CloudWatchMetrics: [{ Namespace: 'Turnkeep/dev' }] },
      })
  })
})
