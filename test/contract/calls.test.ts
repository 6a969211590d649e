import { ExecuteStatementCommand, RDSDataClient } from '@aws-sdk/client-rds-data'
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import {
  ChangeMessageVisibilityBatchCommand,
  GetQueueAttributesCommand,
  SendMessageBatchCommand,
  SendMessageCommand,
  SQSClient,
} from '@aws-sdk/client-sqs'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { resources as allResources, type Resources } from '../../lib/resources.ts'
import type { Call } from '../../local/cloud/calls.ts'
import { type Cloud, startCloud } from '../../local/cloud/cloud.ts'
import { FUNCTION_HEADER } from '../../local/function-header.ts'
import { forkFunctions, kill, told } from '../fixtures/functions-process.ts'
import { migratedDump } from '../harness/migrated.ts'

const functions = Object.fromEntries(
  ['first', 'second', 'persist'].map((name) => [name, { handler: '', timeoutSeconds: 20 }]),
)
const resources: Resources = {
  ...allResources,
  functions,
  schedules: [],
  startup: [],
  eventSources: allResources.eventSources.map((source) => ({ ...source, windowSeconds: 0 })),
}

let cloud: Cloud
let calls: Call[]
let allows: (call: Call) => boolean

beforeAll(async () => {
  cloud = await startCloud({
    resources,
    beginWith: await migratedDump(),
    gate: (call) => {
      calls.push(call)
      return allows(call)
    },
  })
})
afterAll(() => cloud.close())
beforeEach(() => {
  calls = []
  allows = () => true
})

const region = 'us-east-1'
const credentials = { accessKeyId: 'a', secretAccessKey: 'b' }

/** In the name of a function, as the functions process makes it. */
function marked<Client extends SQSClient | S3Client | RDSDataClient>(client: Client): Client {
  const { middlewareStack } = client as SQSClient
  middlewareStack.add(
    (next) => (call) => {
      Object.assign((call.request as { headers: object }).headers, { [FUNCTION_HEADER]: 'chat' })
      return next(call)
    },
    { step: 'build' },
  )
  return client
}

const address = () => ({ region, credentials, endpoint: cloud.fauxqs.address })
const named = () => calls.map(({ action, resource }) => `${action} ${resource}`)
const TURNS = 'arn:aws:sqs:us-east-1:000000000000:turns'

test('a call to SQS is told by the action that IAM has for it, also where it is a batch', async () => {
  const sqs = marked(new SQSClient(address()))
  const QueueUrl = cloud.fauxqs.queueUrl('turns')
  await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: 'one' }))
  await sqs.send(new SendMessageBatchCommand({ QueueUrl, Entries: [{ Id: '1', MessageBody: 'two' }] }))
  await sqs.send(new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ['QueueArn'] }))
  const Entries = [{ Id: '1', ReceiptHandle: 'none', VisibilityTimeout: 0 }]
  await sqs.send(new ChangeMessageVisibilityBatchCommand({ QueueUrl, Entries }))
  expect(named()).toEqual([
    `sqs:SendMessage ${TURNS}`,
    `sqs:SendMessage ${TURNS}`,
    `sqs:GetQueueAttributes ${TURNS}`,
    `sqs:ChangeMessageVisibility ${TURNS}`,
  ])
})

test('a call to S3 is told with its object, a listing with its bucket and prefix', async () => {
  const s3 = marked(new S3Client(address()))
  const object = { Bucket: 'content', Key: 'spool/한글 1' }
  await s3.send(new PutObjectCommand({ ...object, Body: 'text' }))
  await s3.send(new GetObjectCommand(object))
  await s3.send(new HeadObjectCommand(object))
  await s3.send(new ListObjectsV2Command({ Bucket: 'content', Prefix: 'spool/' }))
  await s3.send(new DeleteObjectCommand(object))
  expect(named()).toEqual([
    's3:PutObject arn:aws:s3:::content/spool/한글 1',
    's3:GetObject arn:aws:s3:::content/spool/한글 1',
    's3:GetObject arn:aws:s3:::content/spool/한글 1',
    's3:ListBucket arn:aws:s3:::content',
    's3:DeleteObject arn:aws:s3:::content/spool/한글 1',
  ])
  expect(calls[3]?.conditions).toEqual({ 's3:prefix': 'spool/' })
})

test('a statement needs the cluster and the secret', async () => {
  const dataApi = marked(
    new RDSDataClient({
      region,
      credentials,
      endpoint: cloud.functionEnvironment.AWS_ENDPOINT_URL_RDS_DATA ?? '',
    }),
  )
  const resourceArn = cloud.functionEnvironment.DATABASE_CLUSTER_ARN ?? ''
  const secretArn = cloud.functionEnvironment.DATABASE_OWNER_SECRET_ARN ?? ''
  const statement = new ExecuteStatementCommand({ resourceArn, secretArn, sql: 'select 1' })
  await dataApi.send(statement)
  expect(named()).toEqual([
    `rds-data:ExecuteStatement ${resourceArn}`,
    `secretsmanager:GetSecretValue ${secretArn}`,
  ])
  allows = ({ action }) => action !== 'secretsmanager:GetSecretValue'
  await expect(dataApi.send(statement)).rejects.toMatchObject({
    name: 'AccessDeniedException',
    message: expect.stringContaining('secretsmanager:GetSecretValue'),
  })
})

test('what is refused is not done, and is AccessDenied to the client', async () => {
  allows = () => false
  const QueueUrl = cloud.fauxqs.queueUrl('turns-dead')
  const body = { QueueUrl, MessageBody: 'never' }
  await expect(marked(new SQSClient(address())).send(new SendMessageCommand(body))).rejects.toMatchObject({
    name: 'AccessDeniedException',
  })
  expect(cloud.fauxqs.inspectQueue('turns-dead')?.messages.ready).toEqual([])
  const object = { Bucket: 'content', Key: 'refused' }
  await expect(
    marked(new S3Client(address())).send(new PutObjectCommand({ ...object, Body: 'x' })),
  ).rejects.toMatchObject({ name: 'AccessDenied' })
  const unmarked = new S3Client(address())
  await expect(unmarked.send(new GetObjectCommand(object))).rejects.toMatchObject({ name: 'NoSuchKey' })
})

test('whether a missing object is missing or denied depends on the right to list', async () => {
  const s3 = marked(new S3Client(address()))
  const missing = new GetObjectCommand({ Bucket: 'content', Key: 'content/missing' })
  await expect(s3.send(missing)).rejects.toMatchObject({ name: 'NoSuchKey' })
  expect(named()).toEqual([
    's3:GetObject arn:aws:s3:::content/content/missing',
    's3:ListBucket arn:aws:s3:::content',
  ])
  allows = ({ action }) => action !== 's3:ListBucket'
  await expect(s3.send(missing)).rejects.toMatchObject({ name: 'AccessDenied' })
})

test('functions that share a process are told apart, whichever runs at the same time', async () => {
  const child = forkFunctions(cloud.runtimeApi.addresses, { first: 'calling', second: 'calling' }, false, {
    ...cloud.functionEnvironment,
  })
  try {
    await told(child, 'polling')
    const keysOf = (name: string) => Array.from({ length: 20 }, (_, index) => `${name}/${index}`)
    await Promise.all(
      ['first', 'second'].map((name) =>
        cloud.runtimeApi.invoke(name, JSON.stringify({ keys: keysOf(name) })),
      ),
    )
    expect(calls).toHaveLength(80)
    for (const { function: name, resource } of calls) expect(resource).toContain(`:::content/${name}/`)
  } finally {
    await kill(child)
  }
})

test('a queue is read with the role of the function that it feeds', async () => {
  const child = forkFunctions(cloud.runtimeApi.addresses, { persist: 'buffered' })
  try {
    await told(child, 'polling')
    await cloud.open()
    await expect
      .poll(() => new Set(calls.filter((call) => call.function === 'persist').map(({ action }) => action)))
      .toEqual(new Set(['sqs:ReceiveMessage', 'sqs:DeleteMessage']))
  } finally {
    await kill(child)
  }
})
