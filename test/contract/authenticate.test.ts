/** Tokens and an issuer's published keys: who is let in, and for how long without being looked at again. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type CryptoKey, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import { afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { pseudonymOf } from '../../lambdas/ageing/pseudonym.ts'
import {
  type Authenticate,
  type Believed,
  type BelievedTokens,
  MAX_BELIEVED_TOKENS,
  openAuthenticate,
} from '../../lambdas/runtime/authenticate.ts'
import { boundedMap } from '../../lambdas/services/bounded-map.ts'

const ISSUER = 'https://issuer.example'
const MINUTE_MS = 60_000
const refusal = { code: 'unauthenticated' }

let key: CryptoKey
let jwksUrl: string
let authenticate: Authenticate

beforeAll(async () => {
  const pair = await generateKeyPair('EdDSA')
  key = pair.privateKey
  const keys = JSON.stringify({ keys: [{ ...(await exportJWK(pair.publicKey)), kid: 'one', alg: 'EdDSA' }] })
  const server = createServer((_, response) => response.end(keys)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  jwksUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return () => {
    server.closeAllConnections()
    server.close()
  }
})

const opened = (
  authAudience = 'turnkeep',
  believed: BelievedTokens = boundedMap<Believed>(MAX_BELIEVED_TOKENS),
) =>
  openAuthenticate(
    {
      authIssuer: ISSUER,
      authJwksUrl: jwksUrl,
      authAudience,
      claimUserId: 'sub',
      claimCompanyId: 'company_id',
      claimPlatform: 'platform',
      claimRole: 'role',
    },
    believed,
  )

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() })
  authenticate = opened()
})
afterEach(() => {
  vi.useRealTimers()
})

const issued = (claims: JWTPayload = {}, secondsToLive = 3_600, by: CryptoKey = key) =>
  new SignJWT({ sub: 'mina', company_id: '한빛', platform: 'web', aud: 'turnkeep', ...claims })
    .setProtectedHeader({ alg: 'EdDSA', kid: 'one' })
    .setIssuer(ISSUER)
    .setExpirationTime(Math.floor(Date.now() / 1_000) + secondsToLive)
    .sign(by)
const asked = (token: string, by = authenticate) => by({ headers: { authorization: `Bearer ${token}` } })
const later = (ms: number) => vi.setSystemTime(Date.now() + ms)

test('a token is verified once a minute: the caller is the very same one until then', async () => {
  const token = await issued()
  const caller = await asked(token)
  expect(caller).toEqual({ userId: 'mina', companyId: '한빛', platform: 'web', role: 'user' })
  later(MINUTE_MS - 1)
  expect(await asked(token)).toBe(caller)
  later(1)
  const again = await asked(token)
  expect(again).toEqual(caller)
  expect(again).not.toBe(caller)
})

test('nobody can change the caller that the next request gets', async () => {
  const token = await issued()
  const caller = await asked(token)
  expect(() => Object.assign(caller, { role: 'admin' })).toThrow(TypeError)
  expect((await asked(token)).role).toBe('user')
})

test('a token that expires within the minute is believed until it does, and refused after the tolerance', async () => {
  const token = await issued({}, 10)
  const caller = await asked(token)
  later(8_000)
  expect(await asked(token)).toBe(caller)
  later(3_000)
  expect(await asked(token)).not.toBe(caller) // verified again: clocks may differ by 30 s
  later(30_000)
  await expect(asked(token)).rejects.toMatchObject(refusal)
})

test('a token for another audience is refused, also where this one has just been believed', async () => {
  await asked(await issued())
  const token = await issued({ aud: 'another' })
  await expect(asked(token)).rejects.toMatchObject(refusal)
  await expect(asked(token)).rejects.toMatchObject(refusal)
  const ofCognito = await issued({ aud: [], client_id: 'turnkeep' })
  expect(await asked(ofCognito)).toMatchObject({ userId: 'mina' })
})

test('two tokens of one user are two', async () => {
  const [one, two] = [await issued({ role: 'user' }), await issued({ role: 'admin' })]
  expect((await asked(one)).role).toBe('user')
  expect((await asked(two)).role).toBe('admin')
  expect((await asked(one)).role).toBe('user')
})

test('a forged token with what a believed one says is refused', async () => {
  const token = await issued()
  await asked(token)
  const [header = '', claims = '', signature = ''] = token.split('.')
  const forger = await generateKeyPair('EdDSA')
  const forged = [
    await issued({}, 3_600, forger.privateKey),
    `${header}.${claims}.${signature.startsWith('A') ? 'B' : 'A'}${signature.slice(1)}`,
    `${header}.${claims}.${signature.slice(0, -1)}`,
    `${Buffer.from('{"alg":"none"}').toString('base64url')}.${claims}.${signature}`,
  ]
  for (const one of forged) await expect(asked(one)).rejects.toMatchObject(refusal)
  for (const one of forged) await expect(asked(one)).rejects.toMatchObject(refusal)
})

test('what is refused is not remembered, and neither is what cannot be checked', async () => {
  const remembered: string[] = []
  const map = boundedMap<Believed>(MAX_BELIEVED_TOKENS)
  const watched = {
    get: map.get,
    set: (token: string, believed: Believed) => {
      remembered.push(token)
      map.set(token, believed)
    },
  }
  const watching = opened('turnkeep', watched)
  const valid = await issued()
  const strange = await generateKeyPair('EdDSA')
  const refused = [
    await issued({ aud: 'another' }),
    await issued({}, -100),
    await issued({ company_id: '' }),
    await issued({ role: 'owner' }),
    await issued({}, 3_600, strange.privateKey),
  ]
  for (const token of refused) await expect(asked(token, watching)).rejects.toMatchObject(refusal)
  expect(remembered).toEqual([])
  await asked(valid, watching)
  expect(remembered).toEqual([valid])
})

test('nobody is what stands in another user’s place after a year', async () => {
  const pseudonym = pseudonymOf('key', { companyId: '한빛', platform: 'web' }, 'mina')
  await expect(asked(await issued({ sub: pseudonym }))).rejects.toMatchObject(refusal)
  for (const sub of [pseudonym.slice(0, -1), pseudonym.toUpperCase(), `${pseudonym}0`])
    expect(await asked(await issued({ sub }))).toMatchObject({ userId: sub })
})

test('as many are remembered as there is room for, the first one is forgotten first', async () => {
  const first = await issued()
  const caller = await asked(first)
  for (let index = 1; index < MAX_BELIEVED_TOKENS; index += 1) await asked(await issued({ sub: `u${index}` }))
  expect(await asked(first)).toBe(caller)
  await asked(await issued({ sub: 'one too many' }))
  expect(await asked(first)).not.toBe(caller)
})
