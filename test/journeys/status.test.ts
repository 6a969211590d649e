import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { PurgeQueueCommand, ReceiveMessageCommand, SendMessageCommand, SQSClient } from '@aws-sdk/client-sqs'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { SPOOL_PREFIX } from '../../lambdas/replies/spool.ts'
import { type ControlPlanes, startControlPlanes } from '../harness/control-planes/control-planes.ts'
import { copyMigrated } from '../harness/migrated.ts'
import { ISOLATED, type Run, runOps, SECRETS, WITH_CREDENTIALS } from '../harness/ops.ts'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

const NOWHERE = 'http://127.0.0.1:9'

let turnkeep: Turnkeep
let planes: ControlPlanes
let sqs: SQSClient
let s3: S3Client
beforeAll(async () => {
  turnkeep = await startTurnkeep({ name: 'status', scriptedModel: { tokenDelayMs: 60 } })
  planes = await startControlPlanes()
  const client = {
    endpoint: turnkeep.cloud.fauxqs.address,
    region: 'us-east-1',
    credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
  }
  sqs = new SQSClient(client)
  s3 = new S3Client(client)
})
afterAll(async () => {
  for (const client of [sqs, s3]) client.destroy()
  await planes.close()
  await turnkeep.close()
})
beforeEach(async () => {
  planes.asked.length = 0
  await turnkeep.drained()
  for (const QueueUrl of [deadQueue(), jobsDeadQueue()]) await sqs.send(new PurgeQueueCommand({ QueueUrl }))
})

const deadQueue = (): string => turnkeep.cloud.fauxqs.queueUrl('turns-dead')
const jobsDeadQueue = (): string => turnkeep.cloud.fauxqs.queueUrl('jobs-dead')
type Variables = Record<string, string | undefined>

/** As `npm start` has it: no CloudWatch, no ElastiCache. */
const locally = (args: string[] = [], changes: Variables = {}): Promise<Run> =>
  runOps(['status', ...args], {
    ...turnkeep.cloud.functionEnvironment,
    JOBS_DEAD_QUEUE_URL: jobsDeadQueue(),
    ...SECRETS,
    ...changes,
  })
type Facts = Record<string, unknown>
interface Told {
  phase: number
  environment: string
  parts: Record<string, Facts>
}
const parsed = ({ out }: Run): Told => JSON.parse(out)

describe('on one machine', () => {
  test('everything that is there is shown, and nothing is made up of what is not', async () => {
    const run = await locally(['--json'])
    expect(run, run.err).toMatchObject({ code: 0, err: '' })
    const { environment, phase, parts } = parsed(run)
    expect([environment, phase]).toEqual(['this machine', 1])
    expect(parts).toEqual({
      turnsQueue: { waiting: 0, inHand: 0, delayed: 0, oldestSeconds: null },
      turnsRunning: { atMost: 0 },
      saveLag: { absent: expect.stringContaining('no CloudWatch') },
      deadLetters: { waiting: 0, inHand: 0, delayed: 0, oldestSeconds: null },
      jobDeadLetters: { waiting: 0, inHand: 0, delayed: 0, oldestSeconds: null },
      scheduleDeadLetters: { absent: expect.any(String) },
      spool: { objects: 0, complete: true, oldestAt: null },
      database: { state: 'answers', answeredInMs: expect.any(Number), bytes: expect.any(Number) },
      databaseCapacity: { absent: expect.stringContaining('no CloudWatch') },
      cache: { absent: expect.any(String) },
    })
    expect(parts.database?.bytes).toBeGreaterThan(1_000_000)
  })

  test('the table says the same for people', async () => {
    await sqs.send(new SendMessageCommand({ QueueUrl: deadQueue(), MessageBody: '{}' }))
    const { code, out } = await locally()
    expect(code).toBe(0)
    expect(out).toMatch(/^this machine, phase 1\n\npart +state\n/)
    expect(out).toMatch(/^dead letters +1 waiting, 0 in hand, 0 delayed$/m)
    expect(out).toMatch(/^job dead letters +0 waiting, 0 in hand, 0 delayed$/m)
    expect(out).toMatch(/^turns running +none$/m)
    expect(out).toMatch(/^database +answers, in \d+ ms; [\d.]+ MB$/m)
  })

  test('dead letters of turns and of jobs, in hand or not, and spooled turns are counted, and nothing else in the bucket', async () => {
    for (const body of ['{}', '{}', '한글'])
      await sqs.send(new SendMessageCommand({ QueueUrl: deadQueue(), MessageBody: body }))
    await sqs.send(new ReceiveMessageCommand({ QueueUrl: deadQueue(), VisibilityTimeout: 60 }))
    await sqs.send(new SendMessageCommand({ QueueUrl: jobsDeadQueue(), MessageBody: '{}' }))
    const Bucket = turnkeep.cloud.functionEnvironment.CONTENT_BUCKET
    for (const Key of [`${SPOOL_PREFIX}${randomUUID()}`, `content/${randomUUID()}`])
      await s3.send(new PutObjectCommand({ Bucket, Key, Body: '[]' }))
    const { parts } = parsed(await locally(['--json']))
    expect(parts.deadLetters).toMatchObject({ waiting: 2, inHand: 1 })
    expect(parts.jobDeadLetters).toMatchObject({ waiting: 1, inHand: 0 })
    expect(parts.spool).toMatchObject({ objects: 1, oldestAt: expect.stringMatching(/^20.*Z$/) })
  })

  test('an answer that is being written is a turn that runs', async () => {
    let during: Run | undefined
    const reply = await turnkeep.as().ask('배송은 며칠 걸리나요?', {
      onEvent: async ({ event }) => {
        if (event.type === 'token' && during === undefined) during = await locally(['--json'])
        return false
      },
    })
    expect(reply.terminal?.type).toBe('done')
    expect(during && parsed(during).parts.turnsRunning).toEqual({ atMost: 1 })
  })

  test('npm start is found by its data directory alone; there phase and cache say what is missing', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'turnkeep-status-'))
    await copyMigrated(directory)
    const started = spawn(process.execPath, [resolve(import.meta.dirname, '../../local/start.ts')], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        ...ISOLATED,
        TURNKEEP_DATA_DIR: directory,
        TURNKEEP_PAGE_DIR: directory,
        PORT: '0',
        POWERTOOLS_LOG_LEVEL: 'ERROR',
      },
    })
    try {
      await new Promise<void>((ready, failed) => {
        started.once('exit', () => failed(new Error('it ended')))
        started.stdout.on('data', (chunk) => /Turnkeep is ready/.test(String(chunk)) && ready())
      })
      // A shell's own region and profile do not matter.
      const shell = { TURNKEEP_DATA_DIR: directory, AWS_REGION: 'eu-west-1', ...SECRETS }
      const run = await runOps(['status', '--json'], shell)
      expect(run, run.err).toMatchObject({ code: 0, err: '' })
      expect(parsed(run).parts).toMatchObject({
        jobDeadLetters: { waiting: 0 },
        database: { state: 'answers' },
        spool: { objects: 0 },
        turnsQueue: { waiting: 0 },
      })
      expect(await runOps(['phase', '--local'], shell)).toMatchObject({
        code: 2,
        out: '',
        err: 'The Turnkeep on this machine keeps no figures: there is no CloudWatch here. Phase 1 is on.\n',
      })
      expect(await runOps(['cache', 'snapshot'], shell)).toMatchObject({
        code: 2,
        err: 'The Turnkeep on this machine has no cache of ElastiCache.\n',
      })
    } finally {
      const ended = once(started, 'exit')
      started.kill('SIGTERM')
      await ended
      await rm(directory, { recursive: true, force: true })
    }
  }, 60_000)
})

describe('a part that cannot be asked', () => {
  test.each([
    ['AWS_ENDPOINT_URL_SQS', ['turnsQueue', 'turnsRunning', 'deadLetters', 'jobDeadLetters']],
    ['AWS_ENDPOINT_URL_S3', ['spool']],
    ['AWS_ENDPOINT_URL_RDS_DATA', ['database']],
  ])(
    'because nothing answers at %s is said so, the rest is shown, and it ends with 1',
    async (variable, failing) => {
      const run = await locally(['--json'], { [variable]: NOWHERE })
      expect(run).toMatchObject({ code: 1, err: '' })
      const { parts } = parsed(run)
      for (const [name, facts] of Object.entries(parts)) {
        const failed = failing.includes(name) ? 'nothing answers (ECONNREFUSED)' : undefined
        expect([name, facts.failed]).toEqual([name, failed])
      }
    },
  )

  test('because it is not there is named by what AWS calls it', async () => {
    const { code, out } = await locally([], {
      CONTENT_BUCKET: 'another',
      TURNS_DEAD_QUEUE_URL: `${deadQueue()}-2`,
    })
    expect(code).toBe(1)
    expect(out).toMatch(/^spool +CANNOT BE ASKED: NoSuchBucket/m)
    expect(out).toMatch(
      /^dead letters +CANNOT BE ASKED: .*NonExistentQueue|^dead letters +CANNOT BE ASKED: QueueDoesNotExist/m,
    )
  })
})

describe('a wrong call', () => {
  test.each([
    [['--verbose'], "Unknown option '--verbose'"],
    [['now'], 'Unexpected argument'],
  ])('%j ends with 2 and says how it is called', async (args, problem) => {
    const { code, err } = await locally(args)
    expect([code, err.includes(problem), err.includes('npm run ops -- status')]).toEqual([2, true, true])
  })

  const deployed = {
    ...WITH_CREDENTIALS,
    TURNS_QUEUE_URL: 'https://sqs.eu-west-1.amazonaws.com/111122223333/turns',
    TURNS_DEAD_QUEUE_URL: 'https://sqs.eu-west-1.amazonaws.com/111122223333/dead',
    JOBS_DEAD_QUEUE_URL: 'https://sqs.eu-west-1.amazonaws.com/111122223333/jobs-dead',
    CONTENT_BUCKET: 'content',
    DATABASE_CLUSTER_ARN: 'arn:aws:rds:eu-west-1:111122223333:cluster:c',
    DATABASE_SECRET_ARN: 'arn:aws:secretsmanager:eu-west-1:111122223333:secret:s',
    DATABASE_NAME: 'turnkeep',
    DATABASE_PAUSES: 'false',
    HOT_STORE: 'postgres',
    METRICS_NAMESPACE: 'Turnkeep/prod',
    // Should a test be wrong, it must not reach AWS.
    ...Object.fromEntries(
      ['SQS', 'S3', 'RDS_DATA', 'CLOUDWATCH', 'ELASTICACHE'].map((name) => [
        `AWS_ENDPOINT_URL_${name}`,
        NOWHERE,
      ]),
    ),
  }
  test.each<[string, Variables, RegExp]>([
    [
      'no environment',
      Object.fromEntries(Object.keys(deployed).map((name) => [name, undefined])),
      /^Which environment\? /,
    ],
    [
      'half an environment, all that is missing',
      { TURNS_DEAD_QUEUE_URL: '', DATABASE_PAUSES: undefined },
      /^TURNS_DEAD_QUEUE_URL, DATABASE_PAUSES: not set\. /,
    ],
    [
      'two halves of two environments',
      { DATABASE_CLUSTER_ARN: 'arn:aws:rds:us-east-1:111122223333:cluster:c' },
      /^Which region\? TURNS_QUEUE_URL is in eu-west-1, .*DATABASE_CLUSTER_ARN is in us-east-1\.$/,
    ],
    [
      'a region that it is not in',
      { AWS_REGION: 'us-east-1' },
      /^Which region\? .*AWS_REGION is in us-east-1\.$/,
    ],
    ['what is no queue', { TURNS_QUEUE_URL: 'turns' }, /^TURNS_QUEUE_URL is not the URL of a queue\.$/],
    [
      'no credentials',
      { AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined },
      /^No credentials for AWS: CredentialsProviderError: /,
    ],
  ])('for %s ends with 2 and one line', async (_, changes, line) => {
    const { code, out, err } = await runOps(['status'], { ...deployed, ...changes })
    expect([code, out, err.split('\n').length]).toEqual([2, '', 2])
    expect(err.trimEnd()).toMatch(line)
  })

  test('of a deployed environment asks with the shell’s credentials and never with the local ones', async () => {
    const { code, out } = await runOps(['status', '--json'], { ...deployed, ...planes.environment })
    expect(code).toBe(1) // queues, bucket and database lead nowhere here
    expect(JSON.parse(out).environment).toBe('Turnkeep/prod in eu-west-1')
    expect(planes.asked).toMatchObject([{ service: 'monitoring', region: 'eu-west-1' }])
  })
})
