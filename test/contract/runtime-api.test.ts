import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type RuntimeApi, startRuntimeApi } from '../../local/cloud/runtime-api.ts'
import { createRuntimeClient, type RuntimeClient } from '../../local/functions/runtime-client.ts'
import { ended, forkFunctions, kill, told } from '../fixtures/functions-process.ts'

let api: RuntimeApi
let children: ChildProcess[]
let clients: RuntimeClient[]

beforeEach(async () => {
  children = []
  clients = []
  api = await startRuntimeApi({
    buffered: { timeoutSeconds: 20, arn: 'arn:aws:lambda:us-east-1:000000000000:function:buffered' },
    streaming: { timeoutSeconds: 20, arn: 'arn:aws:lambda:us-east-1:000000000000:function:streaming' },
    brief: { timeoutSeconds: 0.2, arn: 'arn:aws:lambda:us-east-1:000000000000:function:brief' },
  })
})

afterEach(async () => {
  for (const client of clients) client.close()
  await Promise.all(children.map(kill))
  await api.close()
})

async function startFunctions(files: Record<string, string>, silent = false): Promise<ChildProcess> {
  const child = forkFunctions(api.addresses, files, silent)
  children.push(child)
  await told(child, 'polling')
  return child
}

function client(name: string): RuntimeClient {
  const made = createRuntimeClient(api.addresses[name] ?? '')
  clients.push(made)
  return made
}

async function bufferedAnswer(event: object): Promise<unknown> {
  return JSON.parse((await api.invoke('buffered', JSON.stringify(event))).toString())
}

const streamed = (event: object, name = 'streaming') =>
  api.invoke(name, JSON.stringify(event), { streaming: true })

async function firstChunk(body: Readable): Promise<string> {
  const [chunk] = await once(body, 'data')
  return chunk.toString()
}

test('a buffered function gets the event and its answer comes back', async () => {
  await startFunctions({ buffered: 'buffered' })
  expect(await bufferedAnswer({ greeting: '안녕' })).toEqual({ greeting: '안녕' })
})

test('the context names the invocation, the function and the time that is left', async () => {
  await startFunctions({ buffered: 'buffered' })
  const context = (await bufferedAnswer({ action: 'context' })) as Record<string, unknown>
  expect(context).toMatchObject({ name: 'buffered', id: expect.stringMatching(/^[0-9a-f-]{36}$/) })
  expect(context.remainingMs).toBeGreaterThan(19_000)
  expect(context.remainingMs).toBeLessThanOrEqual(20_000)
})

test('a handler that throws fails its invocation with the name of the error', async () => {
  await startFunctions({ buffered: 'buffered' }, true)
  await expect(bufferedAnswer({ action: 'throw' })).rejects.toMatchObject({
    failure: 'function_error',
    errorType: 'OrderError',
  })
})

test('a hundred invocations run at the same time in one process', async () => {
  await startFunctions({ streaming: 'streaming' })
  const open = await Promise.all(
    Array.from({ length: 100 }, () => streamed({ pieces: ['first'], afterwards: 'hang' })),
  )
  const chunks = await Promise.all(open.map(({ body }) => firstChunk(body)))
  expect(chunks).toEqual(new Array(100).fill('first'))
})

test('an answer over 6 MB is refused, one below comes through', async () => {
  await startFunctions({ buffered: 'buffered' })
  const size = 6 * 1024 * 1024
  await expect(bufferedAnswer({ action: 'large', bytes: size + 1 })).rejects.toMatchObject({
    failure: 'response_too_large',
  })
  expect(await bufferedAnswer({ action: 'large', bytes: size - 2 })).toHaveLength(size - 2)
})

test('a request over 6 MB never reaches the function', async () => {
  await expect(bufferedAnswer({ filler: 'x'.repeat(6 * 1024 * 1024) })).rejects.toMatchObject({
    failure: 'request_too_large',
  })
})

test('an invocation waits for the first poll, and no longer than its wait', async () => {
  const early = bufferedAnswer({ early: true })
  await startFunctions({ buffered: 'buffered' })
  expect(await early).toEqual({ early: true })
  await expect(api.invoke('streaming', '{}', { waitMs: 20 })).rejects.toMatchObject({
    failure: 'unavailable',
  })
})

test('a function that takes longer than its timeout fails its invocation', async () => {
  await startFunctions({ brief: 'buffered' })
  await expect(api.invoke('brief', '{"action":"hang"}')).rejects.toMatchObject({ failure: 'timed_out' })
})

test('a stream that takes longer than its timeout is cut', async () => {
  await startFunctions({ brief: 'streaming' })
  const { body } = await streamed({ pieces: ['first'], afterwards: 'hang' }, 'brief')
  await expect(text(body)).rejects.toMatchObject({ failure: 'timed_out' })
})

test('status, headers and cookies of a stream arrive before its body', async () => {
  await startFunctions({ streaming: 'streaming' })
  const { prelude, body } = await streamed({
    status: 201,
    headers: { 'content-type': 'text/event-stream' },
    cookies: ['a=1'],
    pieces: ['one ', '둘 ', 'three'],
  })
  expect(prelude).toEqual({
    statusCode: 201,
    headers: { 'content-type': 'text/event-stream' },
    cookies: ['a=1'],
  })
  expect(await text(body)).toBe('one 둘 three')
})

test('a chunk arrives while the function is still running', async () => {
  await startFunctions({ streaming: 'streaming' })
  const { body } = await streamed({ pieces: ['first'], afterwards: 'hang' })
  expect(await firstChunk(body)).toBe('first')
})

test('from() followed by end() loses the status, as on AWS', async () => {
  await startFunctions({ streaming: 'streaming' })
  const { prelude, body } = await streamed({ status: 418, endAtOnce: true })
  expect(prelude.statusCode).toBe(200)
  expect(await text(body)).toBe('')
})

test('a stream without a prelude is answered as bytes', async () => {
  await startFunctions({ streaming: 'streaming' })
  const { prelude, body } = await streamed({ raw: true, pieces: ['plain'] })
  expect(prelude).toMatchObject({ statusCode: 200, headers: { 'content-type': 'application/octet-stream' } })
  expect(await text(body)).toBe('plain')
})

test('a handler that throws before its first byte fails the invocation', async () => {
  await startFunctions({ streaming: 'streaming' }, true)
  await expect(streamed({ afterwards: 'throw' })).rejects.toMatchObject({ failure: 'function_error' })
})

test('a handler that throws in the middle breaks its stream off', async () => {
  await startFunctions({ streaming: 'streaming' }, true)
  const { body } = await streamed({ pieces: ['first'], afterwards: 'throw' })
  await expect(text(body)).rejects.toMatchObject({ failure: 'function_error', errorType: 'Error' })
})

test('a prelude that arrives in pieces is put together', async () => {
  const runtime = client('streaming')
  const result = streamed({})
  const { requestId } = await runtime.next()
  const { stream, done } = runtime.stream(requestId)
  stream.setContentType('application/vnd.awslambda.http-integration-response')
  for (const byte of Buffer.from('{"statusCode":202}\0\0\0\0\0\0\0\0body')) {
    await new Promise((resolve) => stream.write(Buffer.of(byte), resolve))
  }
  stream.end()
  const { prelude, body } = await result
  expect(prelude).toEqual({ statusCode: 202, headers: {}, cookies: [] })
  expect(await text(body)).toBe('body')
  await done
})

test('a prelude that is no JSON fails the invocation', async () => {
  const runtime = client('streaming')
  const result = streamed({})
  const { requestId } = await runtime.next()
  const { stream, done } = runtime.stream(requestId)
  stream.setContentType('application/vnd.awslambda.http-integration-response')
  stream.end('not json\0\0\0\0\0\0\0\0')
  await expect(result).rejects.toMatchObject({ failure: 'function_error' })
  await done
})

test('when the environment ends, what it was running fails at once and what waits is kept', async () => {
  const [runtime, streaming] = [client('buffered'), client('streaming')]
  const running = bufferedAnswer({ running: true }).catch((error) => error)
  await runtime.next()
  const waiting = bufferedAnswer({ waiting: true }) // nobody polls any more
  const answer = streamed({})
  const { stream, done } = streaming.stream((await streaming.next()).requestId)
  const cut = done.catch((error) => error)
  stream.write('first')
  const { body } = await answer

  api.environmentEnded(['buffered', 'streaming'])
  expect(await running).toMatchObject({ failure: 'environment_ended' })
  await expect(text(body)).rejects.toMatchObject({ failure: 'environment_ended' })
  expect(await cut).toBeInstanceOf(Error)
  const { event, requestId } = await runtime.next()
  await runtime.respond(requestId, JSON.stringify(event))
  expect(await waiting).toEqual({ waiting: true })
})

test('a stream is cut when its process dies, before anybody says so', async () => {
  const child = await startFunctions({ streaming: 'streaming' })
  const { body } = await streamed({ pieces: ['first'], afterwards: 'hang' })
  await kill(child)
  await expect(text(body)).rejects.toMatchObject({ failure: 'environment_ended' })
})

test('an invocation made as soon as a stream was cut waits for the next process', async () => {
  const files = { buffered: 'buffered', streaming: 'streaming' }
  for (let round = 0; round < 5; round += 1) {
    const child = await startFunctions(files)
    const { body } = await streamed({ pieces: ['first'], afterwards: 'hang' })
    const ending = once(child, 'exit').then(() => api.environmentEnded(['buffered', 'streaming']))
    child.kill('SIGKILL')
    await expect(text(body)).rejects.toThrow()
    const next = bufferedAnswer({ round })
    await ending
    const successor = await startFunctions(files)
    expect(await next).toEqual({ round })
    await kill(successor)
    api.environmentEnded(['buffered', 'streaming'])
  }
})

test('an answer for an unknown or finished invocation is refused with 400', async () => {
  const url = `http://${api.addresses.buffered}/2018-06-01/runtime/invocation`
  expect((await fetch(`${url}/unknown/response`, { method: 'POST', body: '{}' })).status).toBe(400)
  const runtime = client('buffered')
  const answer = bufferedAnswer({})
  const { requestId } = await runtime.next()
  await runtime.respond(requestId, '"once"')
  expect(await answer).toBe('once')
  expect((await fetch(`${url}/${requestId}/response`, { method: 'POST', body: '{}' })).status).toBe(400)
})

test('a poll that was given up takes no invocation with it', async () => {
  const gone = new AbortController()
  const url = `http://${api.addresses.buffered}/2018-06-01/runtime/invocation`
  const poll = fetch(`${url}/next`, { signal: gone.signal })
  await api.polled('buffered', AbortSignal.timeout(5_000))
  gone.abort()
  await expect(poll).rejects.toThrow()
  // By the second answer the listener has seen that the first connection is closed.
  for (let round = 0; round < 2; round += 1) await fetch(`${url}/unknown/error`, { method: 'POST' })
  const answer = bufferedAnswer({ kept: true })
  await startFunctions({ buffered: 'buffered' })
  expect(await answer).toEqual({ kept: true })
})

test('a handler that cannot be loaded fails what waits with its message, and the process ends', async () => {
  const waiting = api.invoke('buffered', '{}')
  const child = forkFunctions(api.addresses, { buffered: 'broken' }, true)
  children.push(child)
  await expect(waiting).rejects.toMatchObject({
    failure: 'init_failed',
    message: expect.stringContaining('TABLE_NAME is missing'),
  })
  expect(await ended(child)).toBe(1)
})

test('an unhandled rejection ends the functions process', async () => {
  const child = await startFunctions({ buffered: 'buffered' }, true)
  const answer = bufferedAnswer({ action: 'reject' })
  expect(await ended(child)).toBe(1)
  api.environmentEnded(['buffered'])
  await expect(answer).rejects.toMatchObject({ failure: 'environment_ended' })
})

test('after a drain it says when nothing runs any more', async () => {
  const child = await startFunctions({ streaming: 'streaming' })
  const idle = told(child, 'idle')
  const { body } = await streamed({ pieces: ['1', '2', '3'], pauseMs: 20 })
  child.send({ type: 'drain' })
  expect(await text(body)).toBe('123')
  await idle
})

test('SIGTERM lets a running answer end itself, then the process ends with 0', async () => {
  const child = await startFunctions({ streaming: 'streaming' })
  const { body } = await streamed({ pieces: ['begun, '], afterwards: 'until-sigterm' })
  child.kill('SIGTERM')
  expect(await text(body)).toBe('begun, interrupted')
  expect(await ended(child)).toBe(0)
})

test('the functions process ignores SIGINT and ends when its parent is gone', async () => {
  const child = await startFunctions({ buffered: 'buffered' })
  child.kill('SIGINT')
  expect(await bufferedAnswer({ alive: true })).toEqual({ alive: true })
  child.disconnect()
  expect(await ended(child)).toBe(1)
})
