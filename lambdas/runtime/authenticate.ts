/** Who is calling: a bearer token of any OIDC issuer, verified against its published keys. */
import {
  createRemoteJWKSet,
  type JWTPayload,
  type JWTVerifyGetKey,
  errors as joseErrors,
  jwtVerify,
} from 'jose'
import { type Caller, isPseudonym, type Role, roles } from '../protocol/callers.ts'
import { CodedError } from '../protocol/errors.ts'
import { isStorableText } from '../protocol/text.ts'
import type { authSettings, Config } from './config.ts'

export type Authenticate = (request: { headers: Record<string, string | undefined> }) => Promise<Caller>

/** Asymmetric only: a shared secret would let every verifier mint tokens. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA']
const CLOCK_TOLERANCE_SECONDS = 30
const MAX_CLAIM_CHARACTERS = 200
/** Verifying takes a millisecond of processor time. A key that its issuer withdraws is good for this much longer. */
const BELIEVED_MS = 60_000
/** At 1 to 2 KB each. */
export const MAX_BELIEVED_TOKENS = 1_000

export interface Believed {
  caller: Caller
  /** Milliseconds since the epoch. */
  until: number
}

export interface BelievedTokens {
  get(token: string): Believed | undefined
  set(token: string, believed: Believed): void
}

const unauthenticated = (message: string, cause?: unknown): CodedError =>
  new CodedError('unauthenticated', message, { cause })

async function discoverJwksUrl(issuer: string): Promise<URL> {
  const response = await fetch(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`)
  if (!response.ok) throw new Error(`the issuer's configuration answered ${response.status}`)
  const { jwks_uri } = (await response.json()) as { jwks_uri: string }
  return new URL(jwks_uri)
}

function lazily<Value>(make: () => Promise<Value>): () => Promise<Value> {
  let made: Promise<Value> | undefined
  return () => {
    made ??= make().catch((error) => {
      made = undefined // The next request tries again.
      throw error
    })
    return made
  }
}

type AuthConfig = Config<(typeof authSettings)[number]>

/**
 * Returns the caller of a valid token. Refuses `unauthenticated` for everything that is not one: no bearer, a foreign
 * issuer or audience, a bad signature, expired, or without the claims that name the tenant and the user. Keys that
 * cannot be fetched are `unavailable`. A token that was valid is believed for a minute, by its whole text, and not after its
 * expiry; what was refused is verified each time.
 */
export function openAuthenticate(config: AuthConfig, believed: BelievedTokens): Authenticate {
  const keys = lazily(async () =>
    createRemoteJWKSet(
      config.authJwksUrl ? new URL(config.authJwksUrl) : await discoverJwksUrl(config.authIssuer),
    ),
  )
  const key: JWTVerifyGetKey = async (header, token) => (await keys())(header, token)

  return async ({ headers }) => {
    const token = /^Bearer +([\w-]+\.[\w-]+\.[\w-]+)$/i.exec(headers.authorization ?? '')?.[1]
    if (token === undefined) throw unauthenticated('A bearer token is required.')
    const known = believed.get(token)
    if (known && Date.now() < known.until) return known.caller
    let payload: JWTPayload
    try {
      const verified = await jwtVerify(token, key, {
        issuer: config.authIssuer,
        algorithms: ALGORITHMS,
        clockTolerance: CLOCK_TOLERANCE_SECONDS,
        requiredClaims: ['exp'],
      })
      payload = verified.payload
    } catch (cause) {
      const refused =
        cause instanceof joseErrors.JOSEError &&
        !(cause instanceof joseErrors.JWKSTimeout) &&
        cause.code !== 'ERR_JOSE_GENERIC'
      if (refused) throw unauthenticated('The token is not valid.', cause)
      throw new CodedError('unavailable', 'The token cannot be checked right now.', { cause })
    }
    // Access tokens of Cognito name their audience in client_id.
    const audience = [payload.aud, payload.client_id].flat()
    if (!audience.includes(config.authAudience)) throw unauthenticated('The token is for another audience.')
    const caller = Object.freeze(callerOf(payload, config))
    const expiresAt = (payload.exp ?? 0) * 1_000
    believed.set(token, { caller, until: Math.min(Date.now() + BELIEVED_MS, expiresAt) })
    return caller
  }
}

function callerOf(payload: JWTPayload, config: AuthConfig): Caller {
  const claim = (name: string): string => {
    const value = payload[name]
    if (
      typeof value !== 'string' ||
      value === '' ||
      value.length > MAX_CLAIM_CHARACTERS ||
      !isStorableText(value)
    )
      throw unauthenticated(`The token has no usable claim ${name}.`)
    return value
  }
  const role = payload[config.claimRole] ?? 'user'
  if (!roles.includes(role as Role))
    throw unauthenticated(`The token has no usable claim ${config.claimRole}.`)
  const userId = claim(config.claimUserId)
  // Where users choose their ids, one could choose what stands in another's place.
  if (isPseudonym(userId)) throw unauthenticated(`The token has no usable claim ${config.claimUserId}.`)
  return {
    userId,
    companyId: claim(config.claimCompanyId),
    platform: claim(config.claimPlatform),
    role: role as Role,
  }
}
