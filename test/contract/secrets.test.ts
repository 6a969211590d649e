/** What the product may rely on in Secrets Manager, by its own client on the local one; and what is made of it. */
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  DescribeSecretCommand,
  GetSecretValueCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
  UpdateSecretVersionStageCommand,
} from '@aws-sdk/client-secrets-manager'
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { openChatModel } from '../../lambdas/services/chat-model.ts'
import { openSecrets, openVersionedSecret } from '../../lambdas/services/secrets.ts'
import type { Call } from '../../local/cloud/calls.ts'
import { type Secrets, type SecretsOptions, startSecrets } from '../../local/cloud/secrets.ts'
import { markCalls } from '../../local/functions/mark-calls.ts'

const arnOf = (name: string) => `arn:aws:secretsmanager:us-east-1:000000000000:secret:${name}`
const APP = arnOf('app')
const KEY = arnOf('key')
const FIVE_MINUTES_MS = 5 * 60_000

let secrets: Secrets
let client: SecretsManagerClient
let calls: Call[]
let allowed: boolean
const closers: (() => unknown)[] = []

beforeAll(() => markCalls('test'))
beforeEach(async () => {
  calls = []
  allowed = true
  secrets = await start()
})
afterEach(async () => {
  vi.useRealTimers()
  for (const close of closers.splice(0)) await close()
})

async function start(options: Partial<SecretsOptions> = {}): Promise<Secrets> {
  const started = await startSecrets({
    given: { key: 'the key' },
    made: { app: () => 'first' },
    rotating: ['app'],
    arnOf,
    gate: (call) => calls.push(call) > 0 && allowed,
    ...options,
  })
  let isClosed = false
  const close = async () => {
    if (!isClosed) await started.close()
    isClosed = true
  }
  closers.push(close)
  Object.assign(process.env, {
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: 'test',
    AWS_SECRET_ACCESS_KEY: 'test',
    AWS_ENDPOINT_URL_SECRETS_MANAGER: started.url,
  })
  client = new SecretsManagerClient({ maxAttempts: 1 })
  return { ...started, close }
}

const put = (SecretId: string, SecretString: string, more = {}) =>
  client.send(new PutSecretValueCommand({ SecretId, SecretString, ...more }))
const get = async (SecretId: string, more = {}) =>
  (await client.send(new GetSecretValueCommand({ SecretId, ...more }))).SecretString
const stages = async (SecretId = APP) => {
  const { VersionIdsToStages = {} } = await client.send(new DescribeSecretCommand({ SecretId }))
  return VersionIdsToStages
}
const versionWith = async (label: string) =>
  Object.entries(await stages()).find(([, labels]) => labels.includes(label))?.[0] ?? ''

describe('Secrets Manager', () => {
  test('gives the current value by ARN and by name', async () => {
    expect(await client.send(new GetSecretValueCommand({ SecretId: APP }))).toMatchObject({
      ARN: APP,
      Name: 'app',
      SecretString: 'first',
      VersionId: expect.any(String),
      VersionStages: ['AWSCURRENT'],
      CreatedDate: expect.any(Date),
    })
    expect(await get('app')).toBe('first')
  })

  test('says whether a secret rotates, and the labels of its versions', async () => {
    expect(await client.send(new DescribeSecretCommand({ SecretId: APP }))).toMatchObject({
      RotationEnabled: true,
      VersionIdsToStages: { [await versionWith('AWSCURRENT')]: ['AWSCURRENT'] },
    })
    expect(await client.send(new DescribeSecretCommand({ SecretId: KEY }))).toMatchObject({
      RotationEnabled: false,
    })
  })

  test('a value that is put is the current one, and what was is the previous one', async () => {
    const before = await versionWith('AWSCURRENT')
    await put(APP, 'second')
    await put(APP, 'third')
    expect(await get(APP)).toBe('third')
    expect(await get(APP, { VersionStage: 'AWSPREVIOUS' })).toBe('second')
    expect(Object.keys(await stages())).not.toContain(before)
  })

  test('a rotation has a pending version without a value, then with one, then as the current one', async () => {
    const before = await versionWith('AWSCURRENT')
    const id = secrets.beginRotation(APP)
    expect(await stages()).toEqual({ [before]: ['AWSCURRENT'], [id]: ['AWSPENDING'] })
    const pending = { VersionId: id, VersionStage: 'AWSPENDING' }
    await expect(get(APP, pending)).rejects.toMatchObject({ name: 'ResourceNotFoundException' })

    const asPending = { ClientRequestToken: id, VersionStages: ['AWSPENDING'] }
    await put(APP, 'second', asPending)
    await put(APP, 'second', asPending)
    await expect(put(APP, 'another', asPending)).rejects.toMatchObject({ name: 'ResourceExistsException' })
    expect([await get(APP, pending), await get(APP)]).toEqual(['second', 'first'])

    const move = { SecretId: APP, VersionStage: 'AWSCURRENT', MoveToVersionId: id }
    await expect(client.send(new UpdateSecretVersionStageCommand(move))).rejects.toMatchObject({
      name: 'InvalidParameterException',
    })
    await client.send(new UpdateSecretVersionStageCommand({ ...move, RemoveFromVersionId: before }))
    expect(await stages()).toEqual({ [before]: ['AWSPREVIOUS'], [id]: ['AWSPENDING', 'AWSCURRENT'] })
    expect(await get(APP)).toBe('second')

    const back = { ...move, RemoveFromVersionId: id, MoveToVersionId: before }
    await client.send(new UpdateSecretVersionStageCommand(back))
    expect(await stages()).toEqual({ [before]: ['AWSCURRENT'], [id]: ['AWSPENDING', 'AWSPREVIOUS'] })
  })

  test.each([
    ['a secret that is not there', { SecretId: arnOf('other') }, 'ResourceNotFoundException'],
    ['a version that is not there', { VersionId: 'a'.repeat(32) }, 'ResourceNotFoundException'],
    ['a label that is nowhere', { VersionStage: 'AWSPENDING' }, 'ResourceNotFoundException'],
  ])('%s is not found', async (_title, more, name) => {
    await expect(get(APP, more)).rejects.toMatchObject({ name })
  })

  test('a version without the label that is asked for is refused', async () => {
    const wrong = { VersionId: await versionWith('AWSCURRENT'), VersionStage: 'AWSPENDING' }
    await expect(get(APP, wrong)).rejects.toMatchObject({ name: 'InvalidRequestException' })
  })

  test('tells what functions ask for, and refuses what they may not', async () => {
    await get(APP)
    expect(calls).toEqual([
      { function: 'test', action: 'secretsmanager:GetSecretValue', resource: APP, conditions: {} },
    ])
    allowed = false
    await expect(put(APP, 'stolen')).rejects.toMatchObject({ name: 'AccessDeniedException' })
    expect(secrets.valueOf(APP)).toBe('first')
  })

  test('what was made and changed is there after a restart, for its owner alone; what was given is not kept', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'turnkeep-secrets-'))
    const file = join(directory, 'state', 'secrets.json')
    await start({ file })
    await put(APP, 'second')
    await put(KEY, 'another key')
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect(await readFile(file, 'utf8')).not.toContain('key')
    const labels = await stages()

    await start({ file, made: { app: () => 'never made' } })
    expect(await get(APP)).toBe('second')
    expect(await stages()).toEqual(labels)
    expect(await get(KEY)).toBe('the key')
    await rm(directory, { recursive: true })
  })
})

describe('a secret that is read', () => {
  const open = () => openSecrets({ key: KEY, app: APP })

  test('is asked for before it is needed, once for all who need it, and then kept', async () => {
    const { key, app } = open()
    expect(await Promise.all([key(), key(), app(), key()])).toEqual([
      'the key',
      'the key',
      'first',
      'the key',
    ])
    await key()
    expect(calls.map(({ resource }) => resource).sort()).toEqual([APP, KEY])
  })

  test('comes without the line break of a value that was typed', async () => {
    await put(KEY, 'typed\n')
    expect(await open().key()).toBe('typed')
  })

  test('is used for five minutes after it was corrected, and then read again, by one', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() })
    const { key } = open()
    await key()
    await put(KEY, 'corrected')
    vi.setSystemTime(Date.now() + FIVE_MINUTES_MS - 1_000)
    expect(await key()).toBe('the key')
    vi.setSystemTime(Date.now() + 1_000)
    calls = []
    expect(await Promise.all([key(), key(), key()])).toEqual(Array(3).fill('corrected'))
    expect(calls.filter(({ resource }) => resource === KEY)).toHaveLength(1)
  })

  test('stays what it was while it cannot be read, and is not asked for by every request', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() })
    const { key } = open()
    await key()
    allowed = false
    vi.setSystemTime(Date.now() + FIVE_MINUTES_MS)
    expect(await key()).toBe('the key')
    calls = []
    expect(await key()).toBe('the key')
    expect(calls).toEqual([])
    allowed = true
    await put(KEY, 'corrected')
    vi.setSystemTime(Date.now() + 10_000)
    expect(await key()).toBe('corrected')
  })

  test('that was never read is unavailable, and read as soon as it can be', async () => {
    allowed = false
    const { key } = open()
    await expect(key()).rejects.toMatchObject({
      code: 'unavailable',
      cause: { name: 'AccessDeniedException' },
    })
    allowed = true
    expect(await key()).toBe('the key')
  })

  test('when nothing answers is unavailable, and nothing else fails', async () => {
    await secrets.close()
    await expect(open().key()).rejects.toMatchObject({ code: 'unavailable' })
  })

  test('by its versions is what it is now', async () => {
    const app = openVersionedSecret(APP)
    const id = secrets.beginRotation(APP)
    expect(await app.read('AWSPENDING', id)).toBeUndefined()
    await app.putPending({ id, text: 'second' })
    expect(await app.read('AWSPENDING', id)).toEqual({ id, text: 'second' })
    const before = await versionWith('AWSCURRENT')
    expect(await app.describe()).toEqual({
      rotates: true,
      stages: { [before]: ['AWSCURRENT'], [id]: ['AWSPENDING'] },
    })
    await app.moveCurrent(before, id)
    expect(await app.read('AWSCURRENT')).toEqual({ id, text: 'second' })
    await expect(app.moveCurrent(before, id)).rejects.toMatchObject({ name: 'InvalidParameterException' })
  })
})

describe('the model’s key', () => {
  /** A model that knows one key. */
  async function startModel(key: string) {
    const asked: (string | undefined)[] = []
    const server = createServer((request, response) => {
      asked.push(request.headers.authorization)
      const isKnown = request.headers.authorization === `Bearer ${key}`
      response.writeHead(isKnown ? 200 : 401, {
        'content-type': isKnown ? 'text/event-stream' : 'application/json',
      })
      const end = { choices: [{ index: 0, delta: { content: 'hello' }, finish_reason: 'stop' }] }
      response.end(
        isKnown
          ? `data: ${JSON.stringify(end)}\n\ndata: [DONE]\n\n`
          : JSON.stringify({ error: { message: 'Incorrect key: not set', code: 'invalid_api_key' } }),
      )
    }).listen(0, '127.0.0.1')
    await vi.waitFor(() => expect(server.listening).toBe(true))
    closers.push(() => server.close().closeAllConnections())
    return { asked, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1` }
  }

  async function answer(baseUrl: string, apiKey: () => Promise<string>) {
    const model = openChatModel({ baseUrl, apiKey, firstTokenMs: 5_000, silenceMs: 5_000 })
    const said: string[] = []
    const { finishReason } = await model.stream(
      { model: 'm', messages: [{ role: 'user', content: 'a question' }], answerTokens: 0 },
      new AbortController().signal,
      (content) => {
        said.push(content)
        return undefined
      },
    )
    return [...said, finishReason]
  }

  test('that was corrected is used without a restart', async () => {
    const model = await startModel('right')
    let key = 'wrong'
    const read = async () => key
    await expect(answer(model.url, read)).rejects.toMatchObject({ code: 'model_unavailable' })
    key = 'right'
    expect(await answer(model.url, read)).toEqual(['hello', 'stop'])
  })

  test('that nobody has set yet is told in words that say what to do, without the key', async () => {
    const model = await startModel('right')
    const failure = await answer(model.url, async () => 'placeholder').catch((error) => error)
    expect(failure).toMatchObject({
      code: 'model_unavailable',
      details: { retryable: false },
      cause: {
        message: expect.stringMatching(
          /^the endpoint refused the key \(401 invalid_api_key\): put the model's key into the secret/,
        ),
      },
    })
    expect(failure.cause.message).not.toContain('placeholder')
    expect(model.asked).toEqual(['Bearer placeholder'])
  })

  test('that cannot be read makes the model unavailable, for a while', async () => {
    const model = await startModel('right')
    await secrets.close()
    const { key } = openSecrets({ key: KEY })
    await expect(answer(model.url, key)).rejects.toMatchObject({
      code: 'model_unavailable',
      details: { retryable: true },
    })
    expect(model.asked).toEqual([])
  })
})
