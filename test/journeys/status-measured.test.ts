/** `ops status` where CloudWatch and ElastiCache have something to say; the rest is the real local cloud. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { SendMessageCommand, SQSClient } from '@aws-sdk/client-sqs'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type ControlPlanes, startControlPlanes } from '../harness/control-planes/control-planes.ts'
import { type Run, runOps, SECRETS } from '../harness/ops.ts'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

const CLUSTER = 'turnkeep'
const CACHE = 'turnkeep-prod-cache'

let turnkeep: Turnkeep
let planes: ControlPlanes
beforeAll(async () => {
  turnkeep = await startTurnkeep({ name: 'status_measured' })
  planes = await startControlPlanes()
})
afterAll(async () => {
  await planes.close()
  await turnkeep.close()
})
beforeEach(() => {
  planes.cloudWatch.clear()
  planes.elastiCache.caches.clear()
  planes.elastiCache.snapshots.clear()
  planes.asked.length = 0
  planes.refuse = () => undefined
})

/** What only a stack tells, and the way to the control planes. */
const status = (args: string[] = [], changes: Record<string, string> = {}): Promise<Run> =>
  runOps(['status', ...args], {
    ...turnkeep.cloud.functionEnvironment,
    JOBS_DEAD_QUEUE_URL: turnkeep.cloud.fauxqs.queueUrl('jobs-dead'),
    ...planes.environment,
    ...SECRETS,
    METRICS_NAMESPACE: 'Turnkeep/prod',
    ...changes,
  })
const partsOf = ({ out }: Run): Record<string, object> => JSON.parse(out).parts

const put = (namespace: string, name: string, dimensions: Record<string, string>, value: number) =>
  planes.cloudWatch.put({ namespace, name, dimensions }, [{ atMs: Date.now() - 60_000, value }])
const WRITER = { DBClusterIdentifier: CLUSTER, Role: 'WRITER' }

describe('what CloudWatch knows', () => {
  test('is shown beside what was asked: save lag, ages, capacity, size', async () => {
    put('Turnkeep/prod', 'SaveLag', { service: 'turnkeep-persist' }, 1_200)
    put('AWS/SQS', 'ApproximateAgeOfOldestMessage', { QueueName: 'turns-dead' }, 7_200)
    put('AWS/RDS', 'ServerlessDatabaseCapacity', WRITER, 2.5)
    put('AWS/RDS', 'ACUUtilization', WRITER, 7.8)
    put('AWS/RDS', 'VolumeBytesUsed', { DBClusterIdentifier: CLUSTER }, 3_210_000_000)
    const { fauxqs, functionEnvironment } = turnkeep.cloud
    const credentials = { accessKeyId: 'local', secretAccessKey: 'local' }
    const sqs = new SQSClient({ endpoint: fauxqs.address, region: 'us-east-1', credentials })
    const QueueUrl = functionEnvironment.TURNS_DEAD_QUEUE_URL
    await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: '{}' }))
    sqs.destroy()
    const { code, out } = await status()
    expect(code).toBe(0)
    expect(out).toMatch(/^save lag +1\.2 s at most within the last hour$/m)
    expect(out).toMatch(/^dead letters +1 waiting, 0 in hand, 0 delayed; the oldest for 2 h$/m)
    expect(out).toMatch(/^database capacity +2\.5 ACU; 7\.8 % of what it may grow to; 3\.21 GB stored$/m)
    expect(partsOf(await status(['--json'])).databaseCapacity).toEqual({
      acu: 2.5,
      loadPercent: 7.8,
      storedBytes: 3_210_000_000,
    })
  })

  test('is nothing in an idle environment, and that is no fault', async () => {
    const { code, out } = await status()
    expect(code).toBe(0)
    expect(out).toMatch(/^save lag +nothing was saved within the last hour$/m)
    expect(out).toMatch(/^database capacity +not measured within a quarter of an hour$/m)
  })

  test('is missing where it refuses, which ends with 1 and hides nothing else', async () => {
    planes.refuse = ({ service }) =>
      service === 'monitoring'
        ? {
            status: 400,
            code: 'AccessDeniedException',
            message: 'not authorized to perform: cloudwatch:GetMetricData',
          }
        : undefined
    const run = await status()
    expect(run).toMatchObject({ code: 1, err: '' })
    expect(run.out).toMatch(
      /^save lag +CANNOT BE ASKED: AccessDenied\w*: not authorized to perform: cloudwatch:GetMetricData$/m,
    )
    expect(run.out).toMatch(/^turns queue +0 waiting/m)
    expect(run.out).toMatch(/^database +answers/m)
  })
})

describe('a database that may sleep', () => {
  test.each([
    ['is said to be asleep', 0, /^database +asleep \(--wake asks it\)$/m],
    ['is said to be awake', 0.5, /^database +awake; not asked, so that it may fall asleep/m],
    ['is left alone where nobody knows', undefined, /^database +not asked: it may be asleep/m],
  ])('%s and is not asked', async (_, acu, line) => {
    if (acu !== undefined) put('AWS/RDS', 'ServerlessDatabaseCapacity', WRITER, acu)
    await using door = await startDataApiDoor(0)
    const { code, out } = await status([], { DATABASE_PAUSES: 'true', AWS_ENDPOINT_URL_RDS_DATA: door.url })
    expect(code).toBe(0)
    expect(out).toMatch(line)
    expect(door.calls()).toBe(0)
  })

  test('is woken by --wake, and waited for', async () => {
    put('AWS/RDS', 'ServerlessDatabaseCapacity', WRITER, 0)
    await using door = await startDataApiDoor(2)
    const { code, out } = await status(['--wake'], {
      DATABASE_PAUSES: 'true',
      AWS_ENDPOINT_URL_RDS_DATA: door.url,
    })
    expect(code).toBe(0)
    expect(out).toMatch(/^database +answers, in \d+ ms/m)
    expect(door.calls()).toBe(3)
  })
})

describe('the cache', () => {
  const inPhaseTwo = { HOT_STORE: 'valkey', VALKEY_CACHE_NAME: CACHE }
  const limits = { maxGigabytes: 5, maxEcpuPerSecond: 15_000, snapshotDays: 1 }

  test('is shown with its state, endpoint, limits and snapshots', async () => {
    const endpoint = { address: 'turnkeep.serverless.use1.cache.amazonaws.com', port: 6379 }
    planes.elastiCache.caches.set(CACHE, { status: 'available', endpoint, ...limits })
    for (const hour of [3, 4])
      planes.elastiCache.snapshots.set(`at-${hour}`, {
        cache: CACHE,
        status: 'available',
        type: 'automated',
        at: new Date(Date.UTC(2026, 10, 20, hour)),
      })
    const { code, out } = await status([], inPhaseTwo)
    expect(code).toBe(0)
    expect(out).toMatch(/^this machine, phase 2$/m)
    expect(out).toMatch(
      /^cache +available; turnkeep\.serverless\.use1\.cache\.amazonaws\.com:6379; at most 5 GB; at most 15,000 ECPU\/s; 2 snapshots, the newest available, of 2026-11-20 04:00:00Z$/m,
    )
    expect(partsOf(await status(['--json'], inPhaseTwo)).cache).toMatchObject({
      state: 'available',
      engine: 'valkey 9.0',
      maxGigabytes: 5,
      maxEcpuPerSecond: 15_000,
      snapshots: 2,
      newestSnapshot: 'at-4',
    })
  })

  test('that is being made has no endpoint yet', async () => {
    planes.elastiCache.caches.set(CACHE, { status: 'creating', ...limits })
    const { code, out } = await status([], inPhaseTwo)
    expect(code).toBe(0)
    expect(out).toMatch(/^cache +creating; at most 5 GB; at most 15,000 ECPU\/s; no snapshot$/m)
  })

  test('that an empty account does not have is a fault, and one that no setting asks for is none', async () => {
    const missing = await status([], inPhaseTwo)
    expect(missing.code).toBe(1)
    expect(missing.out).toMatch(/^cache +CANNOT BE ASKED: ServerlessCacheNotFoundFault: .* not found\.$/m)
    expect((await status()).code).toBe(0)
  })

  test('is asked again when ElastiCache throttles', async () => {
    planes.elastiCache.caches.set(CACHE, { status: 'available', ...limits })
    let left = 2
    planes.refuse = ({ service }) =>
      service === 'elasticache' && left-- > 0
        ? { status: 400, code: 'Throttling', message: 'Rate exceeded' }
        : undefined
    expect((await status([], inPhaseTwo)).out).toMatch(/^cache +available/m)
  })
})

/** The Data API's door: counts calls, and answers the first of them as a database does that is waking up. */
async function startDataApiDoor(resuming: number) {
  let calls = 0
  const target = turnkeep.cloud.functionEnvironment.AWS_ENDPOINT_URL_RDS_DATA
  const server = createServer(async (request, response) => {
    calls += 1
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    if (calls <= resuming) {
      const headers = { 'content-type': 'application/json', 'x-amzn-errortype': 'DatabaseResumingException' }
      response.writeHead(400, headers).end(JSON.stringify({ message: 'The Aurora DB instance is resuming.' }))
      return
    }
    const { authorization = '' } = request.headers
    const answer = await fetch(`${target}${request.url}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization },
      body: Buffer.concat(chunks),
    })
    response.writeHead(answer.status, { 'content-type': 'application/json' }).end(await answer.text())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls: () => calls,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      server.close()
    },
  }
}
