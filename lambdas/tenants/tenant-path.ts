/** Where a tenant's objects lie in the bucket. */
import { createHash } from 'node:crypto'
import type { Tenant } from '../protocol/callers.ts'

/** A key of S3 has 1,024 bytes, of which the longest has 79 beside the names of its tenant. */
const MAX_NAMES_BYTES = 945
/** What no name begins with once it is encoded. */
const HASHED = '='

/** Percent-encoded. A name of nothing but dots would be a way up, which whoever follows a link to the object takes. */
const encoded = (name: string): string =>
  /^\.{1,2}$/.test(name) ? name.replaceAll('.', '%2E') : encodeURIComponent(name)

/**
 * `<company>/<platform>`, without slashes at its ends. Each is percent-encoded; where that is too long for a key, their SHA-256
 * stand there: some hundred Hangul together are.
 */
export function tenantPath({ companyId, platform }: Tenant): string {
  const path = [companyId, platform].map(encoded).join('/')
  return path.length <= MAX_NAMES_BYTES ? path : [companyId, platform].map(hashed).join('/')
}

const hashed = (name: string): string => HASHED + createHash('sha256').update(name).digest('hex')

/** Whose path it is; undefined where it does not say, because the names are hashed. */
export function tenantIn(path: string): Tenant | undefined {
  if (path.startsWith(HASHED)) return undefined
  const [companyId = '', platform = ''] = path.split('/').map(decodeURIComponent)
  return { companyId, platform }
}
