/** A call to AWS without the SDK's middleware, at the wire: what the client's own `send` does is the measure. */
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import {
  ExecuteStatementCommand,
  type ExecuteStatementCommandInput,
  RDSDataClient,
  type RDSDataClientConfig,
} from '@aws-sdk/client-rds-data'
import {
  SendMessageBatchCommand,
  type SendMessageBatchCommandInput,
  SQSClient,
  type SQSClientConfig,
} from '@aws-sdk/client-sqs'
import { SignatureV4 } from '@smithy/signature-v4'
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { openAwsCall } from '../../lambdas/services/aws-call.ts'
import { openBucket } from '../../lambdas/services/bucket.ts'
import { IMPATIENT, openDatabase } from '../../lambdas/services/database.ts'
import { openSecrets, openVersionedSecret } from '../../lambdas/services/secrets.ts'
import { openTurnQueue } from '../../lambdas/services/turn-queue.ts'

interface Taken {
  method: string
  path: string
  headers: IncomingHttpHeaders
  body: string
}
type Reply = (response: ServerResponse, taken: Taken) => unknown

/** Answers each request by the next of these, the last one from then on. */
let replies: Reply[]
let taken: Taken[]
let url: string

const answering =
  (status: number, body: unknown, headers: Record<string, string> = {}): Reply =>
  (response) =>
    response
      .writeHead(status, { 'content-type': 'application/json', ...headers })
      .end(typeof body === 'string' ? body : JSON.stringify(body))
const ROWS = { formattedRecords: '[{"one":1}]', numberOfRecordsUpdated: 0 }
const done = answering(200, ROWS)
const failing = (status: number, name: string, message = 'words') =>
  answering(status, { message }, { 'x-amzn-errortype': `${name}:http://internal.amazon.com/coral/` })
const cut: Reply = (response) => response.destroy()
const cutInTheMiddle: Reply = (response) => {
  response.writeHead(200, { 'content-length': '100' }).write('{"formatted')
  setTimeout(() => response.destroy(), 20)
}
const silent: Reply = () => undefined

beforeAll(async () => {
  const server = createServer(async (request, response) => {
    const { method = '', url: path = '', headers } = request
    const one = { method, path, headers, body: await text(request) }
    taken.push(one)
    const reply = replies.length > 1 ? replies.shift() : replies[0]
    reply?.(response, one)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return () => {
    server.closeAllConnections()
    server.close()
  }
})
beforeEach(() => {
  replies = [done]
  taken = []
  for (const name of ['AWS_ENDPOINT_URL', 'AWS_ENDPOINT_URL_RDS_DATA', 'AWS_ENDPOINT_URL_SQS', 'AWS_PROFILE'])
    vi.stubEnv(name, undefined)
  vi.stubEnv('AWS_REGION', 'ap-northeast-2')
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIAEXAMPLE')
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'a secret')
  vi.stubEnv('AWS_SESSION_TOKEN', 'a/session+token==')
})
afterEach(() => {
  vi.unstubAllEnvs()
})

const STATEMENT: ExecuteStatementCommandInput = {
  resourceArn: 'arn:aws:rds:ap-northeast-2:000000000000:cluster:turnkeep',
  secretArn: 'arn:aws:secretsmanager:ap-northeast-2:000000000000:secret:turnkeep',
  database: 'turnkeep',
  sql: 'select :p0::text, :p1::integer',
  parameters: [
    { name: 'p0', value: { stringValue: '안녕하세요 👋 "quoted"\n' } },
    { name: 'p1', value: { isNull: true } },
  ],
  formatRecordsAs: 'JSON',
}
const batch = (queue: string): SendMessageBatchCommandInput => ({
  QueueUrl: `${queue}/000000000000/turns`,
  Entries: [
    { Id: '0', MessageBody: '{"text":"안녕 \\ud83d\\udc4b"}', MessageGroupId: 'g' },
    { Id: '1', MessageBody: '{}', DelaySeconds: 30 },
  ],
})

/** The same call, by the client and without its middleware. */
function dataApi(config: RDSDataClientConfig = { endpoint: url, maxAttempts: 1 }) {
  const client = new RDSDataClient(config)
  const call = openAwsCall(client, () => new ExecuteStatementCommand({ ...STATEMENT, sql: '' }))
  return {
    send: () => client.send(new ExecuteStatementCommand(STATEMENT)),
    call: (input: Partial<ExecuteStatementCommandInput> = {}) => call({ ...STATEMENT, ...input }),
  }
}
function queue(at = url, config: SQSClientConfig = { endpoint: url, maxAttempts: 1 }) {
  const client = new SQSClient(config)
  const { QueueUrl } = batch(at)
  const call = openAwsCall(client, () => new SendMessageBatchCommand({ QueueUrl, Entries: [] }))
  return {
    send: () => client.send(new SendMessageBatchCommand(batch(at))),
    call: () => call(batch(at)),
  }
}

const refused = (answer: Promise<unknown>) =>
  answer.then(
    () => expect.fail('not refused'),
    ({ name, message, $fault, $metadata }) => ({
      name,
      message,
      $fault,
      status: $metadata?.httpStatusCode,
    }),
  )

describe('on the wire', () => {
  /** What is another's with each request. */
  const OWN = ['amz-sdk-invocation-id', 'amz-sdk-request', 'authorization', 'content-length', 'x-amz-date']
  const comparable = ({ method, path, headers, body }: Taken) => ({
    method,
    path,
    headers: Object.fromEntries(
      Object.entries(headers)
        .filter(([name]) => !OWN.includes(name) && name !== 'x-amz-content-sha256')
        // The last word of it counts features of the SDK that a call has used.
        .map(([name, value]) => [name, name === 'user-agent' ? String(value).split(' m/')[0] : value]),
    ),
    body: JSON.parse(body),
  })

  test.each([
    ['the Data API', dataApi],
    ['SQS', queue],
  ] as const)('the request to %s is the one that the client sends', async (_, open) => {
    replies = [answering(200, { ...ROWS, Successful: [] })]
    const { send, call } = open()
    await send().catch((error) => expect(error.message).toContain('MD5')) // SQS's answer should have had some
    await call()
    const [theirs, ours] = taken.map(comparable)
    expect(ours).toEqual(theirs)
    expect(Object.keys(taken[1]?.headers ?? {})).toEqual(
      expect.arrayContaining(['x-amz-content-sha256', 'x-amz-date', 'x-amz-security-token']),
    )
    expect(Number(taken[1]?.headers['content-length'])).toBe(Buffer.byteLength(taken[1]?.body ?? ''))
  })

  test('the answer is what the client makes of it', async () => {
    const { send, call } = dataApi()
    const { $metadata: _, ...theirs } = await send()
    expect(await call()).toMatchObject(theirs)
  })

  test('calls at the same time get their own answers', async () => {
    replies = [
      (response, { body }) => setTimeout(() => response.end(JSON.stringify({ formattedRecords: body })), 10),
    ]
    const { call } = dataApi()
    const statements = Array.from({ length: 20 }, (_, index) => `select ${index} as "${'한'.repeat(index)}"`)
    const answers = await Promise.all(statements.map((sql) => call({ sql })))
    expect(answers.map(({ formattedRecords = '' }) => JSON.parse(formattedRecords).sql)).toEqual(statements)
  })

  test('the trace of one invocation is in no request of a later one', async () => {
    vi.stubEnv('AWS_LAMBDA_FUNCTION_NAME', 'chat')
    vi.stubEnv('_X_AMZN_TRACE_ID', 'Root=1-first')
    const { send, call } = dataApi()
    await call()
    vi.stubEnv('_X_AMZN_TRACE_ID', 'Root=1-second')
    await call()
    await send()
    expect(taken.map(({ headers }) => headers['x-amzn-trace-id'])).toEqual([
      undefined,
      undefined,
      'Root=1-second',
    ])
  })
})

describe('the signature', () => {
  const scopeOf = ({ headers }: Pick<Taken, 'headers'>) =>
    /Credential=([^/]+)\/\d+\/([^,]+),/.exec(String(headers.authorization))?.slice(1)

  test.each([
    ['rds-data', dataApi],
    ['sqs', queue],
  ] as const)('of a call to %s is that of SignatureV4, session token included', async (service, open) => {
    await open().call()
    const [{ method, path, headers, body } = expect.fail('nothing was sent')] = taken
    const names = /SignedHeaders=([^,]+)/.exec(String(headers.authorization))?.[1]?.split(';') ?? []
    expect(names).toEqual(
      expect.arrayContaining(['host', 'x-amz-content-sha256', 'x-amz-date', 'x-amz-security-token']),
    )
    const date = String(headers['x-amz-date']).replace(
      /^(....)(..)(..T..)(..)(..Z)$/,
      (_, year, month, rest, minutes, seconds) => `${year}-${month}-${rest}:${minutes}:${seconds}`,
    )
    expect(Math.abs(Date.parse(date) - Date.now())).toBeLessThan(60_000)
    const signer = new SignatureV4({
      service,
      region: 'ap-northeast-2',
      credentials: {
        accessKeyId: 'AKIAEXAMPLE',
        secretAccessKey: 'a secret',
        sessionToken: 'a/session+token==',
      },
      sha256: new RDSDataClient({}).config.sha256,
    })
    const expected = await signer.sign(
      {
        method,
        protocol: 'http:',
        hostname: '127.0.0.1',
        path,
        query: {},
        headers: Object.fromEntries(names.map((name) => [name, String(headers[name])])),
        body,
      },
      { signingDate: new Date(date) },
    )
    expect(headers.authorization).toBe(expected.headers.authorization)
  })

  test('is made with credentials that the provider has renewed', async () => {
    let asked = 0
    const { call } = dataApi({
      endpoint: url,
      credentials: async () => {
        asked += 1
        return { accessKeyId: `KEY${asked}`, secretAccessKey: 's', expiration: new Date(Date.now() + 1_000) }
      },
    })
    await call()
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 10 * 60_000 })
    try {
      await call()
    } finally {
      vi.useRealTimers()
    }
    const [first, last] = [taken[0], taken.at(-1)].map((one) => one && scopeOf(one)?.[0])
    expect(first).toMatch(/^KEY\d+$/)
    expect(last).toMatch(/^KEY\d+$/)
    expect(last).not.toBe(first)
  })

  test("follows AWS's clock once AWS has refused this one's", async () => {
    const ahead = new Date(Date.now() + 3_600_000)
    replies = [
      answering(
        403,
        { message: 'Signature expired' },
        { 'x-amzn-errortype': 'InvalidSignatureException', date: ahead.toUTCString() },
      ),
      done,
    ]
    await dataApi({ endpoint: url, maxAttempts: 2 }).call()
    const hourOf = ({ headers }: Taken) => String(headers['x-amz-date']).slice(0, 11)
    expect(taken.map(hourOf)).toEqual(
      [new Date(), ahead].map((time) => time.toISOString().replace(/[-:]/g, '').slice(0, 11)),
    )
  })
})

describe('the place', () => {
  /** A client whose requests go nowhere. */
  const kept = () => {
    const requests: { protocol: string; hostname: string; port?: number; headers: Record<string, string> }[] =
      []
    const handle = async (request: (typeof requests)[number]) => {
      requests.push(request)
      return { response: { statusCode: 200, headers: {}, body: Readable.from(['{"Successful":[]}']) } }
    }
    return { requests, config: { requestHandler: { handle } as never } }
  }

  test.each([
    ['rds-data', (config: object) => dataApi(config)],
    ['sqs', (config: object) => queue('https://sqs.ap-northeast-2.amazonaws.com', config)],
  ] as const)('of %s without any variable is the one in the region, over TLS', async (service, open) => {
    const { requests, config } = kept()
    await open(config).call()
    expect(requests).toMatchObject([
      { protocol: 'https:', hostname: `${service}.ap-northeast-2.amazonaws.com` },
    ])
    const { port, headers } = requests[0] ?? expect.fail('nothing was sent')
    expect([undefined, 443]).toContain(port)
    expect(headers.host).toBe(`${service}.ap-northeast-2.amazonaws.com`)
    expect(headers.authorization).toMatch(
      new RegExp(`^AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/\\d{8}/ap-northeast-2/${service}/aws4_request,`),
    )
  })

  test.each(['AWS_ENDPOINT_URL', 'AWS_ENDPOINT_URL_RDS_DATA'])('is that of %s', async (variable) => {
    vi.stubEnv(variable, url)
    await dataApi({}).call()
    expect(taken).toHaveLength(1)
  })

  test("of a queue is its URL's, where the two differ", async () => {
    vi.spyOn(console, 'warn').mockImplementation(() => undefined) // the client says so
    await queue(url, {}).call()
    vi.restoreAllMocks()
    expect(taken).toHaveLength(1)
  })

  test('that could not be found out is looked for again by the next call', async () => {
    let known = false
    const endpoint = async () => {
      if (!known) throw new Error('not yet')
      const { protocol, hostname, port } = new URL(url)
      return { protocol, hostname, port: Number(port), path: '/' }
    }
    const { call } = dataApi({ endpoint, maxAttempts: 1 })
    await expect(call()).rejects.toThrow('not yet')
    known = true
    expect(await call()).toMatchObject(ROWS)
  })
})

describe('what AWS refuses', () => {
  test.each([
    ['a statement', failing(400, 'BadRequestException', 'ERROR: duplicate key; SQLState: 23505')],
    ['a database error', failing(400, 'DatabaseErrorException', 'ERROR: no; SQLState: 42703')],
    ['a paused database', failing(400, 'DatabaseResumingException')],
    ['a slow statement', failing(400, 'StatementTimeoutException')],
    [
      'a missing right',
      answering(403, { __type: 'com.amazon.coral.service#AccessDeniedException', Message: 'no' }),
    ],
    ['too many requests', failing(400, 'ThrottlingException')],
    ['a fault of its own', failing(500, 'InternalServerErrorException')],
    ['a database that is gone', failing(504, 'DatabaseUnavailableException')],
    ['what is newer than the SDK', failing(418, 'TeapotException')],
    ['without words', answering(400, {}, { 'x-amzn-errortype': 'ForbiddenException' })],
  ])('%s has the name, the words and the fault that the client gives it', async (_, reply) => {
    replies = [reply]
    const { send, call } = dataApi()
    const [theirs, ours] = [await refused(send()), await refused(call())]
    expect(ours).toEqual(theirs)
    expect(ours.$fault).toBe(ours.status < 500 ? 'client' : 'server')
  })

  test.each([
    ['a queue that is gone', 'QueueDoesNotExist', 'AWS.SimpleQueueService.NonExistentQueue;Sender'],
    ['too many requests', 'RequestThrottled', 'RequestThrottled;Sender'],
    ['what is newer than the SDK', 'TeapotException', ''],
  ])('of SQS likewise: %s', async (_, name, queryError) => {
    replies = [
      answering(
        400,
        { __type: `com.amazonaws.sqs#${name}`, message: 'words' },
        queryError === '' ? {} : { 'x-amzn-query-error': queryError },
      ),
    ]
    const { send, call } = queue()
    const [theirs, ours] = [await refused(send()), await refused(call())]
    expect(ours).toEqual(theirs)
    expect(ours.name).toBe(name)
  })

  test('and who answers in its stead, without JSON, is a fault of the server', async () => {
    replies = [answering(502, '<html>Bad Gateway</html>')]
    expect(await refused(dataApi().call())).toMatchObject({ $fault: 'server', status: 502 })
  })

  test('holds no answer of AWS that a logger would write out', async () => {
    replies = [failing(400, 'DatabaseErrorException', 'a value')]
    const error = await dataApi()
      .call()
      .catch((refusal) => refusal)
    expect(JSON.stringify({ ...error })).toBe(
      '{"$fault":"client","$metadata":{"httpStatusCode":400},"name":"DatabaseErrorException"}',
    )
  })
})

describe('is tried again', () => {
  test.each([
    ['after a 500', [failing(500, 'InternalServerErrorException')]],
    ['after a 503 of somebody in between', [answering(503, 'no JSON')]],
    ['where the connection is cut', [cut, cut]],
    ['where the answer is cut in the middle', [cutInTheMiddle]],
    ['where there are too many requests', [failing(400, 'ThrottlingException'), answering(429, '{}')]],
  ])('%s, up to the attempts of the client', async (_, before) => {
    replies = [...before, done]
    expect(await dataApi({ endpoint: url, maxAttempts: 3 }).call()).toMatchObject(ROWS)
    expect(taken).toHaveLength(before.length + 1)
    expect(new Set(taken.map(({ body }) => body)).size).toBe(1)
  })

  test('and no more often than that; what it was at last is told', async () => {
    replies = [cut, failing(500, 'InternalServerErrorException'), failing(503, 'ServiceUnavailableError')]
    expect(await refused(dataApi({ endpoint: url, maxAttempts: 3 }).call())).toMatchObject({
      name: 'ServiceUnavailableError',
    })
    expect(taken).toHaveLength(3)
  })

  test.each([
    ['a refusal', failing(400, 'BadRequestException')],
    ['a paused database', failing(400, 'DatabaseResumingException')],
    ['a missing right', failing(403, 'AccessDeniedException')],
  ])('never for %s', async (_, reply) => {
    replies = [reply]
    await refused(dataApi({ endpoint: url, maxAttempts: 3 }).call())
    expect(taken).toHaveLength(1)
  })

  test.each([cut, cutInTheMiddle, failing(500, 'InternalServerErrorException'), answering(429, '{}')])(
    'never where one attempt is all there is (%#)',
    async (reply) => {
      replies = [reply]
      await expect(dataApi().call()).rejects.toThrow()
      expect(taken).toHaveLength(1)
    },
  )

  test('after a while without an answer, which is then a TimeoutError', async () => {
    replies = [silent]
    const requestHandler = { requestTimeout: 200, throwOnRequestTimeout: true }
    const { call } = dataApi({ endpoint: url, maxAttempts: 2, requestHandler })
    expect(await refused(call())).toMatchObject({ name: 'TimeoutError' })
    expect(taken).toHaveLength(2)
  })
})

/** Not for the seconds that the product waits. */
const IMPATIENT_CLIENT = { requestTimeoutMs: 100 }

describe('as the product makes it', () => {
  const options = () => {
    const { resourceArn = '', secretArn = '', database = '' } = STATEMENT
    return { databaseClusterArn: resourceArn, databaseSecretArn: secretArn, databaseName: database }
  }

  test('an impatient statement is sent once, whatever becomes of it', async () => {
    vi.stubEnv('AWS_ENDPOINT_URL_RDS_DATA', url)
    for (const reply of [
      cut,
      failing(500, 'InternalServerErrorException'),
      failing(400, 'DatabaseResumingException'),
    ]) {
      replies = [reply]
      taken = []
      const database = openDatabase({ ...options(), ...IMPATIENT })
      await expect(database.execute('select 1')).rejects.toMatchObject({ code: 'unavailable' })
      expect(taken).toHaveLength(1)
    }
  })

  test('a statement that is not answered within its time is unavailable', async () => {
    vi.stubEnv('AWS_ENDPOINT_URL_RDS_DATA', url)
    replies = [silent]
    const database = openDatabase({ ...options(), attempts: 1, requestTimeoutMs: 200 })
    await expect(database.execute('select 1')).rejects.toMatchObject({
      code: 'unavailable',
      cause: { name: 'TimeoutError' },
    })
  })

  test('a bucket that does not answer within its time is unavailable, whatever it was asked', async () => {
    vi.stubEnv('AWS_ENDPOINT_URL_S3', url)
    replies = [silent]
    const bucket = openBucket('content', IMPATIENT_CLIENT)
    const asked: (() => Promise<unknown>)[] = [
      () => bucket.put('a', 'text'),
      () => bucket.get('a'),
      () => bucket.getRange('a', { offset: 0, length: 10 }),
      () => bucket.getStream('a'),
      () => bucket.has('a'),
      () => Array.fromAsync(bucket.list('a')),
      () => bucket.delete('a'),
      () => bucket.sendPart('a', 'an upload', 1, Buffer.from('a part')),
    ]
    for (const ask of asked) {
      taken = []
      await expect(ask()).rejects.toMatchObject({ code: 'unavailable', cause: { name: 'TimeoutError' } })
      expect(taken).toHaveLength(3)
    }
  })

  test('a Secrets Manager that does not answer within its time makes its secrets unavailable', async () => {
    vi.stubEnv('AWS_ENDPOINT_URL_SECRETS_MANAGER', url)
    replies = [silent]
    const { key } = openSecrets({ key: 'an ARN' }, IMPATIENT_CLIENT)
    await expect(key()).rejects.toMatchObject({ code: 'unavailable', cause: { name: 'TimeoutError' } })
    expect(taken).toHaveLength(3)
    taken = []
    const versions = openVersionedSecret('an ARN', IMPATIENT_CLIENT)
    await expect(versions.read('AWSCURRENT')).rejects.toMatchObject({ name: 'TimeoutError' })
    expect(taken).toHaveLength(3)
  })

  test('a queue that does not answer is given up after two attempts of 3 s each', async () => {
    vi.stubEnv('AWS_ENDPOINT_URL_SQS', url)
    replies = [silent]
    const { send } = openTurnQueue(`${url}/000000000000/turns`)
    const tenant = { companyId: 'acme', platform: 'web' }
    await expect(send([{ tenant, body: { records: [] } }])).rejects.toMatchObject({
      code: 'unavailable',
      cause: { name: 'TimeoutError' },
    })
    expect(taken).toHaveLength(2)
  }, 30_000)

  test('what SQS has refused of a batch is told by its codes alone', async () => {
    vi.stubEnv('AWS_ENDPOINT_URL_SQS', url)
    replies = [
      answering(200, {
        Successful: [],
        Failed: [{ Id: '0', Code: 'InvalidMessageContents', Message: 'a value' }],
      }),
    ]
    const { send } = openTurnQueue(`${url}/000000000000/turns`)
    const tenant = { companyId: 'acme', platform: 'web' }
    await expect(send([{ tenant, body: { records: [] } }])).rejects.toMatchObject({
      code: 'unavailable',
      cause: { message: 'refused: InvalidMessageContents' },
    })
  })
})
