import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import type { LambdaFunctionURLEvent } from 'aws-lambda'
import type { Prelude } from './streamed-response.ts'

/** Content types that Lambda takes for text; everything else travels as base64. */
const TEXT_CONTENT_TYPE = /^(text\/|application\/(json|javascript|xml)\b|[^;]+\+(json|xml)\b)/i
/** The server's own business, never a function's. */
const CONNECTION_HEADERS = new Set(['connection', 'keep-alive', 'transfer-encoding', 'upgrade'])
const JSON_HEADERS = { 'content-type': 'application/json' }
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/** An HTTP request as a Function URL gives it to a function: payload format 2.0. */
export function toFunctionUrlEvent(
  request: IncomingMessage,
  body: Buffer,
  requestId: string,
): LambdaFunctionURLEvent {
  const { rawPath, rawQueryString } = splitUrl(request.url ?? '/')
  const headers = joinedHeaders(request)
  const { cookie, ...otherHeaders } = headers
  const query = joinedQuery(rawQueryString)
  const isText = TEXT_CONTENT_TYPE.test(headers['content-type'] ?? '')
  const domainName = headers.host ?? 'localhost'
  const now = new Date()
  return {
    version: '2.0',
    routeKey: '$default',
    rawPath,
    rawQueryString,
    ...(cookie && { cookies: cookie.split(/; */) }),
    headers: otherHeaders,
    ...(rawQueryString && { queryStringParameters: query }),
    requestContext: {
      accountId: 'anonymous',
      apiId: 'local',
      domainName,
      domainPrefix: 'local',
      http: {
        method: request.method ?? 'GET',
        path: rawPath,
        protocol: `HTTP/${request.httpVersion}`,
        sourceIp: request.socket.remoteAddress ?? '127.0.0.1',
        userAgent: headers['user-agent'] ?? '',
      },
      requestId,
      routeKey: '$default',
      stage: '$default',
      time: commonLogTime(now),
      timeEpoch: now.getTime(),
    },
    ...(body.length > 0 && { body: body.toString(isText ? 'utf8' : 'base64') }),
    isBase64Encoded: body.length > 0 && !isText,
  }
}

export function splitUrl(url: string): { rawPath: string; rawQueryString: string } {
  const at = url.indexOf('?')
  return at === -1
    ? { rawPath: url, rawQueryString: '' }
    : { rawPath: url.slice(0, at), rawQueryString: url.slice(at + 1) }
}

/** Lower-cased, repeated ones joined by commas. Lambda sets the forwarding headers itself. */
function joinedHeaders(request: IncomingMessage): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const [name, values] of Object.entries(request.headersDistinct)) {
    if (values) headers[name] = values.join(name === 'cookie' ? '; ' : ',')
  }
  headers['x-forwarded-for'] = request.socket.remoteAddress ?? '127.0.0.1'
  headers['x-forwarded-proto'] = 'http'
  headers['x-forwarded-port'] = String(request.socket.localPort)
  return headers
}

function joinedQuery(rawQueryString: string): Record<string, string> {
  const query: Record<string, string> = {}
  for (const [name, value] of new URLSearchParams(rawQueryString)) {
    query[name] = name in query ? `${query[name]},${value}` : value
  }
  return query
}

/** 21/Nov/2026:09:05:00 +0000 */
function commonLogTime(at: Date): string {
  const [date = '', time = ''] = at.toISOString().split(/[T.]/)
  const [year, month, day] = date.split('-')
  return `${day}/${MONTHS[Number(month) - 1]}/${year}:${time} +0000`
}

/**
 * What a buffered function answered, as HTTP: an object with a statusCode says everything; anything else is
 * the body itself, as JSON. Undefined where Lambda would answer 502.
 */
export function fromFunctionUrlResult(payload: Buffer): (Prelude & { body: Buffer }) | undefined {
  const result: unknown = JSON.parse(payload.toString())
  if (typeof result !== 'object' || result === null || !('statusCode' in result)) {
    const body = typeof result === 'string' ? result : payload
    return { statusCode: 200, headers: JSON_HEADERS, cookies: [], body: Buffer.from(body) }
  }
  const { statusCode, headers, cookies, body, isBase64Encoded } = result as {
    statusCode: unknown
    headers?: Record<string, unknown>
    cookies?: string[]
    body?: unknown
    isBase64Encoded?: boolean
  }
  if (typeof statusCode !== 'number' || (body !== undefined && typeof body !== 'string')) return undefined
  return {
    statusCode,
    headers: { ...JSON_HEADERS, ...lowerCased(headers ?? {}) },
    cookies: cookies ?? [],
    body: Buffer.from(body ?? '', isBase64Encoded ? 'base64' : 'utf8'),
  }
}

function lowerCased(headers: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name.toLowerCase(), String(value)]),
  )
}

/** The headers that a function's answer leaves with. */
export function outgoingHeaders({ headers, cookies }: Prelude, requestId: string): OutgoingHttpHeaders {
  const outgoing: OutgoingHttpHeaders = { 'x-amzn-requestid': requestId }
  for (const [name, value] of Object.entries(lowerCased(headers))) {
    if (!CONNECTION_HEADERS.has(name)) outgoing[name] = value
  }
  if (cookies.length > 0) outgoing['set-cookie'] = cookies
  return outgoing
}

/** The host name that a request was sent to, without its port. */
export function hostName(headers: IncomingHttpHeaders): string {
  return (headers.host ?? '').replace(/:\d+$/, '').toLowerCase()
}
