import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FieldProblem } from '../../lambdas/protocol/errors.ts'
import type { Caller, DevIssuer, Role } from './dev-issuer.ts'
import { hostName } from './function-url.ts'
import { readBody, sendError, sendJson } from './http-answers.ts'

const MAX_CLAIM_CHARACTERS = 128
const ROLES: Role[] = ['user', 'agent', 'admin']
const LOCAL_HOSTS = new Set(['127.0.0.1', 'localhost'])

/**
 * POST /dev/token. Another site in the same browser must not get a token: its requests carry its own host name
 * when it has its DNS point here, and may not be JSON without a preflight, which is never answered.
 */
export async function serveDevToken(
  issuer: DevIssuer,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.method !== 'POST') {
    response.setHeader('allow', 'POST')
    return sendError(response, 'method_not_allowed', 'Only POST is allowed here.')
  }
  if (!LOCAL_HOSTS.has(hostName(request.headers))) {
    return sendError(response, 'forbidden', 'Tokens are given to 127.0.0.1 and localhost only.')
  }
  if (!/^application\/json\s*(;|$)/i.test(request.headers['content-type'] ?? '')) {
    return sendError(response, 'unsupported_media_type', 'The content type must be application/json.')
  }
  const body = await readBody(request)
  if (!body) return sendError(response, 'payload_too_large', 'The body is over 6 MB.')
  const checked = check(parse(body))
  if ('problems' in checked) {
    return sendError(response, 'invalid_request', 'The request is not valid.', { details: checked.problems })
  }
  sendJson(response, 200, { token: await issuer.sign(checked.caller) })
}

function parse(body: Buffer): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(body.toString())
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  } catch {
    return {} // every field is reported as missing
  }
}

function check(body: Record<string, unknown>): { caller: Caller } | { problems: FieldProblem[] } {
  const problems: FieldProblem[] = []
  const claim = (field: string): string => {
    const value = body[field]
    if (typeof value === 'string' && value.length >= 1 && value.length <= MAX_CLAIM_CHARACTERS) return value
    problems.push({ field, message: `must be a string of 1 to ${MAX_CLAIM_CHARACTERS} characters` })
    return ''
  }
  const role = ROLES.find((known) => known === (body.role ?? 'user'))
  const caller = {
    companyId: claim('companyId'),
    platform: claim('platform'),
    userId: claim('userId'),
    role: role ?? 'user',
  }
  if (!role) problems.push({ field: 'role', message: `must be one of ${ROLES.join(', ')}` })
  return problems.length > 0 ? { problems } : { caller }
}
