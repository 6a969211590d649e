/**
 * What the page says to an OIDC issuer, as a public client: authorization code with PKCE, state and nonce. Whatever
 * goes wrong is thrown as SignInError.
 */
import * as oauth from 'oauth4webapi'
import type { OidcSignIn } from '../../lambdas/protocol/page-settings.ts'
import { SignInError, type SignInProblem } from './problem.ts'
import type { Person, Tokens } from './tokens.ts'

/** One way to the issuer and back. */
export interface Attempt {
  state: string
  nonce: string
  verifier: string
  /** The fragment of the address that was open. */
  place: string
}

export interface Issuer {
  /** The address to go to. */
  begin(attempt: Attempt): Promise<string>
  /** Checks what came back and exchanges the code. */
  finish(attempt: Attempt, answer: URLSearchParams): Promise<Tokens>
  /** Tokens to use instead of these. `stale`: there are none any more. */
  renew(tokens: Tokens): Promise<Tokens>
  /** The address at which the issuer ends its own session; null: it has none. The refresh token is revoked. */
  end(tokens: Tokens): Promise<string | null>
}

const LIMIT_MS = 15_000
/** People's clocks are wrong by minutes. What was issued a moment ago, bound to our nonce, has not ended. */
const CLOCK_TOLERANCE_SECONDS = 300
const LOOPBACK = new Set(['127.0.0.1', 'localhost', '[::1]'])

export const newAttempt = (place: string): Attempt => ({
  state: oauth.generateRandomState(),
  nonce: oauth.generateRandomNonce(),
  verifier: oauth.generateRandomCodeVerifier(),
  place,
})

/** `home` is where the issuer sends people back to; it must be registered there, for signing in and out. */
export function openIssuer({ issuer, clientId, scope, token }: OidcSignIn, home: string): Issuer {
  const issuerUrl = new URL(issuer)
  const client: oauth.Client = { client_id: clientId, [oauth.clockTolerance]: CLOCK_TOLERANCE_SECONDS }
  const options = () => ({
    signal: AbortSignal.timeout(LIMIT_MS),
    [oauth.allowInsecureRequests]: LOOPBACK.has(issuerUrl.hostname),
  })

  let discovered: Promise<oauth.AuthorizationServer> | null = null
  const discover = (): Promise<oauth.AuthorizationServer> => {
    discovered ??= oauth
      .discoveryRequest(issuerUrl, options())
      .then((response) => oauth.processDiscoveryResponse(issuerUrl, response))
      .catch((error: unknown) => {
        discovered = null // The next one tries again.
        throw error
      })
    return discovered
  }

  /** An address of the issuer's to send the browser to. */
  function pageOf(address: string | undefined, parameters: Record<string, string>): string {
    if (address === undefined || !URL.canParse(address)) throw new SignInError('failed', 'no such endpoint')
    const url = new URL(address)
    const isSafe = url.protocol === 'https:' || (url.protocol === 'http:' && LOOPBACK.has(url.hostname))
    if (!isSafe) throw new SignInError('failed', url.href)
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value)
    return url.href
  }

  function tokensFrom(response: oauth.TokenEndpointResponse, before: Tokens | null): Tokens {
    const claims = oauth.getValidatedIdTokenClaims(response)
    const person = claims === undefined ? before?.person : personOf(issuer, claims)
    const idToken = response.id_token ?? before?.idToken
    const bearer = token === 'id' ? response.id_token : response.access_token
    // An issuer may renew the access token alone, which is no use where the API wants the other.
    if (person === undefined || idToken === undefined || bearer === undefined)
      throw new SignInError('stale', 'no ID token')
    if (before !== null && before.person.id !== person.id) throw new SignInError('stale', 'another person')
    const receivedAt = Date.now()
    const seconds = token === 'id' && claims !== undefined ? claims.exp - claims.iat : response.expires_in
    return {
      bearer,
      idToken,
      refreshToken: response.refresh_token ?? before?.refreshToken ?? null,
      receivedAt,
      endsAt: seconds === undefined ? null : receivedAt + seconds * 1000,
      person,
    }
  }

  /** Nobody waits for it, nor could do anything if it failed. */
  function revoke(server: oauth.AuthorizationServer, { refreshToken }: Tokens): void {
    if (refreshToken === null || server.revocation_endpoint === undefined) return
    const leaving = {
      [oauth.customFetch]: (url: string, init: object) => fetch(url, { ...init, keepalive: true }),
    }
    oauth
      .revocationRequest(server, client, oauth.None(), refreshToken, { ...options(), ...leaving })
      .catch(() => undefined)
  }

  return {
    begin: ({ state, nonce, verifier }) =>
      explained(async () =>
        pageOf((await discover()).authorization_endpoint, {
          response_type: 'code',
          client_id: clientId,
          redirect_uri: home,
          scope,
          state,
          nonce,
          code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
          code_challenge_method: 'S256',
        }),
      ),

    finish: ({ state, nonce, verifier }, answer) =>
      explained(async () => {
        const server = await discover()
        const checked = oauth.validateAuthResponse(server, client, answer, state)
        const response = await oauth.authorizationCodeGrantRequest(
          server,
          client,
          oauth.None(),
          checked,
          home,
          verifier,
          options(),
        )
        const result = await oauth.processAuthorizationCodeResponse(server, client, response, {
          expectedNonce: nonce,
          requireIdToken: true,
        })
        return tokensFrom(result, null)
      }),

    renew: (tokens) =>
      explained(async () => {
        if (tokens.refreshToken === null) throw new SignInError('stale', 'no refresh token')
        const server = await discover()
        const response = await oauth.refreshTokenGrantRequest(
          server,
          client,
          oauth.None(),
          tokens.refreshToken,
          options(),
        )
        return tokensFrom(await oauth.processRefreshTokenResponse(server, client, response), tokens)
      }),

    end: (tokens) =>
      explained(async () => {
        const server = await discover()
        revoke(server, tokens)
        if (server.end_session_endpoint === undefined) return null
        const parameters = signOutParameters(issuerUrl, tokens.idToken, home)
        return pageOf(server.end_session_endpoint, { client_id: clientId, ...parameters })
      }),
  }
}

/** Cognito announces its own page as the standard's, and wants its own parameter. */
export const signOutParameters = (issuer: URL, idToken: string, home: string): Record<string, string> =>
  issuer.hostname.includes('cognito-idp.')
    ? { logout_uri: home }
    : { id_token_hint: idToken, post_logout_redirect_uri: home }

function personOf(issuer: string, claims: oauth.IDToken): Person {
  const names = [claims.name, claims.preferred_username, claims.email, claims['cognito:username']]
  const name = names.find((one): one is string => typeof one === 'string' && one !== '')
  return { id: `${issuer} ${claims.sub}`, name: name ?? null }
}

async function explained<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw asSignInError(error)
  }
}

/** What an issuer may say though everything is set up well. */
const EXPECTED_ERRORS: Record<string, SignInProblem> = {
  access_denied: 'denied',
  invalid_grant: 'stale', // the code was used, or has ended
  temporarily_unavailable: 'unreachable',
  server_error: 'unreachable',
}

function asSignInError(error: unknown): SignInError {
  if (error instanceof SignInError) return error
  if (error instanceof oauth.AuthorizationResponseError || error instanceof oauth.ResponseBodyError) {
    const problem = EXPECTED_ERRORS[error.error]
    return problem === undefined ? new SignInError('failed', error.error) : new SignInError(problem)
  }
  const { code, cause, message } = error as Error & { code?: string }
  if (cause instanceof Response && (cause.status >= 500 || cause.status === 429))
    return new SignInError('unreachable', String(cause.status))
  // What the library throws itself has a code; what fetch throws has none.
  const isOwn = typeof code === 'string'
  return new SignInError(isOwn ? 'failed' : 'unreachable', isOwn ? `${code}: ${message}` : null)
}
