export type InvocationFailure =
  | 'unavailable' // nobody polled in time
  | 'init_failed' // the handler could not be loaded
  | 'environment_ended' // its process died, or its connection broke
  | 'timed_out'
  | 'function_error' // the handler threw
  | 'request_too_large'
  | 'response_too_large'

/** Why an invocation gave no answer, or broke off in the middle of one. */
export class InvocationError extends Error {
  override readonly name = 'InvocationError'
  readonly failure: InvocationFailure
  /** The runtime's name for what the handler threw. */
  readonly errorType: string | undefined

  constructor(failure: InvocationFailure, message: string, errorType?: string) {
    super(message)
    this.failure = failure
    this.errorType = errorType
  }
}
