/** The closed list of error codes, and how an expected failure is told. */

export type ErrorCode =
  | 'invalid_request'
  | 'message_too_long'
  | 'unauthenticated'
  | 'forbidden'
  | 'not_found'
  | 'method_not_allowed'
  | 'reply_in_progress'
  | 'conflict'
  | 'idempotency_mismatch'
  | 'ended'
  | 'erased'
  | 'payload_too_large'
  | 'unsupported_media_type'
  | 'rate_limited'
  | 'quota_exceeded'
  | 'internal'
  | 'model_unavailable'
  | 'unavailable'

/** One wrong field of a request: a dotted path and what is expected of it. */
export interface FieldProblem {
  field: string
  message: string
}

/** An expected failure: its code and message are for the client, its cause only for the log. */
export class CodedError extends Error {
  readonly code: ErrorCode
  readonly details: unknown
  constructor(code: ErrorCode, message: string, options: { details?: unknown; cause?: unknown } = {}) {
    super(message, { cause: options.cause })
    this.name = 'CodedError'
    this.code = code
    this.details = options.details
  }
}

export const invalidField = (field: string, message: string): CodedError =>
  new CodedError('invalid_request', `${field} ${message}`, {
    details: [{ field, message }] satisfies FieldProblem[],
  })

export interface ErrorBody {
  error: { code: ErrorCode; message: string; requestId: string; details?: unknown }
}
