import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import { build } from 'esbuild'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type RuntimeApi, startRuntimeApi } from '../../local/cloud/runtime-api.ts'
import { startRuntimeClient } from '../harness/runtime-client.ts'

const FIXTURES = resolve(import.meta.dirname, '../fixtures/handlers')
const NAMES = ['buffered', 'streaming', 'broken']

let directory: string
let api: RuntimeApi
const children = new Map<string, ChildProcess>()

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'turnkeep-runtime-'))
  await build({
    entryPoints: Object.fromEntries(NAMES.map((name) => [`${name}/index`, join(FIXTURES, `${name}.ts`)])),
    outdir: directory,
    outExtension: { '.js': '.mjs' },
    format: 'esm',
    platform: 'node',
    bundle: true,
  })
  api = await startRuntimeApi(
    Object.fromEntries(
      NAMES.map((name) => [
        name,
        { timeoutSeconds: 20, arn: `arn:aws:lambda:us-east-1:000000000000:function:${name}` },
      ]),
    ),
  )
  for (const name of ['buffered', 'streaming']) start(name)
})

afterAll(async () => {
  await api.close()
  for (const child of children.values()) child.kill('SIGKILL')
  await rm(directory, { recursive: true })
})

function start(name: string): ChildProcess {
  const child = startRuntimeClient({
    name,
    taskRoot: join(directory, name),
    handler: 'index.handler',
    memoryMb: 512,
    runtimeApi: api.addresses[name] ?? '',
    variables: {},
  })
  children.set(name, child)
  return child
}

const answer = async (event: object): Promise<unknown> =>
  JSON.parse((await api.invoke('buffered', JSON.stringify(event))).toString())
const stream = (event: object) => api.invoke('streaming', JSON.stringify(event), { streaming: true })

test('a handler gets its event and context, one after the other, and its answer comes back', async () => {
  expect(await answer({ greeting: '안녕 😀' })).toEqual({ greeting: '안녕 😀' })
  const context = (await answer({ action: 'context' })) as Record<string, unknown>
  expect(context).toMatchObject({ name: 'buffered', pid: children.get('buffered')?.pid })
  expect(context.remainingMs).toBeGreaterThan(19_000)
})

test('a handler that throws fails its invocation, and its environment goes on', async () => {
  await expect(answer({ action: 'throw' })).rejects.toMatchObject({
    failure: 'function_error',
    errorType: 'OrderError',
  })
  expect(await answer({ after: true })).toEqual({ after: true })
})

test('an answer over 6 MB fails its invocation, and its environment goes on', async () => {
  await expect(answer({ action: 'large', bytes: 6 * 1024 * 1024 + 1 })).rejects.toMatchObject({
    failure: 'response_too_large',
  })
  expect(await answer({ after: true })).toEqual({ after: true })
})

test('status, headers and cookies of a stream arrive before its body, and its pieces while it runs', async () => {
  const { prelude, body } = await stream({
    status: 201,
    headers: { 'content-type': 'text/event-stream' },
    cookies: ['a=1'],
    pieces: ['하나 ', 'two ', 'three'],
    pauseMs: 20,
  })
  expect(prelude).toEqual({
    statusCode: 201,
    headers: { 'content-type': 'text/event-stream' },
    cookies: ['a=1'],
  })
  const [first] = await once(body, 'data')
  expect(first.toString()).toBe('하나 ')
  expect(await text(body)).toBe('two three')
})

test('from() followed by end() loses the status', async () => {
  const { prelude, body } = await stream({ status: 418, endAtOnce: true })
  expect(prelude.statusCode).toBe(200)
  expect(await text(body)).toBe('')
})

test('a stream whose handler throws is broken off', async () => {
  const { body } = await stream({ pieces: ['first'], afterwards: 'throw' })
  await expect(text(body)).rejects.toMatchObject({ failure: 'function_error', errorType: 'Error' })
  const { body: next } = await stream({ pieces: ['next'] })
  expect(await text(next)).toBe('next')
})

test('a handler that cannot be loaded fails what waits with its message', async () => {
  const waiting = api.invoke('broken', '{}')
  start('broken')
  await expect(waiting).rejects.toMatchObject({
    failure: 'init_failed',
    message: expect.stringContaining('TABLE_NAME is missing'),
  })
})
