import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type IncomingHttpHeaders, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { COMPILE_CACHE } from '../../local/compile-cache.ts'
import { checks } from '../../ops/smoke/checks.ts'
import { buildPage } from '../../web/build.ts'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

const OPS = resolve(import.meta.dirname, '../../ops/main.ts')
const CHECKS = checks.length + 1 // and what was made is removed

let pageDir: string
let turnkeep: Turnkeep

beforeAll(async () => {
  pageDir = await mkdtemp(join(tmpdir(), 'turnkeep-smoke-'))
  await buildPage(pageDir)
  turnkeep = await startTurnkeep({ name: 'smoke', pageDir, scriptedModel: { tokenDelayMs: 12 } })
})
afterAll(async () => {
  await turnkeep?.close()
  await rm(pageDir, { recursive: true })
})

interface Run {
  code: number | null
  out: string
  err: string
}

const running = (args: string[]): ChildProcess =>
  spawn(process.execPath, [OPS, 'smoke', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env.PATH, ...COMPILE_CACHE },
  })

async function finished(child: ChildProcess): Promise<Run> {
  const text = { out: '', err: '' }
  child.stdout?.setEncoding('utf8').on('data', (chunk) => (text.out += chunk))
  child.stderr?.setEncoding('utf8').on('data', (chunk) => (text.err += chunk))
  const [code] = await once(child, 'close')
  return { code, ...text }
}

const smoke = (...args: string[]): Promise<Run> => finished(running(args))

/** Titles of the checks that ended so. */
const ended = ({ out }: Run, result: 'ok' | 'skipped' | 'FAILED'): string[] =>
  out.split('\n').flatMap((line) => new RegExp(`^(.*\\S) +${result} +\\d+`).exec(line)?.[1] ?? [])

/** What stands between a client and the product, and does something to what passes. */
interface Fault {
  headers?: (headers: IncomingHttpHeaders) => IncomingHttpHeaders
  answer?: (from: AsyncIterable<Buffer>, to: ServerResponse) => Promise<void>
}

async function throughProxy(fault: Fault, use: (address: string) => Promise<void>): Promise<void> {
  const target = new URL(turnkeep.address)
  const server = createServer((incoming, response) => {
    const headers = fault.headers?.(incoming.headers) ?? incoming.headers
    const { hostname, port } = target
    const outgoing = request({ hostname, port, path: incoming.url, method: incoming.method, headers })
    outgoing.on('error', () => response.destroy())
    outgoing.on('response', (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      if (fault.answer) fault.answer(answer, response).catch(() => response.destroy())
      else answer.pipe(response)
    })
    incoming.pipe(outgoing)
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  } finally {
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }
}

const holdBack: Fault['answer'] = async (from, to) => {
  const chunks: Buffer[] = []
  for await (const chunk of from) chunks.push(chunk)
  to.end(Buffer.concat(chunks))
}

const tokenOf = (companyId: string): Promise<string> => turnkeep.as({ companyId }).token

describe('an environment that keeps its promises', () => {
  test('passes every check, with tokens that it gives itself', async () => {
    const run = await smoke('--url', turnkeep.address, '--dev')
    expect(run, run.out).toMatchObject({ code: 0, err: '' })
    expect(ended(run, 'ok')).toHaveLength(CHECKS)
    expect(run.out).toContain(`${CHECKS} ok, 0 failed, 0 skipped`)
  })

  test('passes with a given token, keeps nothing of it, and skips what it cannot try', async () => {
    const run = await smoke('--url', turnkeep.address, '--token', await tokenOf('ours'))
    expect(run, run.out).toMatchObject({ code: 0, err: '' })
    expect(ended(run, 'skipped')).toEqual(['another tenant sees nothing of it'])
    const list = await turnkeep.as({ companyId: 'ours' }).call<{ items: object[] }>('GET', '/api/sessions')
    expect(list.body.items).toEqual([])
  })

  test('an interrupted run removes what it made, and ends with 130', async () => {
    const child = running(['--url', turnkeep.address, '--token', await tokenOf('interrupted')])
    const run = finished(child)
    child.stdout?.on('data', (chunk: string) => /is remembered/.test(chunk) && child.kill('SIGINT'))
    const { code, out, err } = await run
    expect({ code, err }, out).toEqual({ code: 130, err: 'Interrupted: this is not all.\n' })
    expect(out).toMatch(/what was made is removed +ok/)
    const list = await turnkeep
      .as({ companyId: 'interrupted' })
      .call<{ items: object[] }>('GET', '/api/sessions')
    expect(list.body.items).toEqual([])
  })
})

describe('an environment that does not', () => {
  test(
    'is found out when something buffers the stream',
    () =>
      throughProxy({ answer: holdBack }, async (address) => {
        const run = await smoke('--url', address, '--dev')
        expect(run.code, run.out).toBe(1)
        expect(ended(run, 'FAILED')).toContain('a Korean question is answered in a stream, as it is written')
        expect(run.out).toContain('holds the stream back')
      }),
    60_000,
  )

  test('is found out when something drops Last-Event-ID', () =>
    throughProxy({ headers: ({ 'last-event-id': _, ...headers }) => headers }, async (address) => {
      const run = await smoke('--url', address, '--dev')
      expect(run.code, run.out).toBe(1)
      expect(ended(run, 'FAILED')).toEqual([
        'a client that lost its connection gets the rest, by Last-Event-ID',
        'a plain EventSource resumes, by resumeUrl alone',
      ])
    }))

  test('is found out when the other token is of the same tenant', async () => {
    const tokens = ['--token', await tokenOf('ours'), '--other-token', await tokenOf('ours')]
    const run = await smoke('--url', turnkeep.address, ...tokens)
    expect(run.code, run.out).toBe(1)
    expect(run.out).toContain('is --other-token really of another tenant?')
  })

  test('says so when it refuses the token', async () => {
    const run = await smoke('--url', turnkeep.address, '--token', 'not.a.token')
    expect(run.code, run.out).toBe(1)
    expect(run.out).toContain('401 unauthenticated: has the token expired')
    expect(ended(run, 'skipped')).toContain('the conversation is remembered')
  })

  test('says so where nothing answers, and tries nothing else', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    await new Promise((closed) => server.close(closed))
    const run = await smoke('--url', `http://127.0.0.1:${port}`, '--token', 'x')
    expect(run).toMatchObject({
      code: 1,
      err: `Nothing answers at http://127.0.0.1:${port} (ECONNREFUSED).\n`,
    })
    expect(ended(run, 'FAILED')).toEqual([])
  })

  test('gives no tokens, and says so, where it is another service', async () => {
    const server = createServer((_, response) => response.end('<!doctype html>')).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    try {
      expect((await smoke('--url', address, '--dev')).err).toContain('gives no tokens')
      const run = await smoke('--url', address, '--token', 'x')
      expect(run.code).toBe(1)
      expect(ended(run, 'ok')).toEqual([])
    } finally {
      server.close()
    }
  })
})

test.each([
  [[], '--url is missing.'],
  [['--url', 'turnkeep.example', '--token', 'x'], 'turnkeep.example is no address'],
  [['--url', 'http://127.0.0.1'], '--token is missing.'],
  [['--url', 'http://127.0.0.1', '--dev', '--token', 'x'], 'Either --dev or --token.'],
  [['--url', 'http://127.0.0.1', '--tokn', 'x'], "Unknown option '--tokn'"],
])('%j is a wrong call: it ends with 2 and says how it is called', async (args, problem) => {
  const run = await smoke(...args)
  expect(run.code).toBe(2)
  expect(run.err).toContain(problem)
  expect(run.err).toContain('npm run smoke -- --url')
})
