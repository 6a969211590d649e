/** What the page is served with, by the distribution and by the front door on one machine. */
import type { OidcSignIn } from '../lambdas/protocol/page-settings.ts'

/** Where the page sends requests besides its own origin: discovery, tokens and revocation. */
const issuerOrigins = ({ issuer, origins = [] }: OidcSignIn): string[] => [
  ...new Set([new URL(issuer).origin, ...origins]),
]

/** What the page may do in a browser. */
export const contentSecurityPolicy = (signIn?: OidcSignIn): string =>
  policyWithOrigins(signIn ? issuerOrigins(signIn) : [])

/** The same for a deployment, which may not know the origins yet: they may be tokens of CDK. */
export const policyWithOrigins = (origins: readonly string[]): string =>
  [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    ['connect-src', "'self'", ...origins].join(' '),
    "img-src 'self' data:",
    "font-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
  ].join('; ')

export const securityHeaders = (signIn?: OidcSignIn) => ({
  'content-security-policy': contentSecurityPolicy(signIn),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'x-frame-options': 'DENY',
  'cross-origin-opener-policy': 'same-origin',
})
