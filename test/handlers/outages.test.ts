import { ListObjectsV2Command, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createDatabase, type PostgresServer, startPostgresServer } from '../harness/postgres-server.ts'
import { record } from '../harness/records.ts'
import { startTcpProxy, type TcpProxy } from '../harness/tcp-proxy.ts'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

const DAY_MS = 24 * 3_600_000

let server: PostgresServer
let proxy: TcpProxy
let turnkeep: Turnkeep
beforeAll(async () => {
  server = await startPostgresServer()
  proxy = await startTcpProxy(await createDatabase(server.url, 'outages'))
  turnkeep = await startTurnkeep({ databaseUrl: proxy.url })
})
afterAll(async () => {
  await turnkeep.close()
  await proxy.close()
  await server.close()
})

const s3 = () =>
  new S3Client({
    region: 'us-east-1',
    endpoint: turnkeep.cloud.fauxqs.address,
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
  })

const spooled = async (): Promise<string[]> => {
  const { Contents = [] } = await s3().send(new ListObjectsV2Command({ Bucket: 'content', Prefix: 'spool/' }))
  return Contents.map(({ Key = '' }) => Key)
}

/** What the event source hands to persist: one message that was sent some days ago. */
const deliver = async (body: unknown, daysAgo: number, receiveCount = 1) => {
  const event = {
    Records: [
      {
        messageId: 'm1',
        receiptHandle: 'none',
        body: JSON.stringify(body),
        attributes: {
          ApproximateReceiveCount: String(receiveCount),
          SentTimestamp: String(Date.now() - daysAgo * DAY_MS),
        },
      },
    ],
  }
  return JSON.parse(String(await turnkeep.cloud.runtimeApi.invoke('persist', JSON.stringify(event))))
}

test('while Postgres is down new questions get 503 with Retry-After, and afterwards an answer', async () => {
  const user = turnkeep.as({ userId: 'early' })
  await proxy.down()
  const refused = await user.call('POST', '/api/chat/stream', { message: 'hello?' })
  expect(refused).toMatchObject({ status: 503, body: { error: { code: 'unavailable' } } })
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  expect((await user.call('GET', '/api/sessions')).status).toBe(503)
  expect((await user.call('GET', '/api/health')).status).toBe(200)
  await proxy.up()
  expect((await user.ask('hello?')).terminal?.type).toBe('done')
})

test('an answer that was running when Postgres went away is finished, and saved when it is back', async () => {
  const user = turnkeep.as({ userId: 'caught' })
  const reply = await user.ask('길게 써 주세요', {
    onEvent: async ({ id }) => {
      if (id === 5) await proxy.down()
      return false
    },
  })
  expect(reply.terminal).toMatchObject({ type: 'done' })
  await proxy.up()
  await turnkeep.drained()
  const rows = await turnkeep.rows(
    `select role, status, content from chat_messages where session_id = '${reply.session?.sessionId}' order by sequence_number`,
  )
  expect(rows).toEqual([
    { role: 'user', status: 'complete', content: '길게 써 주세요' },
    { role: 'assistant', status: 'complete', content: reply.text },
  ])
  expect((await user.ask({ message: 'and?', sessionId: reply.session?.sessionId })).terminal?.type).toBe(
    'done',
  )
})

test('a record that has waited for a week moves to the spool, and comes back by maintain', async () => {
  const old = record({ company_id: 'acme' })
  await proxy.down()
  expect(await deliver({ records: [record()] }, 6)).toEqual({ batchItemFailures: [{ itemIdentifier: 'm1' }] })
  expect(await spooled()).toEqual([])
  expect(await deliver({ records: [old] }, 8)).toEqual({ batchItemFailures: [] })
  expect(await deliver({ records: [old] }, 8)).toEqual({ batchItemFailures: [] })
  expect(await spooled()).toHaveLength(1)
  await proxy.up()
  expect(JSON.parse(String(await turnkeep.cloud.runtimeApi.invoke('maintain', '{}')))).toEqual({
    requeued: 1,
    unreadable: 0,
    rescued: 0,
  })
  expect(await spooled()).toEqual([])
  await turnkeep.drained()
  expect(await turnkeep.rows(`select content from chat_messages where id = '${old.id}'`)).toEqual([
    { content: old.content },
  ])
})

test('a spooled object that cannot be read stays where it is', async () => {
  await s3().send(new PutObjectCommand({ Bucket: 'content', Key: 'spool/broken.json', Body: '[{"body"' }))
  const result = await turnkeep.cloud.runtimeApi.invoke('maintain', '{}')
  expect(JSON.parse(String(result))).toEqual({ requeued: 0, unreadable: 1, rescued: 0 })
  expect(await spooled()).toEqual(['spool/broken.json'])
})

test('a writer that died before its large text was anywhere but in the log is rescued with the text', async () => {
  const user = turnkeep.as({ userId: 'pointed' })
  const reply = await user.ask('길게 써 주세요')
  const id = reply.session?.messageId
  await turnkeep.drained()
  // As such a writer leaves it: closing, pointing to an object that nobody wrote, its answer in no queue.
  await turnkeep.rows(`delete from chat_messages where id = '${id}'`)
  await turnkeep.rows(
    `delete from chat_reply_events where message_id = '${id}' and events @> '[{"type": "done"}]' and jsonb_array_length(events) = 1`,
  )
  await turnkeep.rows(
    `update chat_turns set state = 'closing', lease_until = now() - interval '1 second',
       answer = answer || '{"content": "", "content_key": "content/nowhere"}' where message_id = '${id}'`,
  )
  const again = await user.stream('GET', `/api/chat/stream/${id}`)
  expect(again).toMatchObject({ text: reply.text, terminal: { type: 'done' } })
  await turnkeep.drained()
  const [, answer] = await user.messages(reply.session?.sessionId ?? '')
  expect(answer).toMatchObject({ status: 'complete', content: reply.text })
})
