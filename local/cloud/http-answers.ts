import { randomUUID } from 'node:crypto'
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { ErrorCode, FieldProblem } from '../../lambdas/protocol/errors.ts'
import { MAX_PAYLOAD_BYTES } from './runtime-api.ts'

/** What the front door itself may answer with; the functions have their own, longer table. */
const STATUS = {
  invalid_request: 400,
  forbidden: 403,
  not_found: 404,
  method_not_allowed: 405,
  payload_too_large: 413,
  unsupported_media_type: 415,
  internal: 500,
  unavailable: 503,
} as const satisfies Partial<Record<ErrorCode, number>>

/** How much of a refused upload is read before the connection is cut. */
const MAX_DISCARDED_BYTES = 64 * 1024 * 1024
const RETRY_AFTER_SECONDS = 1

export function sendJson(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: OutgoingHttpHeaders = {},
): void {
  const json = Buffer.from(JSON.stringify(body))
  response.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': json.length,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    'x-request-id': randomUUID(),
    ...headers,
  })
  response.end(json)
}

export function sendError(
  response: ServerResponse,
  code: keyof typeof STATUS,
  message: string,
  { details, requestId = randomUUID() }: { details?: FieldProblem[]; requestId?: string } = {},
): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  const error = { code, message, requestId, ...(details && { details }) }
  const headers: OutgoingHttpHeaders = { 'x-request-id': requestId }
  if (code === 'unavailable') headers['retry-after'] = String(RETRY_AFTER_SECONDS)
  sendJson(response, STATUS[code], { error }, headers)
}

/**
 * The request's body; undefined when it is over 6 MB. Then it is read all the same: a client that is still
 * sending would not see the answer.
 */
export async function readBody(request: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request) {
    size += chunk.length
    if (size <= MAX_PAYLOAD_BYTES) chunks.push(chunk)
    else chunks.length = 0
    if (size > MAX_DISCARDED_BYTES) return undefined
  }
  return size > MAX_PAYLOAD_BYTES ? undefined : Buffer.concat(chunks)
}
