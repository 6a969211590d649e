/** Why somebody could not be signed in. */

/**
 * unreachable: page, issuer or network; later it may work. denied: by the person or by the issuer. stale: the answer
 * does not belong to what this tab asked, or came too late. failed: anything else, most likely a wrong setting.
 */
export type SignInProblem = 'unreachable' | 'denied' | 'stale' | 'failed'

export class SignInError extends Error {
  readonly problem: SignInProblem
  /** For whoever looks after the deployment. */
  readonly detail: string | null
  constructor(problem: SignInProblem, detail: string | null = null) {
    super(detail ?? problem)
    this.name = 'SignInError'
    this.problem = problem
    this.detail = detail
  }
}
