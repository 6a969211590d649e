import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from 'jose'

/** What tokens say of themselves, and under which names they say who their holder is. */
export type TokenShape = {
  issuer: string
  audience: string
  claims: { userId: string; companyId: string; platform: string; role: string }
}
export const DEV_TOKENS: TokenShape = {
  issuer: 'http://turnkeep.local', // without a port, so that tokens outlive a restart on another one
  audience: 'turnkeep',
  claims: { userId: 'sub', companyId: 'company_id', platform: 'platform', role: 'role' },
}
const ALGORITHM = 'ES256'
const LIFETIME = '12h' // a working day
const KEY_FILE = 'issuer-key.json'

export type Role = 'user' | 'agent' | 'admin'
export type Caller = { companyId: string; platform: string; userId: string; role: Role }

/** Stands for the identity provider of a real deployment. */
export type DevIssuer = {
  issuer: string
  sign(caller: Caller): Promise<string>
  /** The public half only. */
  jwks: { keys: JWK[] }
}

/** The key is made at first start and kept in `dataDir`; without one it lives in memory. */
export async function createDevIssuer(
  dataDir?: string,
  { issuer, audience, claims }: TokenShape = DEV_TOKENS,
): Promise<DevIssuer> {
  const secret = dataDir ? await readOrMake(dataDir) : await makeKey()
  const key = await importJWK(secret, ALGORITHM)
  const kid = await calculateJwkThumbprint(secret)
  const { kty, crv, x, y } = secret as Required<JWK>
  return {
    issuer,
    jwks: { keys: [{ kty, crv, x, y, kid, alg: ALGORITHM, use: 'sig' }] },
    sign: ({ companyId, platform, userId, role }) =>
      new SignJWT({
        [claims.userId]: userId,
        [claims.companyId]: companyId,
        [claims.platform]: platform,
        [claims.role]: role,
      })
        .setProtectedHeader({ alg: ALGORITHM, kid, typ: 'JWT' })
        .setIssuer(issuer)
        .setAudience(audience)
        .setIssuedAt()
        .setExpirationTime(LIFETIME)
        .sign(key),
  }
}

async function makeKey(): Promise<JWK> {
  const { privateKey } = await generateKeyPair(ALGORITHM, { extractable: true })
  return exportJWK(privateKey)
}

async function readOrMake(dataDir: string): Promise<JWK> {
  const file = join(dataDir, KEY_FILE)
  try {
    return JSON.parse(await readFile(file, 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
      throw new Error(`${file} cannot be read; remove it to get a new key.`, { cause: error })
    }
  }
  await mkdir(dataDir, { recursive: true })
  const key = await makeKey()
  await writeFile(file, JSON.stringify(key), { mode: 0o600, flag: 'wx' })
  return key
}
