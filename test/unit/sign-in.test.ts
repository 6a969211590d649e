/** What the page knows of signing in, without a browser and without an issuer. */
import { expect, test, vi } from 'vitest'
import { contentSecurityPolicy } from '../../lib/page-headers.ts'
import { signOutParameters } from '../../web/sign-in/issuer.ts'
import { hasEnded, isDue, type Tokens } from '../../web/sign-in/tokens.ts'

const HOME = 'https://chat.example.com/'
const MINUTE_MS = 60_000

const tokens = (lifeMs: number | null, refreshToken: string | null): Tokens => ({
  bearer: 'bearer',
  idToken: 'id',
  refreshToken,
  receivedAt: 0,
  endsAt: lifeMs,
  person: { id: 'issuer sub', name: null },
})

test.each([
  ['an hour', 'refresh', 60 * MINUTE_MS, 59 * MINUTE_MS],
  ['a minute', 'refresh', MINUTE_MS, 45_000],
  ['an hour', null, 60 * MINUTE_MS, 60 * MINUTE_MS],
])('a token of %s with %s for renewing is due in time', (_, refreshToken, lifeMs, dueAtMs) => {
  vi.useFakeTimers({ now: dueAtMs - 1 })
  expect(isDue(tokens(lifeMs, refreshToken))).toBe(false)
  vi.setSystemTime(dueAtMs)
  expect(isDue(tokens(lifeMs, refreshToken))).toBe(true)
  expect(hasEnded(tokens(lifeMs, refreshToken))).toBe(dueAtMs === lifeMs)
  vi.useRealTimers()
})

test('a token without a known end is used until it is refused', () => {
  expect(isDue(tokens(null, 'refresh'))).toBe(false)
})

test('Cognito is told of a sign-out in its own words, every other issuer in those of the standard', () => {
  const cognito = new URL('https://cognito-idp.ap-northeast-2.amazonaws.com/ap-northeast-2_pool')
  expect(signOutParameters(cognito, 'token', HOME)).toEqual({ logout_uri: HOME })
  expect(signOutParameters(new URL('https://login.example.com'), 'token', HOME)).toEqual({
    id_token_hint: 'token',
    post_logout_redirect_uri: HOME,
  })
})

test("the page may talk to its own origin and to the issuer's, and to no other", () => {
  const connections = (policy: string) => /connect-src ([^;]*)/.exec(policy)?.[1]
  expect(connections(contentSecurityPolicy())).toBe("'self'")
  const signIn = {
    kind: 'oidc',
    issuer: 'https://cognito-idp.ap-northeast-2.amazonaws.com/pool',
    clientId: 'page',
    scope: 'openid',
    token: 'id',
    origins: ['https://turnkeep.auth.ap-northeast-2.amazoncognito.com'],
  } as const
  expect(connections(contentSecurityPolicy({ ...signIn, origins: [...signIn.origins] }))).toBe(
    "'self' https://cognito-idp.ap-northeast-2.amazonaws.com https://turnkeep.auth.ap-northeast-2.amazoncognito.com",
  )
})
