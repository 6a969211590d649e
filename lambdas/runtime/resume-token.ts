/** A token for one reply, for a plain EventSource, which cannot send headers. */
import { jwtVerify, SignJWT } from 'jose'
import { type Caller, CodedError } from '../protocol.ts'

/** Long enough for an answer and a lost connection, short enough for a link that lands in a browser's history. */
const LIFE = '1h'
const AUDIENCE = 'turnkeep:resume'

export interface ResumeTokens {
  issue(reader: Omit<Caller, 'role'>, messageId: string): Promise<string>
  /** Refuses `unauthenticated` for anything but a living token for this message. */
  verify(token: string, messageId: string): Promise<Caller>
}

/** Signed with a secret of its own, which bearer tokens may not use: neither kind passes for the other. */
export function openResumeTokens(secret: () => Promise<string>): ResumeTokens {
  const readKey = async () => new TextEncoder().encode(await secret())
  return {
    issue: async ({ companyId, platform, userId }, messageId) =>
      new SignJWT({ companyId, platform, messageId })
        .setProtectedHeader({ alg: 'HS256' })
        .setSubject(userId)
        .setAudience(AUDIENCE)
        .setExpirationTime(LIFE)
        .sign(await readKey()),
    async verify(token, messageId) {
      const key = await readKey()
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
