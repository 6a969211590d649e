import { once } from 'node:events'
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeAll, expect, test } from 'vitest'
import { type DatabaseOptions, openDatabase } from '../../lambdas/services/database.ts'
import { startDataApi } from '../../local/cloud/data-api.ts'
import { startPostgres } from '../../local/cloud/postgres.ts'
import { loginSecrets } from '../harness/login-secrets.ts'
import { migratedDump } from '../harness/migrated.ts'

/** A database that is paused: the first requests wake it and are told so. */
let resuming = 0
let requests = 0
let dataApi: { url: string; close(): Promise<void> }
const closers: (() => unknown)[] = []

const options = (): DatabaseOptions => ({
  databaseClusterArn: 'arn:aws:rds:us-east-1:000000000000:cluster:turnkeep',
  databaseSecretArn: 'arn:aws:secretsmanager:us-east-1:000000000000:secret:turnkeep-owner',
  databaseName: 'turnkeep',
})

beforeAll(async () => {
  const postgres = await startPostgres({ beginWith: await migratedDump() })
  dataApi = await startDataApi({ postgres, secretOf: loginSecrets(postgres) })
  const door = createServer((request, response) => {
    requests += 1
    if (requests > resuming) forward(request, response)
    else
      response
        .writeHead(400, {
          'x-amzn-errortype': 'DatabaseResumingException',
          'content-type': 'application/json',
        })
        .end('{"message":"The Aurora DB instance is resuming after being auto-paused."}')
  }).listen(0, '127.0.0.1')
  await once(door, 'listening')
  Object.assign(process.env, {
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: 'test',
    AWS_SECRET_ACCESS_KEY: 'test',
    AWS_ENDPOINT_URL_RDS_DATA: `http://127.0.0.1:${(door.address() as AddressInfo).port}`,
  })
  return async () => {
    door.closeAllConnections()
    door.close()
    await dataApi.close()
    await postgres.close()
  }
})
afterEach(() => {
  requests = 0
  for (const close of closers.splice(0)) close()
})

function forward(request: IncomingMessage, response: ServerResponse): void {
  const onward = httpRequest(
    `${dataApi.url}${request.url}`,
    { method: request.method, headers: request.headers },
    (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers)
      answer.pipe(response)
    },
  )
  request.pipe(onward)
}

test('a database that wakes up within the budget is waited for', async () => {
  resuming = 3
  const rows = await openDatabase({ ...options(), wakingBudgetMs: 10_000 }).execute('select 1 as one')
  expect(rows).toEqual([{ one: 1 }])
  expect(requests).toBe(4)
})

test('a database that does not wake up within the budget is unavailable', async () => {
  resuming = Number.POSITIVE_INFINITY
  const database = openDatabase({ ...options(), wakingBudgetMs: 1_200 })
  await expect(database.execute('select 1')).rejects.toMatchObject({ code: 'unavailable' })
  expect(requests).toBeGreaterThan(1)
  expect(requests).toBeLessThan(6)
})

test('what Postgres gave up for the sake of another transaction is sent again, as often as any other fault', async () => {
  resuming = 0
  const database = openDatabase(options())
  const lost = `do $$ begin raise exception using errcode = '40P01'; end $$`
  await expect(database.execute(lost)).rejects.toMatchObject({ code: 'unavailable' })
  expect(requests).toBe(3)
  requests = 0
  await expect(openDatabase({ ...options(), attempts: 1 }).execute(lost)).rejects.toMatchObject({
    code: 'unavailable',
  })
  expect(requests).toBe(1)
})

test('what Postgres refuses is known by its code, and its words are kept only where they quote no value', async () => {
  resuming = 0
  const database = openDatabase(options())
  const refused = (sql: string) => database.execute(sql).catch((error) => error)
  expect(await refused('select nonsense')).toMatchObject({
    sqlState: '42703',
    message: expect.stringContaining('nonsense'),
  })
  const quoting = await refused(`select 'secret-value'::integer`)
  expect(quoting).toMatchObject({ sqlState: '22P02' })
  expect(JSON.stringify([quoting.message, quoting.stack, quoting.cause])).not.toContain('secret-value')
})
