import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { resolve } from 'node:path'
import { PurgeQueueCommand, SendMessageCommand, SQSClient } from '@aws-sdk/client-sqs'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'
import { COMPILE_CACHE } from '../../local/compile-cache.ts'
import { ACME, startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

const OPS = resolve(import.meta.dirname, '../../ops/main.ts')
const SECRET = '남이 보면 안 되는 말'

let turnkeep: Turnkeep
let sqs: SQSClient
beforeAll(async () => {
  turnkeep = await startTurnkeep({ name: 'dead_letters' })
  sqs = new SQSClient({
    endpoint: turnkeep.cloud.fauxqs.address,
    region: 'us-east-1',
    credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
  })
})
afterAll(async () => {
  sqs.destroy()
  await turnkeep.close()
})

interface Run {
  code: number | null
  out: string
  err: string
}

const running = (args: string[], environment: Record<string, string> = {}): ChildProcess =>
  spawn(process.execPath, [OPS, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env.PATH, ...COMPILE_CACHE, ...turnkeep.cloud.functionEnvironment, ...environment },
  })

async function finished(child: ChildProcess): Promise<Run> {
  const text = { out: '', err: '' }
  child.stdout?.setEncoding('utf8').on('data', (chunk) => (text.out += chunk))
  child.stderr?.setEncoding('utf8').on('data', (chunk) => (text.err += chunk))
  const [code] = await once(child, 'close')
  return { code, ...text }
}

const ops = (...args: string[]): Promise<Run> => finished(running(['dead-letters', ...args]))

interface Listed {
  id: string
  reason: string | null
  kind: string
  tenants: string[]
  messageIds: string[]
  diedAt: string | null
  receives: number
}
const listed = async (): Promise<Listed[]> => JSON.parse((await ops('list', '--json')).out)

const recordOf = (over: Partial<Record<keyof MessageRecord, unknown>> = {}) => ({
  company_id: ACME.companyId,
  platform: ACME.platform,
  id: randomUUID(),
  session_id: randomUUID(),
  thread_id: 'main',
  role: 'user',
  content: SECRET,
  content_key: null,
  status: 'complete',
  token_count: null,
  response_time_ms: null,
  model: null,
  sources: [],
  metadata: {},
  parent_message_id: null,
  sequence_number: 1,
  created_at: new Date().toISOString(),
  user_id: 'u1',
  ...over,
})
type Fixture = ReturnType<typeof recordOf>

async function send(queue: 'turns' | 'turns-dead', body: unknown, attributes: Record<string, string> = {}) {
  const { MessageId = '' } = await sqs.send(
    new SendMessageCommand({
      QueueUrl: turnkeep.cloud.fauxqs.queueUrl(queue),
      MessageBody: typeof body === 'string' ? body : JSON.stringify(body),
      MessageAttributes: Object.fromEntries(
        Object.entries(attributes).map(([name, value]) => [name, { DataType: 'String', StringValue: value }]),
      ),
    }),
  )
  return MessageId
}
const bury = (record: Fixture, reason = '23505') => send('turns-dead', { records: [record] }, { reason })
/** What lies in the dead letters, held or not, without receiving it. */
const letters = () => {
  const { ready = [], inflight = [] } = turnkeep.cloud.fauxqs.inspectQueue('turns-dead')?.messages ?? {}
  return { ready: ready.length, held: inflight.length }
}
const saved = async (...records: Fixture[]) =>
  (
    await turnkeep.rows<{ id: string }>(
      `select id from chat_messages where id in (${records.map(({ id }) => `'${id}'`)}) order by saved_at, id`,
    )
  ).map(({ id }) => id)

/** A session that another tenant has already: saving a record of it is refused until that one is gone. */
const OTHER = { companyId: 'other', platform: 'web' }
async function takenSession(): Promise<string> {
  const { body } = await turnkeep
    .as(OTHER)
    .call<{ sessionId: string }>('POST', '/api/sessions', { title: 'taken' })
  return body.sessionId
}
const freeSession = (id: string) => turnkeep.rows(`delete from chat_sessions where id = '${id}'`, OTHER)

/** Each test starts from no letters. */
beforeEach(async () => {
  await turnkeep.drained()
  await sqs.send(new PurgeQueueCommand({ QueueUrl: turnkeep.cloud.fauxqs.queueUrl('turns-dead') }))
})

describe('a record that cannot be saved', () => {
  test('dies alone; list and show say why, and redriving saves it once the cause is gone', async () => {
    const session_id = await takenSession()
    const mates = [recordOf(), recordOf({ role: 'assistant' })]
    const refused = recordOf({ session_id })
    const unreadable = recordOf({ sequence_number: 0 })
    const sent = await Promise.all(
      [...mates, refused, unreadable].map((record) => send('turns', { records: [record] })),
    )
    await turnkeep.drained()
    expect(await saved(...mates, refused, unreadable)).toEqual(
      expect.arrayContaining(mates.map(({ id }) => id)),
    )
    expect(letters()).toEqual({ ready: 2, held: 0 })

    const found = await listed()
    const byReason = (reason: string) => found.find((letter) => letter.reason === reason)
    expect(byReason('23505')).toMatchObject({
      kind: 'question',
      tenants: ['acme/web'],
      messageIds: [refused.id],
      diedAt: expect.stringMatching(/^20/),
    })
    expect(byReason('unreadable')).toMatchObject({ kind: 'unreadable', messageIds: [unreadable.id] })

    const list = await ops('list')
    expect(list).toMatchObject({ code: 0 })
    for (const text of [refused.id, unreadable.id, '23505', 'unreadable', 'acme/web', '2 dead letters.'])
      expect(list.out).toContain(text)
    const shown = await ops('show', byReason('23505')?.id ?? '')
    expect(shown.code).toBe(0)
    expect(shown.out).toMatch(/reason +SQLSTATE 23505: the session’s id is taken by another tenant/)
    expect(shown.out).toContain(`"session_id": "${session_id}"`)
    // The log names the message that died: that id works, too.
    const byLog = await ops('show', sent[3] ?? '')
    expect(byLog.out).toMatch(/refused, because\n +records\.0\.sequence_number must be >=1, is 0/)

    await freeSession(session_id)
    const redriven = await ops('redrive')
    expect(redriven.code).toBe(1) // the unreadable one is refused
    expect(redriven.out).toContain('1 dead letter sent back, 1 stays')
    await turnkeep.drained()
    expect(await saved(refused, unreadable)).toEqual([refused.id])
    expect((await listed()).map(({ reason }) => reason)).toEqual(['unreadable'])
  })

  test('dies again when it is redriven too early, and does not go round and round', async () => {
    const refused = recordOf({ session_id: await takenSession() })
    await bury(refused)
    let receives = 0
    // The second look comes only when persist has buried it anew.
    await using gate = await startGate(async (operation) => {
      if (operation === 'ReceiveMessage' && ++receives === 2)
        await expect.poll(() => letters().ready, { timeout: 10_000 }).toBe(1)
      return true
    })
    const run = await finished(running(['dead-letters', 'redrive'], { AWS_ENDPOINT_URL_SQS: gate.url }))
    expect(run.code).toBe(1)
    expect(run.out).toMatch(/^sent .*\ndied again .*SQLSTATE 23505/m)
    expect((await listed()).map(({ reason, messageIds }) => [reason, messageIds])).toEqual([
      ['23505', [refused.id]],
    ])
  })

  test('that the queue itself moved is listed and redriven, too', async () => {
    const record = recordOf({ role: 'assistant' })
    await send('turns-dead', { records: [record] })
    const [letter] = await listed()
    expect(letter).toMatchObject({ reason: null, diedAt: null, kind: 'answer' })
    expect((await ops('list')).out).toMatch(/after 20.* too many receives/)
    expect((await ops('show', letter?.id ?? '')).out).toContain('too many receives')
    expect((await ops('redrive', letter?.id ?? '')).code).toBe(0)
    await turnkeep.drained()
    expect(await saved(record)).toEqual([record.id])
  })
})

describe('a look', () => {
  test('finds every letter of many and hides none from a redrive that follows', async () => {
    const records = Array.from({ length: 37 }, () => recordOf())
    await Promise.all(records.map((record) => bury(record)))
    expect(await listed()).toHaveLength(37)
    expect(letters()).toEqual({ ready: 37, held: 0 })
    expect((await ops('redrive')).out).toContain('37 dead letters sent back')
    await turnkeep.drained()
    expect(await saved(...records)).toHaveLength(37)
    expect((await ops('list')).out).toBe('There are no dead letters.\n')
  })

  test('that is interrupted gives every letter back', async () => {
    await Promise.all(Array.from({ length: 5 }, () => bury(recordOf())))
    const child = running(['dead-letters', 'list'])
    const end = finished(child)
    await expect.poll(() => letters().held, { interval: 5, timeout: 10_000 }).toBe(5)
    child.kill('SIGINT')
    expect((await end).code).toBe(130)
    expect(letters()).toEqual({ ready: 5, held: 0 })
  })

  test('that cannot see letters which another one holds says so', async () => {
    await bury(recordOf())
    const child = running(['dead-letters', 'list'])
    const end = finished(child)
    await expect.poll(() => letters().held, { interval: 5, timeout: 10_000 }).toBe(1)
    child.kill('SIGKILL') // gives nothing back
    await end
    const second = await ops('list')
    expect(second.err).toContain('another reader may hold the others')
    expect(second.code).toBe(0)
  })

  test('shows what people wrote only when asked', async () => {
    const id = await bury(recordOf({ metadata: { note: SECRET }, sources: [{ title: SECRET }] }))
    const odd = await send('turns-dead', { records: [{ body: [SECRET], company_id: 'a', thread_id: {} }] })
    const noJson = await send('turns-dead', SECRET)
    const wrongPlace = await bury(recordOf({ status: SECRET, created_at: SECRET }))
    const quiet = [
      await ops('list'),
      await ops('list', '--json'),
      await ops('redrive', '--dry-run'),
      ...(await Promise.all([id, odd, noJson].map((one) => ops('show', one)))),
    ]
    for (const { out, err } of quiet) expect(out + err).not.toContain(SECRET)
    expect((await ops('show', wrongPlace)).out).toContain(
      'records.0.created_at must be a valid iso timestamp',
    )
    for (const one of [id, odd, noJson]) expect((await ops('show', one, '--content')).out).toContain(SECRET)
  })

  test('of names that hold control characters prints none of them', async () => {
    await bury(recordOf({ company_id: '주식회사\u001b[2J\u202e' }))
    const { out } = await ops('list')
    expect(out).toContain('주식회사\\u001b[2J\\u202e/web')
    for (const character of ['\u001b', '\u202e']) expect(out).not.toContain(character)
  })
})

describe('a redrive', () => {
  test('of what cannot be read changes nothing and says which field is wrong', async () => {
    const id = await send('turns-dead', { records: [recordOf({ sequence_number: 0, role: 'robot' })] })
    const before = await listed()
    const { code, out } = await ops('redrive', id)
    expect(code).toBe(1)
    expect(out).toMatch(/^refused .*records\.0\.role must be .*records\.0\.sequence_number must be >=1/m)
    const strip = ({ receives, ...rest }: Listed) => rest
    expect((await listed()).map(strip)).toEqual(before.map(strip))
  })

  test('on trial tells what would happen and changes nothing', async () => {
    const record = recordOf()
    const id = await bury(record)
    await send('turns-dead', 'nonsense')
    const { code, out } = await ops('redrive', '--dry-run')
    expect(code).toBe(1)
    expect(out).toContain(`would be sent  ${id}`)
    expect(out).toContain('it is not JSON')
    expect(letters()).toEqual({ ready: 2, held: 0 })
    expect(await saved(record)).toEqual([])
  })

  test('of named letters leaves the others, and names those that are not there', async () => {
    const records = [recordOf(), recordOf()]
    const [wanted = ''] = await Promise.all(records.map((record) => bury(record)))
    const unknown = randomUUID()
    const { code, out } = await ops('redrive', wanted, unknown)
    expect(code).toBe(1)
    expect(out).toContain(`not there      ${unknown}`)
    expect(letters()).toEqual({ ready: 1, held: 0 })
    await turnkeep.drained()
    expect(await saved(...records)).toEqual([records[0]?.id])
  })

  test('beside another loses nothing', async () => {
    const records = Array.from({ length: 60 }, () => recordOf())
    await Promise.all(records.map((record) => bury(record)))
    await Promise.all([ops('redrive'), ops('redrive')])
    await turnkeep.drained()
    expect(await saved(...records)).toHaveLength(60)
    expect(letters()).toEqual({ ready: 0, held: 0 })
  })

  test('killed between sending and deleting leaves the letter; the record is saved once', async () => {
    const record = recordOf()
    await bury(record)
    let child: ChildProcess | undefined
    await using gate = await startGate((operation) => {
      if (operation === 'DeleteMessage') child?.kill('SIGKILL')
      return operation !== 'DeleteMessage'
    })
    child = running(['dead-letters', 'redrive'], { AWS_ENDPOINT_URL_SQS: gate.url })
    expect((await finished(child)).code).toBeNull()
    await turnkeep.drained()
    expect(await saved(record)).toEqual([record.id])
    expect(letters()).toEqual({ ready: 0, held: 1 })
    await bury(record) // as it comes back when it is held no longer
    expect((await ops('redrive')).code).toBe(0)
    await turnkeep.drained()
    expect(await saved(record)).toEqual([record.id])
  })

  test('that the turns queue refuses keeps every letter', async () => {
    await Promise.all([bury(recordOf()), bury(recordOf())])
    await using gate = await startGate((operation) => operation !== 'SendMessage')
    const run = await finished(running(['dead-letters', 'redrive'], { AWS_ENDPOINT_URL_SQS: gate.url }))
    expect(run.code).toBe(1)
    expect(run.out).toMatch(/^failed .* it stays: /m)
    expect(letters()).toEqual({ ready: 2, held: 0 })
  })

  test('into a queue that these letters are not from is refused', async () => {
    await bury(recordOf())
    const { fauxqs } = turnkeep.cloud
    const dead = fauxqs.queueUrl('turns-dead')
    const run = await ops('redrive', '--queue', dead, '--source', dead)
    expect(run).toMatchObject({ code: 1 })
    expect(run.err).toContain('nothing was moved')
    expect(letters()).toEqual({ ready: 1, held: 0 })
  })
})

describe('a command', () => {
  test.each([
    [['dead-letters']],
    [['dead-letters', 'eat']],
    [['dead-letters', 'list', '--content']],
    [['dead-letters', 'list', 'x']],
    [['dead-letters', 'show']],
    [['dead-letters', 'show', 'a', 'b']],
    [['dead-letters', 'redrive', '--queue', 'http://127.0.0.1:1/0/turns-dead']],
    [['dead-letters', 'list', '--queue', 'nonsense']],
    [['dead-letters', 'list', '--local', '--queue', 'http://127.0.0.1:1/0/turns-dead']],
    [['dead-letters', 'list', '--source', 'http://127.0.0.1:1/0/turns']],
    [['nonsense']],
    [[]],
  ])('called wrongly as %j ends with 2 and says how', async (args) => {
    const { code, out, err } = await finished(running(args))
    expect(code).toBe(2)
    expect(out + err).toContain('npm run ops -- dead-letters')
  })

  test('asked for help, also after a command, gives it', async () => {
    for (const args of [['--help'], ['dead-letters', '--help'], ['dead-letters', 'show', '-h']])
      expect(await finished(running(args))).toMatchObject({
        code: 0,
        out: expect.stringContaining('redrive'),
      })
  })

  test('that finds no queue, no letter or no Turnkeep says so', async () => {
    expect((await ops('show', randomUUID())).err).toContain('There is no dead letter')
    const nobody = running(['dead-letters', 'list'], { AWS_ENDPOINT_URL_SQS: 'http://127.0.0.1:9' })
    expect(await finished(nobody)).toMatchObject({
      code: 1,
      err: expect.stringContaining('Nothing answers at'),
    })
    const local = running(['dead-letters', 'list', '--local'], { TURNKEEP_DATA_DIR: '/nonexistent' })
    expect((await finished(local)).err).toContain('No Turnkeep runs on this machine')
  })
})

/** The queue's door, which lets through what `lets` allows and cuts all else. */
async function startGate(lets: (operation: string) => boolean | Promise<boolean>) {
  const target = new URL(turnkeep.cloud.fauxqs.address)
  const server = createServer(async (incoming, outgoing) => {
    const operation = String(incoming.headers['x-amz-target']).split('.')[1] ?? ''
    if (!(await lets(operation))) return void incoming.socket.destroy()
    const { method = 'POST', url = '/', headers } = incoming
    const through = request(
      { host: target.hostname, port: target.port, method, path: url, headers },
      (answer) => {
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers)
        answer.pipe(outgoing)
      },
    )
    incoming.pipe(through)
    for (const end of [incoming, outgoing, through]) end.on('error', () => through.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      server.close()
    },
  }
}
