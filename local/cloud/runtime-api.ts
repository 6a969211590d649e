import { randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { InvocationError } from './invocation-error.ts'
import { createInvocations, type Invocation, type Invocations, type StreamedResult } from './invocations.ts'
import { readStreamedResponse } from './streamed-response.ts'

const API = '/2018-06-01/runtime'
/** Lambda's limit for a request and for a buffered response. */
export const MAX_PAYLOAD_BYTES = 6 * 1024 * 1024
/** How long an invocation waits for somebody to poll: about what a restart of the functions takes. */
const DEFAULT_WAIT_MS = 10_000

export type RuntimeFunction = { timeoutSeconds: number; arn: string }
type InvokeOptions = { streaming?: boolean; waitMs?: number }

/** Lambda's Runtime API, one listener a function, and the Invoke API as a function call. */
export type RuntimeApi = {
  /** host:port of each function's listener: its AWS_LAMBDA_RUNTIME_API. */
  addresses: Record<string, string>
  /**
   * Hands the payload to whoever polls for the function. Rejects with InvocationError only. A streamed result
   * comes with its first byte; its body fails with InvocationError when the function breaks off.
   */
  invoke(name: string, payload: string, options: InvokeOptions & { streaming: true }): Promise<StreamedResult>
  invoke(name: string, payload: string, options?: InvokeOptions & { streaming?: false }): Promise<Buffer>
  /** Resolves once somebody polls for the function; rejects when the signal aborts. */
  polled(name: string, signal: AbortSignal): Promise<void>
  /** Fails at once everything that these functions were running: their process is gone. */
  environmentEnded(names: string[]): void
  close(): Promise<void>
}

type Listener = {
  name: string
  arn: string
  server: Server
  invocations: Invocations
  /** To be called when a connection broke: one process may poll for every function. */
  broke(): void
}

/** Starts the listeners, on loopback and free ports. */
export async function startRuntimeApi(functions: Record<string, RuntimeFunction>): Promise<RuntimeApi> {
  const listeners = new Map<string, Listener>()
  const addresses: Record<string, string> = {}
  let closing = false // nobody would poll for what is invoked now
  for (const [name, definition] of Object.entries(functions)) {
    const listener = createListener(name, definition, () => {
      for (const { invocations } of listeners.values()) invocations.distrustPolls()
    })
    await new Promise<void>((resolve) => listener.server.listen(0, '127.0.0.1', resolve))
    listeners.set(name, listener)
    addresses[name] = `127.0.0.1:${(listener.server.address() as AddressInfo).port}`
  }
  const named = (name: string): Listener => {
    const listener = listeners.get(name)
    if (!listener) throw new Error(`There is no function named ${name}.`)
    return listener
  }
  const invoke = async (name: string, payload: string, options: InvokeOptions = {}): Promise<unknown> => {
    if (Buffer.byteLength(payload) > MAX_PAYLOAD_BYTES) {
      throw new InvocationError('request_too_large', `${name}: the request is over 6 MB.`)
    }
    if (closing) throw new InvocationError('unavailable', `${name}: the cloud is closing.`)
    const { streaming = false, waitMs = DEFAULT_WAIT_MS } = options
    return named(name).invocations.invoke(payload, streaming, waitMs)
  }
  return {
    addresses,
    invoke: invoke as RuntimeApi['invoke'],
    polled: (name, signal) => named(name).invocations.polled(signal),
    environmentEnded: (names) => {
      for (const name of names) named(name).invocations.failRunning('environment_ended', 'its process ended.')
    },
    close: async () => {
      closing = true
      await Promise.all([...listeners.values()].map(close))
    },
  }
}

function createListener(name: string, { timeoutSeconds, arn }: RuntimeFunction, broke: () => void): Listener {
  const server = createServer((request, response) => serve(listener, request, response))
  server.requestTimeout = 0 // a streamed response is one request, and takes as long as its function
  server.keepAliveTimeout = 0 // never: closing an idle connection races with the next poll on it
  const listener = { name, arn, server, invocations: createInvocations(name, timeoutSeconds), broke }
  return listener
}

async function close({ server, invocations }: Listener): Promise<void> {
  invocations.failQueued('unavailable', 'the cloud is closing.')
  invocations.failRunning('environment_ended', 'the cloud is closing.')
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  server.closeAllConnections()
  await closed
}

async function serve(listener: Listener, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = request.url ?? ''
  if (request.method === 'GET' && path === `${API}/invocation/next`) return next(listener, response)
  if (request.method !== 'POST') return refuse(request, response, 404, 'NotFound', 'No such resource')
  if (path === `${API}/init/error`) return initError(listener, request, response)
  const [, id, kind] = /^\/2018-06-01\/runtime\/invocation\/([^/]+)\/(response|error)$/.exec(path) ?? []
  if (!id) return refuse(request, response, 404, 'NotFound', 'No such resource')
  const invocation = listener.invocations.running(id)
  // Unknown, timed out, or answered twice.
  if (!invocation || invocation.cut) {
    return refuse(request, response, 400, 'InvalidRequestID', 'Invalid request ID')
  }
  if (kind === 'error') return functionError(listener, invocation, request, response)
  if (request.headers['lambda-runtime-function-response-mode'] === 'streaming') {
    return streamedResponse(listener, invocation, request, response)
  }
  return bufferedResponse(listener, invocation, request, response)
}

function next({ arn, invocations, broke }: Listener, response: ServerResponse): void {
  let delivered: Invocation | undefined
  const withdraw = invocations.next({
    take: (invocation) => {
      delivered = invocation
      const payload = Buffer.from(invocation.payload)
      response.writeHead(200, {
        'content-type': 'application/json',
        'content-length': payload.length,
        'lambda-runtime-aws-request-id': invocation.id,
        'lambda-runtime-deadline-ms': invocation.deadline,
        'lambda-runtime-invoked-function-arn': arn,
        'lambda-runtime-trace-id': traceId(),
      })
      response.end(payload)
    },
    hangUp: () => void response.destroy(),
  })
  response.once('close', () => {
    withdraw()
    if (!delivered) broke()
    else if (!response.writableFinished) invocations.undelivered(delivered)
  })
}

function traceId(): string {
  const seconds = Math.floor(Date.now() / 1000).toString(16)
  return `Root=1-${seconds}-${randomBytes(12).toString('hex')};Parent=${randomBytes(8).toString('hex')};Sampled=0`
}

async function initError({ invocations }: Listener, request: IncomingMessage, response: ServerResponse) {
  const { errorMessage } = parseError(await readAll(request))
  accept(response)
  invocations.failQueued('init_failed', `it did not start: ${errorMessage}`)
}

async function functionError(
  { name }: Listener,
  invocation: Invocation,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { errorType, errorMessage } = parseError(await readAll(request))
  accept(response)
  invocation.fail(new InvocationError('function_error', `${name}: ${errorMessage}`, errorType))
}

async function bufferedResponse(
  { name }: Listener,
  invocation: Invocation,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const payload = await readAll(request)
  if (!request.complete) return // its process died while it answered; environmentEnded tells
  if (payload.length > MAX_PAYLOAD_BYTES) {
    refuse(request, response, 413, 'RequestEntityTooLarge', 'Exceeded maximum allowed payload size (6 MB).')
    return invocation.fail(new InvocationError('response_too_large', `${name}: the answer is over 6 MB.`))
  }
  accept(response)
  const prelude = { statusCode: 200, headers: { 'content-type': 'application/json' }, cookies: [] }
  invocation.begin(invocation.streaming ? { prelude, body: Readable.from([payload]) } : payload)
  invocation.end()
}

function streamedResponse(
  { name, broke }: Listener,
  invocation: Invocation,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const body = readStreamedResponse(request, name, {
    begun: (prelude) => {
      if (invocation.streaming) invocation.begin({ prelude, body })
    },
    ended: (error) => {
      invocation.cut = undefined
      if (error?.failure === 'environment_ended') broke()
      accept(response)
      if (error) invocation.fail(error)
      else invocation.end()
    },
  })
  invocation.cut = (error) => {
    body.destroy(error)
    request.destroy()
  }
  if (!invocation.streaming) {
    body.toArray().then(
      (chunks) => invocation.begin(Buffer.concat(chunks)),
      () => undefined, // `ended` has told the caller
    )
  }
}

/** At most a little over the limit is kept; what follows is read and dropped, so that the answer gets through. */
async function readAll(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of request) {
      if (size <= MAX_PAYLOAD_BYTES) chunks.push(chunk)
      size += chunk.length
    }
  } catch {
    // The sender is gone: `request.complete` says so.
  }
  return Buffer.concat(chunks)
}

function parseError(body: Buffer): { errorType: string; errorMessage: string } {
  try {
    const { errorType, errorMessage } = JSON.parse(body.toString())
    return { errorType: String(errorType), errorMessage: String(errorMessage) }
  } catch {
    return { errorType: 'Unknown', errorMessage: 'The error could not be read.' }
  }
}

function accept(response: ServerResponse): void {
  response.writeHead(202, { 'content-type': 'application/json' }).end('{"status":"OK"}')
}

function refuse(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  errorType: string,
  errorMessage: string,
): void {
  request.resume()
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify({ errorType, errorMessage }))
}
