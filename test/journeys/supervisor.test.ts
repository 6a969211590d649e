import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import type { Resources } from '../../lib/resources.ts'
import { COMPILE_CACHE } from '../../local/compile-cache.ts'
import { copyMigrated } from '../harness/migrated.ts'
import { type PostgresServer, startPostgresServer } from '../harness/postgres-server.ts'

const START = resolve(import.meta.dirname, '../../local/start.ts')
const HANDLERS = resolve(import.meta.dirname, '../fixtures/handlers')

let postgres: PostgresServer
let directory: string
let started: Started[]

beforeAll(async () => {
  postgres = await startPostgresServer()
})
afterAll(() => postgres.close())

beforeEach(async () => {
  started = []
  directory = await mkdtemp(join(tmpdir(), 'turnkeep-supervisor-'))
  await mkdir(join(directory, 'page'))
  await writeFile(join(directory, 'page/index.html'), 'the page')
})

afterEach(async () => {
  for (const one of started) await one.kill()
  await rm(directory, { recursive: true })
})

type Started = {
  process: ChildProcess
  output(): string
  /** The front door's address, once it is printed. */
  ready: Promise<string>
  ended: Promise<number | string | null>
  /** Of the supervisor and, by the pid files, of what it left. */
  kill(): Promise<void>
}

const stateDir = (): string => join(directory, 'state')

async function pidOf(name: 'cloud' | 'functions'): Promise<number> {
  return Number(await readFile(join(stateDir(), `${name}.pid`), 'utf8'))
}

/** Fixtures in place of the product's handlers; everything else is what npm start runs. */
async function resourcesFile(handlers: Record<string, string> = {}): Promise<string> {
  const names = { chat: 'streaming', api: 'buffered', persist: 'buffered', migrate: 'buffered', ...handlers }
  const of = (name: keyof typeof names, url?: 'streaming' | 'buffered') => ({
    handler: join(HANDLERS, `${names[name]}.ts`),
    timeoutSeconds: 20,
    ...(url && { url }),
  })
  const resources: Resources = {
    functions: { chat: of('chat', 'streaming'), api: of('api', 'buffered'), migrate: of('migrate') },
    queues: { turns: { visibilitySeconds: 30, retentionSeconds: 3600 } },
    eventSources: [],
    schedules: [],
    buckets: ['content'],
    routes: [
      { path: '/api/chat', function: 'chat' },
      { path: '/api/*', function: 'api' },
    ],
    startup: ['migrate'],
  }
  const file = join(directory, `resources-${JSON.stringify(handlers).length}.json`)
  await writeFile(file, JSON.stringify(resources))
  return file
}

async function start(
  env: Record<string, string> = {},
  handlers: Record<string, string> = {},
): Promise<Started> {
  const child = spawn(process.execPath, [START], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH,
      ...COMPILE_CACHE,
      PORT: '0',
      TURNKEEP_DATA_DIR: stateDir(),
      DATABASE_URL: postgres.url, // starts sooner than an embedded one
      TURNKEEP_PAGE_DIR: join(directory, 'page'),
      TURNKEEP_RESOURCES: await resourcesFile(handlers),
      ...env,
    },
  })
  let output = ''
  const ready = Promise.withResolvers<string>()
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
      const address = /ready at (http:\S+)/.exec(output)?.[1]
      if (address) ready.resolve(address)
    })
  }
  const ended = once(child, 'close').then(([code, signal]) => {
    ready.reject(new Error(`It ended (${code ?? signal}):\n${output}`))
    return code ?? signal
  })
  ready.promise.catch(() => undefined)
  const one: Started = {
    process: child,
    output: () => output,
    ready: ready.promise,
    ended,
    kill: async () => {
      child.kill('SIGKILL')
      await ended // the pipes close when its children, too, are gone
    },
  }
  started.push(one)
  return one
}

/** For tests of what an embedded Postgres on disk does when processes end. */
async function embedded(): Promise<Record<string, string>> {
  await copyMigrated(stateDir())
  return { DATABASE_URL: '' }
}

const stream = (address: string, plan: object): Promise<Response> =>
  fetch(`${address}/api/chat`, {
    method: 'POST',
    body: JSON.stringify(plan),
    headers: { 'content-type': 'application/json' },
  })

/** What the client sees when it reads to the end, or to where the connection breaks. */
async function readToTheEnd(response: Response): Promise<{ text: string; cut: boolean }> {
  let text = ''
  try {
    for await (const chunk of response.body ?? []) text += Buffer.from(chunk).toString()
    return { text, cut: false }
  } catch {
    return { text, cut: true }
  }
}

test('it says when it is ready, what it uses, and serves page and functions', async () => {
  const one = await start()
  const address = await one.ready
  expect(await (await fetch(address)).text()).toBe('the page')
  expect((await fetch(`${address}/api/x`)).status).toBe(200)
  expect(one.output()).toContain(`page      ${address}/`)
  expect(one.output()).toMatch(/database {2}\S/)
  expect(one.output()).toContain('a scripted one')
})

test.each(['SIGTERM', 'SIGINT'] as const)(
  'on %s a running answer is finished and everything ends',
  async (signal) => {
    const one = await start(await embedded())
    const answer = await stream(await one.ready, { pieces: ['1', '2', '3'], pauseMs: 100 })
    const reading = readToTheEnd(answer)
    const pids = [await pidOf('cloud'), await pidOf('functions')]
    one.process.kill(signal)
    expect(await reading).toEqual({ text: '123', cut: false })
    expect(await one.ended).toBe(0)
    await expect(pidOf('cloud')).rejects.toThrow('ENOENT')
    await expect(pidOf('functions')).rejects.toThrow('ENOENT')
    for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow('ESRCH')
  },
)

test('while it stops new requests are refused', async () => {
  const one = await start()
  const address = await one.ready
  const answer = await stream(address, { pieces: ['1', '2', '3', '4', '5'], pauseMs: 200 })
  one.process.kill('SIGTERM')
  await expect.poll(async () => (await fetch(`${address}/api/x`)).status).toBe(503)
  expect(await readToTheEnd(answer)).toEqual({ text: '12345', cut: false })
  expect(await one.ended).toBe(0)
})

test('a second signal does not wait for answers', async () => {
  const one = await start()
  const answer = await stream(await one.ready, { pieces: ['first'], afterwards: 'hang' })
  const reading = readToTheEnd(answer)
  const startedAt = performance.now()
  one.process.kill('SIGTERM')
  const again = setInterval(() => one.process.kill('SIGTERM'), 600) // sooner it counts as the same one
  expect(await reading).toEqual({ text: 'first', cut: true })
  clearInterval(again)
  expect(await one.ended).toBe(0)
  expect(performance.now() - startedAt).toBeLessThan(4_000)
})

test('an answer that does not end is interrupted after the drain', async () => {
  const one = await start()
  const answer = await stream(await one.ready, { pieces: ['begun, '], afterwards: 'until-sigterm' })
  one.process.kill('SIGTERM')
  expect(await readToTheEnd(answer)).toEqual({ text: 'begun, interrupted', cut: false })
  expect(await one.ended).toBe(0)
})

test('killed functions cut their answers and are started again', async () => {
  const one = await start()
  const address = await one.ready
  const answer = await stream(address, { pieces: ['first'], afterwards: 'hang' })
  const before = await pidOf('functions')
  process.kill(before, 'SIGKILL')
  expect(await readToTheEnd(answer)).toEqual({ text: 'first', cut: true })
  const again = await fetch(`${address}/api/x`) // waits for the new process
  expect(again.status).toBe(200)
  expect(await pidOf('functions')).not.toBe(before)
})

test('a killed cloud is started again at the same address, with functions that know it', async () => {
  const one = await start(await embedded())
  const address = await one.ready
  process.kill(await pidOf('cloud'), 'SIGKILL')
  const status = async () => (await fetch(`${address}/api/x`).catch(() => undefined))?.status
  await expect.poll(status, { timeout: 15_000, interval: 100 }).toBe(200)
})

test('when the supervisor is killed its processes end, and it starts again on the same state', async () => {
  const state = await embedded()
  const one = await start(state)
  await one.ready
  await one.kill()
  const again = await start(state)
  expect((await fetch(`${await again.ready}/api/x`)).status).toBe(200)
})

test('one directory is used by one only', async () => {
  const one = await start()
  const address = await one.ready
  const second = await start()
  expect(await second.ended).toBe(1)
  expect(second.output()).toContain(`already running on ${stateDir()}`)
  expect((await fetch(`${address}/api/x`)).status).toBe(200)
})

test('a taken port is named', async () => {
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  const { port } = other.address() as AddressInfo
  const one = await start({ PORT: String(port) })
  expect(await one.ended).toBe(1)
  expect(one.output()).toContain(`Port ${port} is taken`)
  other.close()
})

test('a handler that cannot be loaded ends the start with its message', async () => {
  const one = await start({}, { api: 'broken' })
  expect(await one.ended).toBe(1)
  expect(one.output()).toContain('TABLE_NAME is missing')
})

test('a migration that fails ends the start with its message', async () => {
  const one = await start({}, { migrate: 'failing' })
  expect(await one.ended).toBe(1)
  expect(one.output()).toContain('relation "x" does not exist')
})
