/** What the issuer sends back with the browser: parameters in the address of the page. */
import { read, write } from '../storage.ts'
import type { Attempt } from './issuer.ts'

const ATTEMPT = 'sign-in.attempt'

export interface Answer {
  parameters: URLSearchParams
  /** What this tab had asked; null: nothing that this is the answer to. */
  attempt: Attempt | null
}

/** A tab has one attempt at a time: a later one replaces it. */
export const keepAttempt = (attempt: Attempt): void => write(ATTEMPT, attempt, sessionStorage)

/**
 * Takes the answer out of the address, at once and before anything else reads it, so that neither history nor a
 * reload has the code. What was open before comes back in its place. Null: the browser does not come from the issuer.
 */
export function takeAnswer(): Answer | null {
  const parameters = new URLSearchParams(location.search)
  const isAnswer = parameters.has('state') && (parameters.has('code') || parameters.has('error'))
  if (!isAnswer) return null
  const kept = read<Attempt>(ATTEMPT, sessionStorage)
  const attempt = kept?.state === parameters.get('state') ? kept : null
  // An attempt has one answer. One that is not this may still be under way: somebody went back in history.
  if (attempt !== null) write(ATTEMPT, null, sessionStorage)
  history.replaceState(null, '', location.pathname + (attempt?.place ?? ''))
  return { parameters, attempt }
}
