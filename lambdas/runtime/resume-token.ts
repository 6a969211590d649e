/** A token for one reply, for a plain EventSource, which cannot send headers. */
import { createHmac } from 'node:crypto'
import { jwtVerify } from 'jose'
import type { Caller } from '../protocol/callers.ts'
import { CodedError } from '../protocol/errors.ts'

/** Long enough for an answer and a lost connection, short enough for a link that lands in a browser's history. */
const LIFE_SECONDS = 3_600
const AUDIENCE = 'turnkeep:resume'

export interface ResumeTokens {
  issue(reader: Omit<Caller, 'role'>, messageId: string): Promise<string>
  /** Refuses `unauthenticated` for anything but a living token for this message. */
  verify(token: string, messageId: string): Promise<Caller>
}

const encoded = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url')
const HEADER = encoded({ alg: 'HS256' })

/**
 * Signed with a secret of its own, which bearer tokens may not use: neither kind passes for the other. Every turn issues one
 * before its first event, so it is made at once, where jose goes through WebCrypto's threads; jose is who verifies.
 */
export function openResumeTokens(secret: () => Promise<string>): ResumeTokens {
  return {
    async issue({ companyId, platform, userId }, messageId) {
      const exp = Math.floor(Date.now() / 1_000) + LIFE_SECONDS
      const claims = { companyId, platform, messageId, sub: userId, aud: AUDIENCE, exp }
      const signed = `${HEADER}.${encoded(claims)}`
      return `${signed}.${createHmac('sha256', await secret())
        .update(signed)
        .digest('base64url')}`
    },
    async verify(token, messageId) {
      const key = new TextEncoder().encode(await secret())
      const verified = await jwtVerify<{ companyId: string; platform: string; messageId: string }>(
        token,
        key,
        {
          algorithms: ['HS256'],
          audience: AUDIENCE,
        },
      ).catch((cause) => {
        throw new CodedError('unauthenticated', 'The resume link is not valid any more.', { cause })
      })
      const { companyId, platform, messageId: allowed, sub = '' } = verified.payload
      if (allowed !== messageId)
        throw new CodedError('unauthenticated', 'The resume link is for another reply.')
      return { companyId, platform, userId: sub, role: 'user' }
    },
  }
}
