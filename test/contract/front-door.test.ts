import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { LambdaFunctionURLEvent } from 'aws-lambda'
import { createLocalJWKSet, createRemoteJWKSet, jwtVerify } from 'jose'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { resources } from '../../lib/resources.ts'
import { createDevIssuer } from '../../local/cloud/dev-issuer.ts'
import { type FrontDoor, startFrontDoor } from '../../local/cloud/front-door.ts'
import { route } from '../../local/cloud/route.ts'
import { type RuntimeApi, startRuntimeApi } from '../../local/cloud/runtime-api.ts'
import { createRuntimeClient } from '../../local/functions/runtime-client.ts'
import { forkFunctions, kill, told } from '../fixtures/functions-process.ts'

const functions = {
  buffered: { handler: '', timeoutSeconds: 20, url: 'buffered' as const },
  streaming: { handler: '', timeoutSeconds: 20, url: 'streaming' as const },
  manual: { handler: '', timeoutSeconds: 20, url: 'streaming' as const },
}
const routes = [
  { path: '/api/stream', function: 'streaming' },
  { path: '/api/manual', function: 'manual' },
  { path: '/api/*', function: 'buffered' },
]

let directory: string
let api: RuntimeApi
let door: FrontDoor
let child: ChildProcess

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'turnkeep-front-door-'))
  await mkdir(join(directory, 'page/assets'), { recursive: true })
  await writeFile(join(directory, 'secret.txt'), 'secret')
  await writeFile(join(directory, 'page/index.html'), '<!doctype html><title>Turnkeep</title>')
  await writeFile(join(directory, 'page/hidden.txt'), 'hidden')
  await writeFile(join(directory, 'page/assets/page.js'), 'export {}')
  api = await startRuntimeApi(
    Object.fromEntries(
      Object.entries(functions).map(([name, { timeoutSeconds }]) => [
        name,
        { timeoutSeconds, arn: `arn:${name}` },
      ]),
    ),
  )
  door = await startFrontDoor({
    port: 0,
    resources: { functions, routes },
    runtimeApi: api,
    issuer: await createDevIssuer(),
    pageDir: join(directory, 'page'),
    originSecret: () => 'the secret',
  })
  child = await startFunctions()
})

afterAll(async () => {
  await kill(child)
  await door.close()
  await api.close()
  await rm(directory, { recursive: true })
})

async function startFunctions(): Promise<ChildProcess> {
  const started = forkFunctions(api.addresses, { buffered: 'buffered', streaming: 'streaming' }, true)
  await told(started, 'polling')
  return started
}

const json = { 'content-type': 'application/json' }
const url = (path: string): string => door.address + path

/** Without what fetch would tidy up: the path and the headers leave as they are. */
async function raw(options: RequestOptions, body?: string): Promise<IncomingMessage & { body: string }> {
  const { port } = new URL(door.address)
  const request = httpRequest({ host: '127.0.0.1', port, agent: false, ...options })
  request.end(body)
  const [response] = await once(request, 'response')
  return Object.assign(response, { body: await text(response) })
}

/** The buffered function answers with the event that it got. */
async function eventOf(options: RequestOptions, body?: string): Promise<LambdaFunctionURLEvent> {
  return JSON.parse((await raw(options, body)).body)
}

const stream = (plan: object, signal?: AbortSignal): Promise<Response> =>
  fetch(url('/api/stream'), {
    method: 'POST',
    body: JSON.stringify(plan),
    headers: json,
    ...(signal && { signal }),
  })

test('until it opens everything but the keys is answered with 503', async () => {
  const refused = await fetch(url('/api/x'))
  expect(refused.status).toBe(503)
  expect(refused.headers.get('retry-after')).toBe('1')
  expect(await refused.json()).toMatchObject({ error: { code: 'unavailable' } })
  expect((await fetch(door.jwksUrl)).status).toBe(200)
  door.open()
  expect((await fetch(url('/api/x'))).status).toBe(200)
})

test('a function gets a request in payload format 2.0', async () => {
  const event = await eventOf(
    {
      method: 'POST',
      path: '/api/a%20b/%2e?x=1&x=2&y=%EA%B0%80&z',
      headers: {
        'Content-Type': 'application/json',
        'X-Many': ['1', '2'],
        cookie: 'a=1; b=2',
        host: 'example.org',
      },
    },
    '{"message":"안녕"}',
  )
  expect(event).toMatchObject({
    version: '2.0',
    routeKey: '$default',
    rawPath: '/api/a%20b/%2e',
    rawQueryString: 'x=1&x=2&y=%EA%B0%80&z',
    queryStringParameters: { x: '1,2', y: '가', z: '' },
    cookies: ['a=1', 'b=2'],
    headers: {
      'content-type': 'application/json',
      'x-many': '1,2',
      host: 'example.org',
      'x-forwarded-for': '127.0.0.1',
      'x-forwarded-proto': 'http',
    },
    requestContext: {
      domainName: 'example.org',
      http: { method: 'POST', path: '/api/a%20b/%2e', protocol: 'HTTP/1.1', sourceIp: '127.0.0.1' },
      requestId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      timeEpoch: expect.any(Number),
      time: expect.stringMatching(/^\d\d\/[A-Z][a-z]{2}\/\d{4}:\d\d:\d\d:\d\d \+0000$/),
    },
    body: '{"message":"안녕"}',
    isBase64Encoded: false,
  })
  expect(event.headers).not.toHaveProperty('cookie')
})

test('a function is told who the client is, whatever the client says', async () => {
  const headers = { 'X-Turnkeep-Origin': 'guessed', 'X-Turnkeep-Viewer': ['203.0.113.1', '203.0.113.2'] }
  const event = await eventOf({ method: 'GET', path: '/api/x', headers })
  expect(event.headers).toMatchObject({ 'x-turnkeep-origin': 'the secret', 'x-turnkeep-viewer': '127.0.0.1' })
})

test('a body that is not text travels as base64', async () => {
  const headers = { 'content-type': 'application/octet-stream' }
  const event = await eventOf({ method: 'POST', path: '/api/x', headers }, 'ab')
  expect(event).toMatchObject({ body: 'YWI=', isBase64Encoded: true })
})

test('a request without a body has none', async () => {
  const event = await eventOf({ path: '/api/x' })
  expect(event).not.toHaveProperty('body')
  expect(event).not.toHaveProperty('queryStringParameters')
  expect(event.isBase64Encoded).toBe(false)
})

test('a body over 6 MB is refused in the usual shape', async () => {
  const refused = await fetch(url('/api/x'), { method: 'POST', body: 'x'.repeat(6 * 1024 * 1024 + 1) })
  expect(refused.status).toBe(413)
  expect(await refused.json()).toEqual({
    error: {
      code: 'payload_too_large',
      message: expect.any(String),
      requestId: refused.headers.get('x-request-id'),
    },
  })
})

test('a function that throws is answered with 500 and says nothing about the inside', async () => {
  const failed = await stream({ afterwards: 'throw' })
  expect(failed.status).toBe(500)
  expect(await failed.json()).toEqual({
    error: { code: 'internal', message: 'Something went wrong.', requestId: expect.any(String) },
  })
})

test('status, headers and cookies of a stream reach the client', async () => {
  const answer = await stream({
    status: 201,
    headers: { 'X-Own': 'yes' },
    cookies: ['a=1', 'b=2'],
    pieces: ['가', '나'],
  })
  expect(answer.status).toBe(201)
  expect(answer.headers.get('x-own')).toBe('yes')
  expect(answer.headers.getSetCookie()).toEqual(['a=1', 'b=2'])
  expect(await answer.text()).toBe('가나')
})

test('the first chunk reaches the client while the function goes on', async () => {
  const gone = new AbortController()
  const answer = await stream({ pieces: ['first'], afterwards: 'hang' }, gone.signal)
  const reader = answer.body?.getReader()
  expect(Buffer.from((await reader?.read())?.value ?? []).toString()).toBe('first')
  gone.abort()
})

test('a function goes on when its client goes away', async () => {
  const runtime = createRuntimeClient(api.addresses.manual ?? '')
  const gone = new AbortController()
  const fetched = fetch(url('/api/manual'), { signal: gone.signal })
  const { requestId } = await runtime.next()
  const { stream: out, done } = runtime.stream(requestId)
  out.write('first')
  await fetched
  gone.abort()
  // Far more than all the buffers on the way hold: it ends only if somebody goes on reading.
  for (let megabyte = 0; megabyte < 20; megabyte += 1) {
    if (!out.write('x'.repeat(1_000_000))) await once(out, 'drain')
  }
  out.end()
  await done
  runtime.close()
})

test('a function that throws in the middle takes the connection with it', async () => {
  const answer = await stream({ pieces: ['first'], afterwards: 'throw' })
  await expect(answer.text()).rejects.toThrow()
})

test('when the functions die a stream is cut, what waits gets 503, and the next one works', async () => {
  const answer = await stream({ pieces: ['first'], afterwards: 'hang' })
  const waiting = fetch(url('/api/x'), { method: 'POST', body: '{"action":"crash"}', headers: json })
  await once(child, 'exit')
  api.environmentEnded(['buffered', 'streaming'])
  await expect(answer.text()).rejects.toThrow()
  const refused = await waiting
  expect(refused.status).toBe(503)
  expect(refused.headers.get('retry-after')).toBe('1')
  child = await startFunctions()
  expect((await fetch(url('/api/x'))).status).toBe(200)
})

test('the page and its assets are served with strict headers', async () => {
  const page = await fetch(url('/'))
  expect(page.status).toBe(200)
  expect(await page.text()).toContain('Turnkeep')
  expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8')
  expect(page.headers.get('content-security-policy')).toBe(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
      "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
  )
  expect(page.headers.get('x-content-type-options')).toBe('nosniff')
  expect(page.headers.get('referrer-policy')).toBe('no-referrer')
  const script = await fetch(url('/assets/page.js'))
  expect(script.headers.get('content-type')).toBe('text/javascript; charset=utf-8')
})

test('an asset that has not changed is not sent again', async () => {
  const etag = (await fetch(url('/assets/page.js'))).headers.get('etag') ?? ''
  const again = await fetch(url('/assets/page.js'), { headers: { 'if-none-match': etag } })
  expect(again.status).toBe(304)
})

test.each([
  '/assets/../../secret.txt',
  '/assets/..%2f..%2fsecret.txt',
  '/assets/%2e%2e/%2e%2e/secret.txt',
  '/assets/..%5c..%5csecret.txt',
  '/assets/../hidden.txt',
  '/assets/%00',
  '/assets/%',
  '/assets/',
  '/hidden.txt',
  '/somewhere',
])('%s is not found', async (path) => {
  const answer = await raw({ path })
  expect(answer.statusCode).toBe(404)
  expect(JSON.parse(answer.body)).toMatchObject({ error: { code: 'not_found' } })
})

test('the page cannot be posted to', async () => {
  expect((await fetch(url('/'), { method: 'POST' })).status).toBe(405)
})

const token = (body: unknown, headers: Record<string, string> = {}) =>
  raw(
    { method: 'POST', path: '/dev/token', headers: { ...json, ...headers } },
    typeof body === 'string' ? body : JSON.stringify(body),
  )

test('a token is one that the published keys verify', async () => {
  const answer = await token({ companyId: 'acme', platform: 'web', userId: '사용자', role: 'agent' })
  expect(answer.statusCode).toBe(200)
  const { payload, protectedHeader } = await jwtVerify(
    JSON.parse(answer.body).token,
    createRemoteJWKSet(new URL(door.jwksUrl)),
    { issuer: 'http://turnkeep.local', audience: 'turnkeep' },
  )
  expect(protectedHeader.alg).toBe('ES256')
  expect(payload).toMatchObject({ sub: '사용자', company_id: 'acme', platform: 'web', role: 'agent' })
  expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBe(12 * 3600)
})

test('a role that is not named is user', async () => {
  const answer = await token({ companyId: 'acme', platform: 'web', userId: 'u1' })
  const [, claims] = JSON.parse(answer.body).token.split('.')
  expect(JSON.parse(Buffer.from(claims, 'base64url').toString())).toMatchObject({ role: 'user' })
})

test.each([
  [{}, ['companyId', 'platform', 'userId']],
  [{ companyId: '', platform: 'x'.repeat(129), userId: 1 }, ['companyId', 'platform', 'userId']],
  [{ companyId: 'a', platform: 'b', userId: 'c', role: 'root' }, ['role']],
  ['not json', ['companyId', 'platform', 'userId']],
])('a bad request for a token names each field: %j', async (body, fields) => {
  const answer = await token(body)
  expect(answer.statusCode).toBe(400)
  const { error } = JSON.parse(answer.body)
  expect(error.code).toBe('invalid_request')
  expect(error.details.map((detail: { field: string }) => detail.field)).toEqual(fields)
})

test('another site gets no token: neither by its own host name nor by a form', async () => {
  const caller = { companyId: 'acme', platform: 'web', userId: 'u1' }
  expect((await token(caller, { host: 'evil.example:8787' })).statusCode).toBe(403)
  expect((await token(caller, { 'content-type': 'text/plain' })).statusCode).toBe(415)
  expect((await token(caller, { host: `localhost:${new URL(door.address).port}` })).statusCode).toBe(200)
})

test('only the public half of the key is published', async () => {
  const { keys } = (await (await fetch(door.jwksUrl)).json()) as { keys: Record<string, unknown>[] }
  expect(Object.keys(keys[0] ?? {}).sort()).toEqual(['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y'])
  const configuration = await (await fetch(url('/.well-known/openid-configuration'))).json()
  expect(configuration).toMatchObject({ issuer: 'http://turnkeep.local', jwks_uri: door.jwksUrl })
})

test('the key is kept for the owner alone, and tokens outlive a restart', async () => {
  const dataDir = join(directory, 'state')
  const first = await createDevIssuer(dataDir)
  const signed = await first.sign({ companyId: 'acme', platform: 'web', userId: 'u1', role: 'user' })
  const second = await createDevIssuer(dataDir)
  await jwtVerify(signed, createLocalJWKSet(second.jwks))
  expect((await stat(join(dataDir, 'issuer-key.json'))).mode & 0o777).toBe(0o600)
  expect(await readFile(join(dataDir, 'issuer-key.json'), 'utf8')).toContain('"d"')
})

test('it listens on 127.0.0.1 and on no other address', async () => {
  for (const address of [door.address, `http://${api.addresses.buffered}`]) {
    const socket = connect(Number(new URL(address).port), '127.0.0.2') // answered by what listens everywhere
    await expect(once(socket, 'connect')).rejects.toThrow()
  }
})

test('a taken port is found at once', async () => {
  const port = Number(new URL(door.address).port)
  const options = { port, resources: { functions, routes }, runtimeApi: api, issuer: await createDevIssuer() }
  await expect(startFrontDoor(options)).rejects.toMatchObject({ code: 'EADDRINUSE' })
})

test.each([
  ['/api/chat', 'chat'],
  ['/api/chat/stream', 'chat'],
  ['/api/chat/stream/0192', 'chat'],
  ['/api/messages/0192/regenerate', 'chat'],
  ['/api/messages/0192/feedback', 'api'],
  ['/api/sessions', 'api'],
  ['/api/sessions/0192/messages', 'api'],
  ['/api', undefined],
  ['/apix/sessions', undefined],
])('%s goes to %s, whatever the method', (path, name) => {
  expect(route(resources.routes, path)).toBe(name)
})
