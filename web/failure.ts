/** What went wrong, in a form that can be shown, stored and decided on. */
import type { ReplyErrorCode } from '../lambdas/protocol/chat.ts'
import type { ErrorCode, FieldProblem } from '../lambdas/protocol/errors.ts'

/** `unreachable`: no answer came at all. `unanswered`: the question is there and its answer never came. */
export type FailureCode = ReplyErrorCode | 'unreachable' | 'unanswered'

export interface Failure {
  code: FailureCode
  requestId: string | null
  /** When another try may work, in milliseconds since 1970; null: at once. */
  retryAt: number | null
  /** False where trying the same again cannot help. */
  retryable: boolean
  fields: FieldProblem[]
}

/** A request that was not answered with success. Status 0: there was no answer. */
export class ApiError extends Error {
  readonly status: number
  readonly failure: Failure
  /** With `reply_in_progress`: the answer that is in the way. */
  readonly runningId: string | null
  constructor(status: number, failure: Failure, runningId: string | null = null) {
    super(failure.code)
    this.name = 'ApiError'
    this.status = status
    this.failure = failure
    this.runningId = runningId
  }
}

export const plainFailure = (code: FailureCode, requestId: string | null = null): Failure => ({
  code,
  requestId,
  retryAt: null,
  retryable: true,
  fields: [],
})

/** The failure behind anything thrown; what is no ApiError (a body that broke off) counts as unreachable. */
export const failureOf = (error: unknown): Failure =>
  error instanceof ApiError ? error.failure : plainFailure('unreachable')

/** Refusals that sending the same again cannot change. */
const FINAL: ReadonlySet<ErrorCode> = new Set([
  'invalid_request',
  'message_too_long',
  'payload_too_large',
  'unsupported_media_type',
  'forbidden',
  'not_found',
  'ended',
  'erased',
])

interface ErrorShape {
  code: ErrorCode
  requestId?: string
  details?: unknown
}

/** The `error` object of an answer's body, or null where something in between wrote another one. */
async function errorIn(response: Response): Promise<ErrorShape | null> {
  try {
    const body = (await response.json()) as { error?: Partial<ErrorShape> } | null
    const error = body?.error
    return typeof error?.code === 'string' ? (error as ErrorShape) : null
  } catch {
    return null
  }
}

const fieldsIn = (details: unknown): FieldProblem[] =>
  Array.isArray(details)
    ? details.filter((one): one is FieldProblem => typeof (one as FieldProblem | null)?.field === 'string')
    : []

const runningIn = (details: unknown): string | null => {
  const id = (details as { messageId?: unknown } | null | undefined)?.messageId
  return typeof id === 'string' ? id : null
}

/** `Retry-After` in milliseconds since 1970: it may be seconds or a date. */
function retryTime(header: string | null): number | null {
  if (header === null || header.trim() === '') return null
  const seconds = Number(header)
  const at = Number.isFinite(seconds) ? Date.now() + seconds * 1000 : Date.parse(header)
  return Number.isFinite(at) ? at : null
}

const codeForStatus = (status: number): ErrorCode => {
  if (status === 401) return 'unauthenticated'
  if (status === 403) return 'forbidden'
  if (status === 404) return 'not_found'
  if (status === 413) return 'payload_too_large'
  if (status === 429) return 'rate_limited'
  return status >= 500 ? 'unavailable' : 'invalid_request'
}

/** Reads an unsuccessful answer, whoever wrote it. */
export async function errorFrom(response: Response): Promise<ApiError> {
  const error = await errorIn(response)
  const code = error?.code ?? codeForStatus(response.status)
  const failure: Failure = {
    code,
    requestId: response.headers.get('x-request-id') ?? error?.requestId ?? null,
    retryAt: retryTime(response.headers.get('retry-after')),
    retryable: !FINAL.has(code),
    fields: fieldsIn(error?.details),
  }
  return new ApiError(response.status, failure, runningIn(error?.details))
}
