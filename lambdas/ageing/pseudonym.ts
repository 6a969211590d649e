/** What stands for a user where the user's id must not: in the archive, and in Postgres after a year. */
import { createHmac } from 'node:crypto'
import { isPseudonym, type Tenant } from '../protocol/callers.ts'

const HEX_DIGITS = 32

/**
 * The same for the same user of the same tenant, and of no use to whoever does not have the key. Parts are framed, so
 * that no two users read alike. What stands in an id's place already stays as it is: it is the same user.
 */
export function pseudonymOf(key: string, { companyId, platform }: Tenant, userId: string): string {
  if (isPseudonym(userId)) return userId
  const mac = createHmac('sha256', key)
    .update(JSON.stringify([companyId, platform, userId]))
    .digest('hex')
  return `anon_${mac.slice(0, HEX_DIGITS)}`
}
