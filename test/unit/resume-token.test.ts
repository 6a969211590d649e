import { decodeJwt, decodeProtectedHeader, jwtVerify, SignJWT } from 'jose'
import { afterEach, expect, test, vi } from 'vitest'
import { openResumeTokens } from '../../lambdas/runtime/resume-token.ts'

const SECRET = 'a secret of sufficient length, 한글 too'
const MESSAGE = '0198c0de-0000-7000-8000-000000000001'
const reader = { companyId: '한빛 👋 "co"', platform: 'web', userId: 'mina\n' }
const tokens = openResumeTokens(async () => SECRET)
const refusal = { code: 'unauthenticated' }

afterEach(() => {
  vi.useRealTimers()
})

test('what is issued is a JWT of an hour, which any library verifies', async () => {
  const token = await tokens.issue(reader, MESSAGE)
  const { payload, protectedHeader } = await jwtVerify(token, new TextEncoder().encode(SECRET), {
    audience: 'turnkeep:resume',
  })
  expect(protectedHeader).toEqual({ alg: 'HS256' })
  const { exp = 0, ...claims } = payload
  expect(claims).toEqual({
    companyId: reader.companyId,
    platform: 'web',
    messageId: MESSAGE,
    sub: reader.userId,
    aud: 'turnkeep:resume',
  })
  expect(Math.abs(exp - Date.now() / 1_000 - 3_600)).toBeLessThan(60)
  expect(encodeURIComponent(token)).toBe(token) // it travels in a URL
})

test('it makes its reader a user and nothing more, for its message alone', async () => {
  const token = await tokens.issue(reader, MESSAGE)
  expect(await tokens.verify(token, MESSAGE)).toEqual({ ...reader, role: 'user' })
  await expect(tokens.verify(token, MESSAGE.replace(/1$/, '2'))).rejects.toMatchObject(refusal)
})

test('an altered one is refused, whichever part was altered', async () => {
  const [header = '', claims = '', signature = ''] = (await tokens.issue(reader, MESSAGE)).split('.')
  const encoded = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url')
  const other = { ...decodeJwt(`${header}.${claims}.`), companyId: 'another' }
  const flipped = `${signature.startsWith('A') ? 'B' : 'A'}${signature.slice(1)}`
  for (const token of [
    `${header}.${encoded(other)}.${signature}`,
    `${encoded({ alg: 'none' })}.${claims}.`,
    `${encoded({ ...decodeProtectedHeader(`${header}.${claims}.`), kid: 'x' })}.${claims}.${signature}`,
    `${header}.${claims}.${flipped}`,
    `${header}.${claims}.`,
    `${header}.${claims}`,
    '',
  ])
    await expect(tokens.verify(token, MESSAGE)).rejects.toMatchObject(refusal)
})

test("one of another secret, another audience or another hour is refused, and jose's own is not", async () => {
  const strange = await openResumeTokens(async () => 'another secret').issue(reader, MESSAGE)
  await expect(tokens.verify(strange, MESSAGE)).rejects.toMatchObject(refusal)
  const made = (audience: string) =>
    new SignJWT({ companyId: 'acme', platform: 'web', messageId: MESSAGE })
      .setProtectedHeader({ alg: 'HS256' })
      .setSubject('mina')
      .setAudience(audience)
      .setExpirationTime('1h')
      .sign(new TextEncoder().encode(SECRET))
  await expect(tokens.verify(await made('turnkeep'), MESSAGE)).rejects.toMatchObject(refusal)
  expect(await tokens.verify(await made('turnkeep:resume'), MESSAGE)).toMatchObject({ userId: 'mina' })
  const token = await tokens.issue(reader, MESSAGE)
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_601_000 })
  await expect(tokens.verify(token, MESSAGE)).rejects.toMatchObject(refusal)
})
