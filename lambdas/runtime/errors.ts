/** The one table from error codes to HTTP, and the shape every error leaves in. */
import type { Logger } from '@aws-lambda-powertools/logger'
import type { MiddlewareObj } from '@middy/core'
import type { Context } from 'aws-lambda'
import { CodedError, type ErrorBody, type ErrorCode } from '../protocol/errors.ts'
import type { QuotaDetails } from '../protocol/limits.ts'

export const httpStatus: Record<ErrorCode, number> = {
  invalid_request: 400,
  message_too_long: 400,
  unauthenticated: 401,
  forbidden: 403,
  not_found: 404,
  method_not_allowed: 405,
  reply_in_progress: 409,
  conflict: 409,
  idempotency_mismatch: 409,
  ended: 410,
  erased: 410,
  payload_too_large: 413,
  unsupported_media_type: 415,
  rate_limited: 429,
  quota_exceeded: 429,
  internal: 500,
  model_unavailable: 502,
  unavailable: 503,
}

/** Seconds after which trying again makes sense: what is unavailable is usually restarting or waking up. */
const RETRY_AFTER_SECONDS = 5

/** A budget is there again with its next period. */
const secondsUntil = ({ resetsAt }: QuotaDetails): number =>
  Math.max(Math.ceil((Date.parse(resetsAt) - Date.now()) / 1_000), 1)

/** Errors of the body parser and the router, which know HTTP but not our codes. */
const codeOfStatus: Record<number, CodedError> = {
  404: new CodedError('not_found', 'There is no such route.'),
  413: new CodedError('payload_too_large', 'The request body is too large.'),
  415: new CodedError('unsupported_media_type', 'The request body must be application/json.'),
  422: new CodedError('invalid_request', 'The request body is not valid JSON.', {
    details: [{ field: 'body', message: 'must be valid JSON' }],
  }),
}

function expected(error: unknown): CodedError | undefined {
  if (error instanceof CodedError) return error
  const status = (error as { statusCode?: number }).statusCode
  if (status === undefined) return undefined
  return codeOfStatus[status] ?? (status < 500 ? codeOfStatus[422] : undefined)
}

/** Whether the request was refused for itself, and nothing is wrong here. */
export const isRefusal = (error: unknown): boolean => {
  const coded = expected(error)
  return coded !== undefined && httpStatus[coded.code] < 500
}

export interface HttpResponse {
  statusCode: number
  headers: Record<string, string>
  body: string
}

export function errorResponse(error: CodedError, requestId: string): HttpResponse {
  const body: ErrorBody = {
    error: {
      code: error.code,
      message: error.message,
      requestId,
      ...(error.details === undefined ? {} : { details: error.details }),
    },
  }
  return {
    statusCode: httpStatus[error.code],
    headers: {
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store',
      'x-request-id': requestId,
      ...(error.code === 'unavailable' ? { 'retry-after': String(RETRY_AFTER_SECONDS) } : {}),
      ...(error.code === 'quota_exceeded'
        ? { 'retry-after': String(secondsUntil(error.details as QuotaDetails)) }
        : {}),
      ...(error.code === 'method_not_allowed'
        ? { allow: (error.details as { allow: string[] }).allow.join(', ') }
        : {}),
    },
    body: JSON.stringify(body),
  }
}

/** Expected errors leave with their code; anything else is logged with its stack and leaves as `internal`. */
export const errorResponses = (log: Logger): MiddlewareObj<unknown, unknown, Error, Context> => ({
  onError: ({ error, context, event }) => {
    const coded = expected(error)
    if (coded === undefined || httpStatus[coded.code] >= 500)
      log.error('request failed', { requestId: context.awsRequestId, error: error as Error })
    const response = errorResponse(
      coded ?? new CodedError('internal', 'Something went wrong.'),
      context.awsRequestId,
    )
    const { limitHeaders } = event as { limitHeaders?: Record<string, string> }
    return { ...response, headers: { ...response.headers, ...limitHeaders } }
  },
})
