/** Large answers whose writer died between pointing to the object and writing it: whoever rescues has the log's text. */
import { DeleteObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type DrillCloud, startDrillCloud } from '../drills/drill-cloud.ts'
import { passAll } from '../drills/fault-proxy.ts'
import type { ApiClient } from '../harness/client.ts'
import { ACME } from '../harness/turnkeep.ts'

/** More than a row may hold. */
const LARGE = Array.from({ length: 40 }, (_, index) => `${index} ${'가'.repeat(1_000)} `)

let cloud: DrillCloud
beforeAll(async () => {
  cloud = await startDrillCloud({
    name: 'large',
    scriptedModel: { respond: () => ({ content: LARGE, tokenDelayMs: 0 }) },
  })
})
afterAll(() => cloud.close())
afterEach(() => {
  cloud.proxy.decide = passAll
})

interface Turn {
  sessionId: string
  messageId: string
  text: string
}

async function answered(user: ApiClient): Promise<Turn> {
  const { session, terminal, text } = await user.ask('hello')
  expect(terminal?.type).toBe('done')
  await cloud.drained()
  return { sessionId: session?.sessionId ?? '', messageId: session?.messageId ?? '', text }
}

/** As such a writer leaves it: closing, pointing to an object that nobody wrote, its answer in no queue. */
async function unsaid({ messageId }: Turn): Promise<void> {
  await cloud.rows(`delete from chat_messages where id = '${messageId}'`)
  await cloud.rows(
    `delete from chat_reply_events where message_id = '${messageId}' and events @> '[{"type": "done"}]' and jsonb_array_length(events) = 1`,
  )
  await cloud.rows(
    `update chat_turns set state = 'closing', lease_until = now() - interval '1 second',
       answer = answer || '{"content": "", "content_key": "content/nowhere"}' where message_id = '${messageId}'`,
  )
}

async function whole(user: ApiClient, { sessionId, text }: Turn): Promise<void> {
  await cloud.drained()
  const [, answer] = await user.messages(sessionId)
  expect(answer).toMatchObject({ status: 'complete' })
  expect(answer?.content === text).toBe(true)
}

const watch = ({ messageId }: Turn) => ({
  messageId: 'm1',
  receiptHandle: 'none',
  body: JSON.stringify({ watch: { ...ACME, messageId } }),
  attributes: { ApproximateReceiveCount: '1', SentTimestamp: String(Date.now()) },
})
const invoke = (name: string, event: object) => cloud.cloud.runtimeApi.invoke(name, JSON.stringify(event))

describe('a large answer that was not written to the bucket is saved whole', () => {
  test.each([
    ['its watch', (turn: Turn) => invoke('persist', { Records: [watch(turn)] })],
    ['maintain', () => invoke('maintain', {})],
    [
      'a reader',
      ({ messageId }: Turn, user: ApiClient) => user.stream('GET', `/api/chat/stream/${messageId}`),
    ],
  ])('by %s', async (by, rescue) => {
    const user = cloud.as({ userId: by })
    const turn = await answered(user)
    await unsaid(turn)
    await rescue(turn, user)
    await whole(user, turn)
  })

  test('by maintain into the spool where the queue takes nothing, and from there', async () => {
    const user = cloud.as({ userId: 'spool' })
    const turn = await answered(user)
    await unsaid(turn)
    cloud.proxy.decide = ({ service, operation }) =>
      service === 'queue' && operation === 'SendMessageBatch' ? { status: 500 } : 'pass'
    await invoke('maintain', {})
    cloud.proxy.decide = passAll
    expect(await cloud.rows(`select id from chat_messages where id = '${turn.messageId}'`)).toEqual([])
    await invoke('maintain', {})
    await whole(user, turn)
  })
})

test('a text that is gone from the bucket is told as erased, not as something that cannot be reached', async () => {
  const user = cloud.as({ userId: 'erased' })
  const { sessionId, messageId } = await answered(user)
  const [row] = await cloud.rows<{ content_key: string }>(
    `select content_key from chat_messages where id = '${messageId}'`,
  )
  const s3 = new S3Client({
    region: 'us-east-1',
    endpoint: cloud.cloud.fauxqs.address,
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
  })
  await s3.send(new DeleteObjectCommand({ Bucket: 'content', Key: row?.content_key }))
  expect(await user.call('GET', `/api/sessions/${sessionId}/messages`)).toMatchObject({
    status: 410,
    body: { error: { code: 'erased' } },
  })
})
