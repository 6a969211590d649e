import { createHash, createHmac, pbkdf2Sync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { readLogin, withNextLogin } from '../../lambdas/logins/login.ts'
import { verifierOf } from '../../lambdas/logins/verifier.ts'

const PASSWORD = 'a-password-of-sixteen-and-more'
const first = JSON.stringify({ username: 'turnkeep_app_1', password: PASSWORD, dbname: 'turnkeep' })

describe('the app secret', () => {
  test('gives the other login a new password each time, and keeps what else it holds', () => {
    const second = withNextLogin(first)
    expect(JSON.parse(second)).toEqual({
      username: 'turnkeep_app_2',
      password: expect.stringMatching(/^[\w-]{43}$/),
      dbname: 'turnkeep',
    })
    const third = withNextLogin(second)
    expect(readLogin(third).username).toBe('turnkeep_app_1')
    expect(readLogin(third).password).not.toBe(readLogin(second).password)
  })

  test.each([
    ['no JSON', PASSWORD],
    ['null', 'null'],
    ['the master', JSON.stringify({ username: 'postgres', password: PASSWORD })],
    ['no password', JSON.stringify({ username: 'turnkeep_app_1' })],
    ['a short password', JSON.stringify({ username: 'turnkeep_app_1', password: 'short' })],
    ['a password in Korean', JSON.stringify({ username: 'turnkeep_app_1', password: '비'.repeat(16) })],
  ])('that holds %s is refused, and not quoted', (_title, text) => {
    expect(() => readLogin(text)).toThrow('The app secret must')
    expect(() => readLogin(text)).not.toThrow(PASSWORD)
  })
})

test('a verifier proves its password, holds none of it, and is another one each time', async () => {
  const verifier = await verifierOf(PASSWORD)
  const [, iterations, salt = '', storedKey, serverKey] =
    /^SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)$/.exec(verifier) ?? []
  const salted = pbkdf2Sync(PASSWORD, Buffer.from(salt, 'base64'), Number(iterations), 32, 'sha256')
  const hmac = (text: string) => createHmac('sha256', salted).update(text).digest()
  expect(storedKey).toBe(createHash('sha256').update(hmac('Client Key')).digest('base64'))
  expect(serverKey).toBe(hmac('Server Key').toString('base64'))
  expect(verifier).not.toContain(PASSWORD)
  expect(await verifierOf(PASSWORD)).not.toBe(verifier)
})
