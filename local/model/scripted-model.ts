/**
 * A model that speaks the OpenAI protocol over HTTP and follows a script: what tests, the local cloud and its
 * page use when no real one is configured. On the command line: node local/model/scripted-model.ts --port 9000
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { parseArgs } from 'node:util'
import { respondUsefully } from './brain.ts'
import { BadRequest, type ChatRequest, parseChatRequest, parseObject } from './chat-request.ts'
import { playChat } from './completion.ts'
import { answerEmbeddings } from './embeddings-endpoint.ts'
import type { Respond } from './script.ts'

export type { ChatRequest } from './chat-request.ts'
export type { Respond, Script } from './script.ts'

/** The last ones are kept: enough for a test, bounded for a long evening. */
const MAX_RECORDED_REQUESTS = 1_000

export type RecordedRequest = {
  path: string
  /** Present for a chat request that could be read. */
  chat: ChatRequest | undefined
  body: Record<string, unknown>
  piecesSent: number
  /** `disconnected`: the client left before the end, and nothing more was made. */
  outcome: 'running' | 'finished' | 'disconnected' | 'refused'
  /** Resolves with the outcome. */
  over: Promise<void>
}

export type ScriptedModel = {
  /** What OPENAI_BASE_URL is set to; ends in /v1. */
  url: string
  requests: RecordedRequest[]
  close(): Promise<void>
}

type Options = {
  port?: number
  /** Between two words, where the script does not say. */
  tokenDelayMs?: number
  respond?: Respond
}

export async function startScriptedModel(options: Options = {}): Promise<ScriptedModel> {
  const { port = 0, tokenDelayMs = 0, respond = respondUsefully } = options
  const requests: RecordedRequest[] = []
  const server = createServer((request, response) => {
    const record = startRecord(request.url ?? '')
    requests.push(record.request)
    if (requests.length > MAX_RECORDED_REQUESTS) requests.shift()
    response.on('close', () => record.finish(response.writableFinished))
    serve(request, response, record.request, { respond, tokenDelayMs }).catch((error: unknown) => {
      record.request.outcome = 'refused'
      if (error instanceof BadRequest) sendError(response, 400, error.message, { param: error.param })
      else if (!response.destroyed) sendError(response, 500, String(error), { type: 'server_error' })
    })
  })
  server.keepAliveTimeout = 65_000 // longer than a client keeps a connection for reuse
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    requests,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections()
      await closed
    },
  }
}

function startRecord(path: string): { request: RecordedRequest; finish(complete: boolean): void } {
  const { promise, resolve } = Promise.withResolvers<void>()
  const request: RecordedRequest = {
    path,
    chat: undefined,
    body: {},
    piecesSent: 0,
    outcome: 'running',
    over: promise,
  }
  return {
    request,
    finish: (complete) => {
      if (request.outcome === 'running') request.outcome = complete ? 'finished' : 'disconnected'
      resolve()
    },
  }
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  record: RecordedRequest,
  { respond, tokenDelayMs }: { respond: Respond; tokenDelayMs: number },
): Promise<void> {
  const text = await readBody(request)
  if (!/^Bearer \S+/.test(request.headers.authorization ?? '')) {
    record.outcome = 'refused'
    return sendError(response, 401, "You didn't provide an API key.", { code: 'invalid_api_key' })
  }
  const route = `${request.method} ${record.path}`
  if (route === 'GET /v1/models') return sendJson(response, 200, models)
  if (route === 'POST /v1/embeddings') {
    record.body = parseObject(text)
    return sendJson(response, 200, answerEmbeddings(record.body))
  }
  if (route !== 'POST /v1/chat/completions') {
    record.outcome = 'refused'
    return sendError(response, 404, `Unknown request URL: ${route}.`, { code: 'unknown_url' })
  }
  record.body = parseObject(text)
  const chat = parseChatRequest(record.body)
  record.chat = chat
  const script = await respond(chat)
  if (script.error) {
    const { status, message = `The script says ${status}.`, retryAfterSeconds } = script.error
    if (retryAfterSeconds !== undefined) response.setHeader('retry-after', String(retryAfterSeconds))
    return sendError(response, status, message, { type: status === 429 ? 'requests' : 'server_error' })
  }
  if (script.wrongProtocol) {
    response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>Log in</title>')
    return
  }
  await playChat(chat, { tokenDelayMs, ...script }, response, () => {
    record.piecesSent += 1
  })
}

const models = {
  object: 'list',
  data: ['scripted-chat', 'scripted-embedding'].map((id) => ({
    id,
    object: 'model',
    created: 0,
    owned_by: 'turnkeep',
  })),
}

async function readBody(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of request.setEncoding('utf8')) text += chunk
  return text
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

function sendError(
  response: ServerResponse,
  status: number,
  message: string,
  { type = 'invalid_request_error', param = '', code = null as string | null },
): void {
  sendJson(response, status, { error: { message, type, param: param || null, code } })
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      port: { type: 'string', default: '9000' },
      'token-delay-ms': { type: 'string', default: '20' },
    },
  })
  const model = await startScriptedModel({
    port: Number(values.port),
    tokenDelayMs: Number(values['token-delay-ms']),
  })
  console.log(`The scripted model listens at ${model.url}`)
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void model.close())
}
