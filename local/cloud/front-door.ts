import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { finished } from 'node:stream'
import type { Resources } from '../../lib/resources.ts'
import type { DevIssuer } from './dev-issuer.ts'
import { serveDevToken } from './dev-token.ts'
import { fromFunctionUrlResult, outgoingHeaders, splitUrl, toFunctionUrlEvent } from './function-url.ts'
import { readBody, sendError, sendJson } from './http-answers.ts'
import { InvocationError } from './invocation-error.ts'
import type { StreamedResult } from './invocations.ts'
import { isPagePath, servePage } from './page.ts'
import { route } from './route.ts'
import type { RuntimeApi } from './runtime-api.ts'

/** Longer than any client keeps a connection for reuse, so that none is closed just as it is used again. */
const KEEP_ALIVE_MS = 65_000

type Options = {
  port: number
  resources: Pick<Resources, 'functions' | 'routes'>
  runtimeApi: Pick<RuntimeApi, 'invoke'>
  issuer: DevIssuer
  /** Where the built page lies; absent: no page. */
  pageDir?: string | undefined
  /** Shown to the functions, as the distribution does; absent: there is none in front of them. */
  originSecret?: () => string
  /** What went wrong, without message content. */
  log?: (problem: string) => void
}

/** The one origin that clients see: functions, page, and the identity provider for development. */
export type FrontDoor = {
  address: string
  jwksUrl: string
  /** Until then, and after `refuse`, everything but the keys is answered with 503. */
  open(): void
  refuse(): void
  close(): Promise<void>
}

/** Listens at once, on loopback, so that a taken port is found before anything else is started. */
export async function startFrontDoor(options: Options): Promise<FrontDoor> {
  let isOpen = false
  const server = createServer((request, response) => {
    serve(options, isOpen, request, response).catch((error: unknown) => {
      if (request.destroyed && !request.complete) return // the client went away while it was sending
      options.log?.(`front door: ${error instanceof Error ? error.stack : error}`)
      sendError(response, 'internal', 'Something went wrong.')
    })
  })
  server.keepAliveTimeout = KEEP_ALIVE_MS
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port, '127.0.0.1', resolve)
  })
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    address,
    jwksUrl: `${address}/.well-known/jwks.json`,
    open: () => {
      isOpen = true
    },
    refuse: () => {
      isOpen = false
    },
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections()
      await closed
    },
  }
}

async function serve(
  options: Options,
  isOpen: boolean,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { rawPath } = splitUrl(request.url ?? '/')
  if (rawPath === '/.well-known/jwks.json') return sendJson(response, 200, options.issuer.jwks)
  if (rawPath === '/.well-known/openid-configuration')
    return sendJson(response, 200, openidConfiguration(options.issuer, request))
  if (!isOpen) return sendError(response, 'unavailable', 'The service is starting or stopping.')
  if (rawPath === '/dev/token') return serveDevToken(options.issuer, request, response)
  if (isPagePath(rawPath)) return servePage(options.pageDir, rawPath, request, response)
  const name = route(options.resources.routes, rawPath)
  if (!name) return sendError(response, 'not_found', 'There is nothing at this address.')
  return serveFunction(options, name, request, response)
}

function openidConfiguration({ issuer }: DevIssuer, request: IncomingMessage): object {
  return {
    issuer,
    jwks_uri: `http://127.0.0.1:${request.socket.localPort}/.well-known/jwks.json`,
    response_types_supported: ['id_token'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['ES256'],
  }
}

async function serveFunction(
  { resources, runtimeApi, originSecret, log }: Options,
  name: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const requestId = randomUUID()
  const body = await readBody(request)
  if (!body) return sendError(response, 'payload_too_large', 'The body is over 6 MB.', { requestId })
  if (originSecret) addDistributionHeaders(request, originSecret())
  const event = JSON.stringify(toFunctionUrlEvent(request, body, requestId))
  try {
    if (resources.functions[name]?.url === 'streaming') {
      sendStreamed(response, await runtimeApi.invoke(name, event, { streaming: true }), requestId)
    } else {
      sendBuffered(response, await runtimeApi.invoke(name, event), requestId)
    }
  } catch (error) {
    if (!(error instanceof InvocationError)) throw error
    log?.(`front door: ${name}: ${error.failure} ${error.errorType ?? ''} (${requestId})`)
    sendFailure(response, error, requestId)
  }
}

/** As the distribution's origin and its function at the edge do: over whatever the client sent. */
function addDistributionHeaders(request: IncomingMessage, secret: string): void {
  Object.assign(request.headersDistinct, {
    'x-turnkeep-origin': [secret],
    'x-turnkeep-viewer': [request.socket.remoteAddress ?? '127.0.0.1'],
  })
}

function sendFailure(response: ServerResponse, { failure }: InvocationError, requestId: string): void {
  if (failure === 'request_too_large') {
    // Not the body alone: the event counts, with its headers and its escapes.
    sendError(response, 'payload_too_large', 'The request is over 6 MB.', { requestId })
  } else if (failure === 'function_error' || failure === 'timed_out' || failure === 'response_too_large') {
    sendError(response, 'internal', 'Something went wrong.', { requestId })
  } else {
    sendError(response, 'unavailable', 'The service is not available right now.', { requestId })
  }
}

function sendBuffered(response: ServerResponse, payload: Buffer, requestId: string): void {
  const result = fromFunctionUrlResult(payload)
  if (result) {
    // Not by writeHead: this way Node adds the length where one belongs.
    response.statusCode = result.statusCode
    for (const [name, value] of Object.entries(outgoingHeaders(result, requestId))) {
      if (value !== undefined) response.setHeader(name, value)
    }
    response.end(result.body)
  } else sendError(response, 'internal', 'Something went wrong.', { requestId })
}

/**
 * What arrives together leaves together, at once. A client that goes away does not end the function, as on AWS:
 * what it still says is read and dropped. A function that breaks off takes the connection with it, so that the
 * client sees no proper end.
 */
function sendStreamed(response: ServerResponse, { prelude, body }: StreamedResult, requestId: string): void {
  response.socket?.setNoDelay(true)
  response.writeHead(prelude.statusCode, outgoingHeaders(prelude, requestId))
  response.flushHeaders()
  const arrived: Buffer[] = []
  const flush = (): void => {
    const chunks = arrived.splice(0)
    if (chunks.length === 0 || response.destroyed) return
    if (!response.write(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks))) body.pause()
  }
  body.on('data', (chunk: Buffer) => {
    if (arrived.push(chunk) === 1) setImmediate(flush) // the same turn of the loop: after all that could be read
  })
  response.on('drain', () => body.resume())
  response.on('close', () => body.resume())
  finished(body, (error) => {
    flush()
    if (error) response.socket?.destroySoon()
    else response.end()
  })
}
