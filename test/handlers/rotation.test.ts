/** The rotation of the functions' login, on a server where it logs in with its password: no call fails meanwhile. */
import {
  DescribeSecretCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
} from '@aws-sdk/client-secrets-manager'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { rotate as rotateStep } from '../../lambdas/logins/rotate.ts'
import { type CrashablePostgres, startEmbeddedServer } from '../harness/postgres-server.ts'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

const STEPS = ['createSecret', 'setSecret', 'testSecret', 'finishSecret']

let server: CrashablePostgres
let turnkeep: Turnkeep
let secret: string
let secretsManager: SecretsManagerClient
beforeAll(async () => {
  server = await startEmbeddedServer()
  turnkeep = await startTurnkeep({ databaseUrl: server.url, realLogins: true })
  secret = turnkeep.cloud.functionEnvironment.DATABASE_SECRET_ARN ?? ''
  secretsManager = new SecretsManagerClient({
    endpoint: turnkeep.cloud.secrets.url,
    region: 'us-east-1',
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  })
})
afterAll(async () => {
  await turnkeep?.close()
  await server?.close()
})

const current = () =>
  JSON.parse(turnkeep.cloud.secrets.valueOf(secret) ?? '') as { username: string; password: string }
const invoke = async (step: string, version: string, more = {}) => {
  const event = { Step: step, SecretId: secret, ClientRequestToken: version, ...more }
  await turnkeep.cloud.runtimeApi.invoke('rotate', JSON.stringify(event), { waitMs: 10_000 })
}
const begin = () => turnkeep.cloud.secrets.beginRotation(secret)
/** As Secrets Manager does it: a version of its own, then one step after the other. */
async function rotate(version = begin()): Promise<void> {
  for (const step of STEPS) await invoke(step, version)
}
/** Whether Postgres takes this password, past everything else. */
async function accepts({ username, password }: { username: string; password: string }): Promise<boolean> {
  const url = Object.assign(new URL(server.url), { username, password })
  const client = new pg.Client({ connectionString: url.href })
  return client.connect().then(
    () => client.end().then(() => true),
    (error) => {
      expect(error).toMatchObject({ code: '28P01' })
      return false
    },
  )
}
const ask = async (user = 'u1') => {
  const { terminal } = await turnkeep.as({ userId: user }).ask('hello')
  return terminal?.type
}
const other = (username: string) => (username === 'turnkeep_app_1' ? 'turnkeep_app_2' : 'turnkeep_app_1')

test('the functions are a login of the secret, with its password, and nothing else', async () => {
  expect(current().username).toBe('turnkeep_app_1')
  expect(await accepts(current())).toBe(true)
  expect(await ask()).toBe('done')
  const users = await turnkeep.rows(
    `select distinct usename::text as name from pg_stat_activity where application_name = 'turnkeep-data-api' order by 1`,
  )
  expect(users).toEqual([{ name: 'turnkeep' }, { name: 'turnkeep_app_1' }])
})

test('a rotation hands over to the other login, and the one before is good until the next', async () => {
  const before = current()
  await rotate()
  const after = current()
  expect(after.username).toBe(other(before.username))
  expect([await accepts(before), await accepts(after)]).toEqual([true, true])
  expect(await ask()).toBe('done')
  await rotate()
  expect(current().username).toBe(before.username)
  expect([await accepts(before), await accepts(after), await accepts(current())]).toEqual([false, true, true])
})

test('no answer fails while the login rotates again and again', async () => {
  let over = false
  const traffic = Array.from({ length: 6 }, async (_, index) => {
    const endings: (string | undefined)[] = []
    while (!over) endings.push(await ask(`traffic ${index}`))
    return endings
  })
  for (let round = 0; round < 6; round += 1) await rotate()
  over = true
  const endings = (await Promise.all(traffic)).flat()
  expect(endings.length).toBeGreaterThan(12)
  expect(new Set(endings)).toEqual(new Set(['done']))
  await turnkeep.drained()
  expect(turnkeep.output()).not.toContain('28P01')
}, 60_000)

describe('a rotation', () => {
  test.each(STEPS)('that is killed after %s is completed by a repetition of all', async (last) => {
    const before = current()
    const version = begin()
    for (const step of STEPS.slice(0, STEPS.indexOf(last) + 1)) await invoke(step, version)
    await turnkeep.killFunctions()
    expect(await ask()).toBe('done')
    await rotate(version)
    expect(current().username).toBe(other(before.username))
    expect(await accepts(current())).toBe(true)
    expect(await ask()).toBe('done')
  })

  test('whose steps are each done twice ends as if they were done once', async () => {
    const before = current()
    const version = begin()
    for (const step of STEPS) for (let time = 0; time < 2; time += 1) await invoke(step, version)
    await rotate(version)
    expect(current().username).toBe(other(before.username))
    expect(await accepts(current())).toBe(true)
  })

  test('that was given up is followed by another one', async () => {
    const before = current()
    const abandoned = begin()
    for (const step of ['createSecret', 'setSecret']) await invoke(step, abandoned)
    await rotate()
    expect(current().username).toBe(other(before.username))
    expect(await accepts(current())).toBe(true)
  })

  test('does not test well before its password is set', async () => {
    const version = begin()
    await invoke('createSecret', version)
    await expect(invoke('testSecret', version)).rejects.toThrow(
      `does not stand ready with version ${version}`,
    )
    await rotate(version)
  })

  test('that hands over to a login which Postgres refuses takes it back at once', async () => {
    const before = current()
    const version = begin()
    for (const step of ['createSecret', 'setSecret', 'testSecret']) await invoke(step, version)
    await turnkeep.rows(`alter role ${other(before.username)} password 'changed by hand'`)
    await expect(invoke('finishSecret', version)).rejects.toThrow()
    expect(current()).toEqual(before)
    expect(await ask()).toBe('done')
    await rotate(version)
    expect(current().username).toBe(other(before.username))
  })

  test('is tried by Secrets Manager with a version like the current one, when it is switched on', async () => {
    const version = begin()
    await secretsManager.send(
      new PutSecretValueCommand({
        SecretId: secret,
        ClientRequestToken: version,
        SecretString: JSON.stringify(current()),
        VersionStages: ['AWSPENDING'],
      }),
    )
    await invoke('testSecret', version)
  })

  test.each([
    ['an unknown step', 'deleteSecret', {}, 'no step deleteSecret'],
    ['a step that every object has', 'constructor', {}, 'no step constructor'],
    ['an unknown version', 'setSecret', { ClientRequestToken: 'a'.repeat(36) }, 'has no version'],
    [
      'another secret',
      'setSecret',
      { SecretId: 'arn:aws:secretsmanager:us-east-1:000000000000:secret:turnkeep-owner' },
      'is not the app secret',
    ],
  ])('with %s is refused', async (_title, step, more, words) => {
    const before = current()
    await expect(invoke(step, begin(), more)).rejects.toThrow(words)
    expect(current()).toEqual(before)
  })
})

test('a version that is not pending any more is refused', async () => {
  await rotate()
  const { VersionIdsToStages = {} } = await secretsManager.send(
    new DescribeSecretCommand({ SecretId: secret }),
  )
  const [previous = ''] =
    Object.entries(VersionIdsToStages).find(([, labels]) => labels.includes('AWSPREVIOUS')) ?? []
  begin()
  await expect(invoke('setSecret', previous)).rejects.toThrow('is not the pending one')
})

test('a secret whose rotation is not switched on is refused', async () => {
  const untouched = () => expect.fail('it was used')
  const services = {
    secret: {
      describe: async () => ({ rotates: false, stages: { v1: ['AWSPENDING'] } }),
      read: untouched,
      putPending: untouched,
      moveCurrent: untouched,
    },
    database: { call: untouched, execute: untouched },
    isLoginRefused: untouched,
  }
  await expect(rotateStep(services, 'createSecret', 'v1')).rejects.toThrow('not switched on')
})

test('migrate mends a login that Postgres refuses', async () => {
  await turnkeep.rows(`alter role ${current().username} password 'changed by hand'`)
  expect(await accepts(current())).toBe(false)
  await turnkeep.cloud.runtimeApi.invoke('migrate', '{}', { waitMs: 10_000 })
  expect(await accepts(current())).toBe(true)
})

test('no password and no verifier is written to a log', () => {
  expect(turnkeep.output()).toContain('login rotated by a step')
  expect(turnkeep.output()).not.toContain(current().password)
  expect(turnkeep.output()).not.toMatch(/SCRAM-SHA-256|"password"/)
})
