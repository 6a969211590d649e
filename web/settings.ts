/** What the deployment tells the page, which is the same build everywhere. */
import type { OidcSignIn, PageSettings } from '../lambdas/protocol/page-settings.ts'
import { SignInError } from './sign-in/problem.ts'

const LIMIT_MS = 15_000

/** Empty where the host has no such file. Throws SignInError where it cannot tell, or what it says makes no sense. */
export async function readSettings(): Promise<PageSettings> {
  const response = await fetch('/settings.json', { signal: AbortSignal.timeout(LIMIT_MS) }).catch(() => null)
  if (response === null) throw new SignInError('unreachable')
  if (response.status >= 500 || response.status === 429)
    throw new SignInError('unreachable', `settings.json: ${response.status}`)
  // A static host may answer any path with its page.
  const settings: unknown = response.ok ? await response.json().catch(() => null) : null
  const signIn = (settings as PageSettings | null)?.signIn
  if (signIn === undefined || signIn === null) return {}
  if (!isOidcSignIn(signIn)) throw new SignInError('failed', 'settings.json: signIn')
  return { signIn }
}

const isOidcSignIn = ({ kind, issuer, clientId, scope, token }: Partial<OidcSignIn>): boolean =>
  kind === 'oidc' &&
  [issuer, clientId, scope].every((text) => typeof text === 'string' && text !== '') &&
  URL.canParse(issuer ?? '') &&
  (token === 'id' || token === 'access')
