import type { ChildProcess } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import {
  ChangeMessageVisibilityCommand,
  ReceiveMessageCommand,
  SendMessageCommand,
  SQSClient,
} from '@aws-sdk/client-sqs'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { resources as allResources, type Resources } from '../../lib/resources.ts'
import { type Cloud, startCloud } from '../../local/cloud/cloud.ts'
import { type QueueAndBucket, startQueueAndBucket } from '../../local/cloud/queue-and-bucket.ts'
import { forkFunctions, kill, told } from '../fixtures/functions-process.ts'
import { migratedDump } from '../harness/migrated.ts'

/** The product's queues, buckets and feeding, with fixtures in place of its handlers. */
const resources: Resources = {
  ...allResources,
  schedules: [],
  functions: { persist: { handler: '', timeoutSeconds: 20 }, migrate: { handler: '', timeoutSeconds: 20 } },
  eventSources: allResources.eventSources.map((source) => ({ ...source, windowSeconds: 0 })),
}

let directory: string
/** For the tests that change nothing of it that another one looks at. */
let shared: Cloud
const closers: (() => Promise<unknown>)[] = []

beforeAll(async () => {
  shared = await startCloud({ resources, beginWith: await migratedDump() })
})

afterAll(() => shared.close())

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'turnkeep-cloud-'))
})

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
  await rm(directory, { recursive: true })
})

async function start(): Promise<Cloud> {
  const cloud = await startCloud({ resources, beginWith: await migratedDump() })
  closers.push(cloud.close)
  return cloud
}

async function startFunctions(cloud: Cloud, files: Record<string, string>): Promise<ChildProcess> {
  const child = forkFunctions(cloud.runtimeApi.addresses, files, true)
  closers.push(() => kill(child))
  await told(child, 'polling')
  return child
}

async function startQueue(): Promise<QueueAndBucket> {
  const queue = await startQueueAndBucket(allResources, directory)
  closers.push(queue.stop)
  return queue
}

const credentials = { accessKeyId: 'a', secretAccessKey: 'b' }
const sqsOf = (endpoint: string) => new SQSClient({ region: 'us-east-1', endpoint, credentials })
/** As the handlers make it: no path style asked for. */
const s3Of = (endpoint: string) => new S3Client({ region: 'us-east-1', endpoint, credentials })

async function put(endpoint: string, key: string, body: string): Promise<void> {
  await s3Of(endpoint).send(new PutObjectCommand({ Bucket: 'content', Key: key, Body: body }))
}

async function get(endpoint: string, key: string): Promise<string | undefined> {
  const { Body } = await s3Of(endpoint).send(new GetObjectCommand({ Bucket: 'content', Key: key }))
  return Body?.transformToString()
}

test('the functions are told everything that the template would tell them', () => {
  const { functionEnvironment } = shared
  expect(functionEnvironment).toMatchObject({
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: 'local',
    AWS_SECRET_ACCESS_KEY: 'local',
    AWS_CONFIG_FILE: '/dev/null',
    AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_ENDPOINT_URL_SQS: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
    AWS_ENDPOINT_URL_S3: functionEnvironment.AWS_ENDPOINT_URL_SQS,
    AWS_ENDPOINT_URL_RDS_DATA: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
    AWS_ENDPOINT_URL_SECRETS_MANAGER: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
    TURNS_QUEUE_URL: `${functionEnvironment.AWS_ENDPOINT_URL_SQS}/000000000000/turns`,
    CONTENT_BUCKET: 'content',
    DATABASE_CLUSTER_ARN: 'arn:aws:rds:us-east-1:000000000000:cluster:turnkeep',
    DATABASE_SECRET_ARN: 'arn:aws:secretsmanager:us-east-1:000000000000:secret:turnkeep-app',
    DATABASE_OWNER_SECRET_ARN: 'arn:aws:secretsmanager:us-east-1:000000000000:secret:turnkeep-owner',
    DATABASE_NAME: 'turnkeep',
    AUTH_ISSUER: 'http://turnkeep.local',
    AUTH_AUDIENCE: 'turnkeep',
    AUTH_JWKS_URL: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/\.well-known\/jwks\.json$/),
    OPENAI_BASE_URL: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/v1$/),
    MODEL_KEY_SECRET_ARN: 'arn:aws:secretsmanager:us-east-1:000000000000:secret:turnkeep-model-key',
    CHAT_MODEL: 'scripted-chat',
    EMBEDDING_MODEL: 'scripted-embedding',
    TURNKEEP_FUNCTIONS: expect.stringContaining('"runtimeApi":"127.0.0.1:'),
  })
})

test('the front door opens after the migration, and queued turns are fed to persist from then on', async () => {
  const cloud = shared
  await sqsOf(cloud.fauxqs.address).send(
    new SendMessageCommand({ QueueUrl: cloud.fauxqs.queueUrl('turns'), MessageBody: '[]' }),
  )
  expect((await fetch(`${cloud.address}/somewhere`)).status).toBe(503)
  await startFunctions(cloud, { persist: 'buffered', migrate: 'buffered' })
  await cloud.open()
  expect((await fetch(`${cloud.address}/somewhere`)).status).toBe(404)
  const left = () => Object.values(cloud.fauxqs.inspectQueue('turns')?.messages ?? {}).flat().length
  await expect.poll(left, { timeout: 5_000 }).toBe(0)
})

test('a migration that fails keeps the front door closed', async () => {
  const cloud = await start()
  await startFunctions(cloud, { persist: 'buffered', migrate: 'failing' })
  await expect(cloud.open()).rejects.toMatchObject({ failure: 'function_error' })
  expect((await fetch(`${cloud.address}/somewhere`)).status).toBe(503)
})

test('closing ends what is still running', async () => {
  const cloud = await startCloud({ resources, beginWith: await migratedDump() })
  await startFunctions(cloud, { persist: 'buffered', migrate: 'buffered' })
  await cloud.runtimeApi.polled('persist', AbortSignal.timeout(5_000))
  const running = cloud.runtimeApi.invoke('persist', '{"action":"hang"}').catch((error) => error)
  await cloud.close()
  expect(await running).toMatchObject({ failure: 'environment_ended' })
  await expect(fetch(cloud.address)).rejects.toThrow()
})

test('a start on a taken port fails at once', async () => {
  const port = Number(new URL(shared.address).port)
  await expect(startCloud({ resources, port })).rejects.toMatchObject({ code: 'EADDRINUSE' })
})

test('an object is written and read with nothing but the endpoint set', async () => {
  const { address } = await startQueue()
  await put(address, 'acme/web/한글 이름.txt', '안녕')
  expect(await get(address, 'acme/web/한글 이름.txt')).toBe('안녕')
})

test('messages, waiting and in flight, and objects survive a restart', async () => {
  const first = await startQueueAndBucket(allResources, directory)
  const sqs = sqsOf(first.address)
  const QueueUrl = first.queueUrl('turns')
  await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: 'in flight' }))
  await sqs.send(new ReceiveMessageCommand({ QueueUrl }))
  await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: 'waiting' }))
  await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: 'delayed', DelaySeconds: 60 }))
  await put(first.address, 'key', 'body')
  await first.stop()

  const second = await startQueue()
  expect(second.inspectQueue('turns')).toMatchObject({
    attributes: { VisibilityTimeout: '90', RedrivePolicy: expect.stringContaining('turns-dead') },
    messages: {
      ready: [{ body: 'waiting' }],
      delayed: [{ body: 'delayed' }],
      inflight: [{ message: { body: 'in flight', approximateReceiveCount: 1 } }],
    },
  })
  expect(await get(second.address, 'key')).toBe('body')
})

test('a message whose visibility is set to 0 is there again at once, and after a restart', async () => {
  const first = await startQueueAndBucket(allResources, directory)
  const sqs = sqsOf(first.address)
  const QueueUrl = first.queueUrl('turns')
  await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: 'released' }))
  const { Messages = [] } = await sqs.send(new ReceiveMessageCommand({ QueueUrl }))
  const { ReceiptHandle } = Messages[0] ?? {}
  await sqs.send(new ChangeMessageVisibilityCommand({ QueueUrl, ReceiptHandle, VisibilityTimeout: 0 }))
  expect(first.inspectQueue('turns')?.messages.ready).toHaveLength(1)
  await first.stop()
  const second = await startQueue()
  expect(second.inspectQueue('turns')?.messages.ready).toMatchObject([
    { body: 'released', approximateReceiveCount: 1 },
  ])
})
