import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { SendMessageBatchCommand, SendMessageCommand, SQSClient } from '@aws-sdk/client-sqs'
import type { SQSEvent } from 'aws-lambda'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type EventSourceMapping, startEventSourceMapping } from '../../local/cloud/event-source-mapping.ts'
import { type QueueAndBucket, startQueueAndBucket } from '../../local/cloud/queue-and-bucket.ts'
import { type RuntimeApi, startRuntimeApi } from '../../local/cloud/runtime-api.ts'
import { createRuntimeClient, type RuntimeClient } from '../../local/functions/runtime-client.ts'

const MAX_RECEIVES = 2

/** The queue of the test: `jobs`, or `brisk`, whose messages come back after a second. */
let name: 'jobs' | 'brisk'

let queue: QueueAndBucket
let api: RuntimeApi
let sqs: SQSClient
let consumer: RuntimeClient
let mapping: EventSourceMapping | undefined
const closers: (() => unknown)[] = []

beforeEach(async () => {
  name = 'jobs'
  const deadLetters = { queue: 'dead', maxReceiveCount: MAX_RECEIVES }
  queue = await startQueueAndBucket({
    buckets: [],
    queues: {
      dead: { visibilitySeconds: 30, retentionSeconds: 3600 },
      jobs: { visibilitySeconds: 30, retentionSeconds: 3600, deadLetters },
      brisk: { visibilitySeconds: 1, retentionSeconds: 3600, deadLetters },
    },
  })
  api = await startRuntimeApi({ work: { timeoutSeconds: 20, arn: 'arn:work' } })
  sqs = clientOf(queue.address)
  consumer = createRuntimeClient(api.addresses.work ?? '')
})

afterEach(async () => {
  const stopped = mapping?.stop()
  consumer.close()
  await api.close()
  await stopped
  mapping = undefined
  sqs.destroy()
  for (const close of closers.splice(0)) await close()
  await queue.stop()
})

function clientOf(endpoint: string): SQSClient {
  return new SQSClient({
    region: 'us-east-1',
    endpoint,
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
    maxAttempts: 1,
  })
}

function start(
  options: { batchSize?: number; windowSeconds?: number; maxConcurrency?: number; sqs?: SQSClient } = {},
) {
  mapping = startEventSourceMapping({
    sqs,
    queueUrl: queue.queueUrl(name),
    queueArn: queue.queueArn(name),
    region: 'us-east-1',
    runtimeApi: api,
    functionName: 'work',
    batchSize: 1000,
    windowSeconds: 0.1,
    reportBatchItemFailures: true,
    maxConcurrency: 1,
    ...options,
  })
}

async function send(...bodies: string[]): Promise<void> {
  for (let at = 0; at < bodies.length; at += 10) {
    const Entries = bodies
      .slice(at, at + 10)
      .map((MessageBody, index) => ({ Id: String(index), MessageBody }))
    await sqs.send(new SendMessageBatchCommand({ QueueUrl: queue.queueUrl(name), Entries }))
  }
}

type Batch = { event: SQSEvent; bodies: string[]; requestId: string }

/** The consumer's side by hand: one invocation, to be answered. */
async function nextBatch(): Promise<Batch> {
  const { event, requestId } = await consumer.next()
  const { Records } = event as SQSEvent
  return { event: event as SQSEvent, bodies: Records.map((record) => record.body).sort(), requestId }
}

const answer = (batch: Batch, response: unknown) =>
  consumer.respond(batch.requestId, JSON.stringify(response))

function idOf({ event }: Batch, body: string): string {
  return event.Records.find((record) => record.body === body)?.messageId ?? ''
}

function left(of: string = name): number {
  const messages = queue.inspectQueue(of)?.messages
  return messages ? messages.ready.length + messages.inflight.length + messages.delayed.length : 0
}

test('the queue listens on 127.0.0.1 and on no other address', async () => {
  const socket = connect(Number(new URL(queue.address).port), '127.0.0.2') // answered by what listens everywhere
  await expect(once(socket, 'connect')).rejects.toThrow()
})

test('messages that were sent together arrive as one batch and are deleted when it succeeded', async () => {
  const bodies = Array.from({ length: 35 }, (_, index) => String(index + 100))
  await send(...bodies)
  start()
  const batch = await nextBatch()
  expect(batch.bodies).toEqual(bodies)
  await answer(batch, { batchItemFailures: [] })
  await expect.poll(() => left()).toBe(0)
})

test('a record looks like the one that Lambda gives', async () => {
  await sqs.send(
    new SendMessageCommand({
      QueueUrl: queue.queueUrl(name),
      MessageBody: '배송',
      MessageAttributes: {
        kind: { DataType: 'String', StringValue: 'turn' },
        bytes: { DataType: 'Binary', BinaryValue: Buffer.from('ab') },
      },
    }),
  )
  start()
  const batch = await nextBatch()
  expect(batch.event.Records).toEqual([
    {
      messageId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      receiptHandle: expect.any(String),
      body: '배송',
      attributes: {
        ApproximateReceiveCount: '1',
        SentTimestamp: expect.stringMatching(/^\d{13}$/),
        ApproximateFirstReceiveTimestamp: expect.stringMatching(/^\d{13}$/),
        SenderId: expect.any(String),
      },
      messageAttributes: {
        kind: { stringValue: 'turn', stringListValues: [], binaryListValues: [], dataType: 'String' },
        bytes: { binaryValue: 'YWI=', stringListValues: [], binaryListValues: [], dataType: 'Binary' },
      },
      md5OfBody: expect.stringMatching(/^[0-9a-f]{32}$/),
      md5OfMessageAttributes: expect.any(String),
      eventSource: 'aws:sqs',
      eventSourceARN: 'arn:aws:sqs:us-east-1:000000000000:jobs',
      awsRegion: 'us-east-1',
    },
  ])
  await answer(batch, null)
})

test('a batch is never larger than its size', async () => {
  await send(...Array.from({ length: 12 }, (_, index) => String(index)))
  start({ batchSize: 5 })
  const sizes: number[] = []
  for (let round = 0; round < 3; round += 1) {
    const batch = await nextBatch()
    sizes.push(batch.bodies.length)
    await answer(batch, null)
  }
  expect(sizes).toEqual([5, 5, 2])
})

test('a batch is never larger than 6 MB, and what did not fit comes next', async () => {
  for (let index = 0; index < 7; index += 1) await send(`${index}${'x'.repeat(1_000_000)}`)
  start({ batchSize: 10 })
  const first = await nextBatch()
  await answer(first, null)
  const second = await nextBatch()
  await answer(second, null)
  expect([first.bodies.length, second.bodies.length]).toEqual([6, 1])
  await expect.poll(() => left()).toBe(0)
})

test('what arrives within the window belongs to the batch', async () => {
  start({ windowSeconds: 2, batchSize: 2 })
  const batch = nextBatchAnswered()
  await send('first')
  await expect.poll(() => queue.inspectQueue(name)?.messages.inflight.length).toBe(1)
  await send('second')
  expect((await batch).bodies).toEqual(['first', 'second'])
})

async function nextBatchAnswered(response: unknown = null): Promise<Batch> {
  const batch = await nextBatch()
  await answer(batch, response)
  return batch
}

test('a batch item that fails comes back alone', async () => {
  name = 'brisk'
  await send('good', 'bad')
  start()
  const batch = await nextBatch()
  await answer(batch, { batchItemFailures: [{ itemIdentifier: idOf(batch, 'bad') }] })
  const again = await nextBatchAnswered()
  expect(again.bodies).toEqual(['bad'])
  expect(again.event.Records[0]?.attributes.ApproximateReceiveCount).toBe('2')
  await expect.poll(() => left()).toBe(0)
})

test.each([
  ['an unknown id', { batchItemFailures: [{ itemIdentifier: 'unknown' }] }],
  ['an empty id', { batchItemFailures: [{ itemIdentifier: '' }] }],
  ['an item without an id', { batchItemFailures: [{ id: 'x' }] }],
  ['no list', { batchItemFailures: 'all' }],
])('with %s as a failure the whole batch comes back', async (_name, response) => {
  name = 'brisk'
  await send('one', 'two')
  start()
  await nextBatchAnswered(response)
  expect((await nextBatchAnswered()).bodies).toEqual(['one', 'two'])
})

test('a function that throws gets the whole batch again', async () => {
  name = 'brisk'
  await send('one', 'two')
  start()
  const { requestId } = await nextBatch()
  await consumer.fail(requestId, new Error('as told'))
  expect((await nextBatchAnswered()).bodies).toEqual(['one', 'two'])
})

test('a message that failed too often is a dead letter', async () => {
  name = 'brisk'
  await send('poison')
  start()
  for (let receive = 0; receive < MAX_RECEIVES; receive += 1) {
    const batch = await nextBatch()
    await answer(batch, { batchItemFailures: [{ itemIdentifier: idOf(batch, 'poison') }] })
  }
  const polling = consumer.next().catch(() => undefined)
  await expect.poll(() => left('dead'), { timeout: 4_000 }).toBe(1)
  expect(left()).toBe(0)
  consumer.close()
  await polling
})

test('two batches run at the same time, a third waits', async () => {
  start({ maxConcurrency: 2, batchSize: 1, windowSeconds: 0 })
  const first = nextBatch()
  const second = nextBatch()
  const polled = new Set<string>()
  const third = nextBatch().then((batch) => polled.add(batch.bodies[0] ?? '') && batch)
  await send('1', '2', '3')
  const running = await Promise.all([first, second])
  await expect.poll(() => queue.inspectQueue(name)?.messages.inflight.length).toBe(2)
  expect(polled.size).toBe(0)
  await Promise.all(running.map((batch) => answer(batch, null)))
  await answer(await third, null)
})

test('while nobody polls for the function no message is received', async () => {
  await send('patient')
  start()
  const polling = consumer.next() // the first poll is what opens the mapping
  const { event, requestId } = await polling
  expect((event as SQSEvent).Records[0]?.attributes.ApproximateReceiveCount).toBe('1')
  await consumer.respond(requestId, 'null')
})

test('what a dead process was working on comes back', async () => {
  name = 'brisk'
  await send('kept')
  start()
  await nextBatch()
  api.environmentEnded(['work'])
  expect((await nextBatchAnswered()).bodies).toEqual(['kept'])
})

test('it goes on when the queue was gone for a moment', async () => {
  const port = await unusedPort()
  const other = clientOf(`http://127.0.0.1:${port}`)
  closers.push(() => other.destroy())
  await send('kept')
  start({ sqs: other })
  const batch = nextBatchAnswered()
  await proxyTo(queue.address, port)
  expect((await batch).bodies).toEqual(['kept'])
})

async function unusedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await closed(server)
  return port
}

/** Stands where the queue was expected, and passes everything on. */
async function proxyTo(address: string, port: number): Promise<void> {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const { host: _host, connection: _connection, 'content-length': _length, ...headers } = request.headers
    const answered = await fetch(address + request.url, {
      method: request.method ?? 'POST',
      headers: headers as Record<string, string>,
      body: Buffer.concat(chunks),
    })
    response.writeHead(answered.status, { 'content-type': 'application/x-amz-json-1.0' })
    response.end(await answered.text())
  }).listen(port, '127.0.0.1')
  await once(server, 'listening')
  closers.push(() => closed(server))
}

function closed(server: Server): Promise<void> {
  server.closeAllConnections()
  return new Promise((resolve) => server.close(() => resolve()))
}

test('after a stop nothing is received, and what runs is still finished', async () => {
  await send('running')
  start()
  const batch = await nextBatch()
  const stopped = mapping?.stop()
  await send('too late')
  await answer(batch, null)
  await stopped
  expect(queue.inspectQueue(name)?.messages).toMatchObject({
    ready: [{ body: 'too late', approximateReceiveCount: 0 }],
    inflight: [],
  })
})

test('a stop in the middle of a long poll keeps no message from the next consumer', async () => {
  start()
  const polling = consumer.next().catch(() => undefined)
  await api.polled('work', AbortSignal.timeout(5_000))
  await mapping?.stop()
  await send('for the next one')
  expect(queue.inspectQueue(name)?.messages.ready).toHaveLength(1)
  consumer.close()
  await polling
})
