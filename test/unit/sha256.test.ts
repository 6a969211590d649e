import { createHash, createHmac, randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { Sha256 } from '../../lambdas/services/sha256.ts'

const hex = async (sha256: Sha256): Promise<string> => Buffer.from(await sha256.digest()).toString('hex')
const TEXT = '한국어 👋 and more'

describe('a digest', () => {
  test.each([
    ['nothing', []],
    ['a text', [TEXT]],
    ['bytes', [randomBytes(1_000)]],
    ['a part of other bytes', [randomBytes(1_000).subarray(10, 20)]],
    ['a buffer without a view', [new Uint8Array(randomBytes(64)).buffer]],
    ['several parts', [TEXT, randomBytes(3), TEXT]],
  ])('of %s is OpenSSL’s', async (_, parts: (string | Uint8Array | ArrayBuffer)[]) => {
    const sha256 = new Sha256()
    const expected = createHash('sha256')
    for (const part of parts) {
      sha256.update(part)
      expected.update(part instanceof ArrayBuffer ? new Uint8Array(part) : part)
    }
    expect(await hex(sha256)).toBe(expected.digest('hex'))
  })

  test('may be asked for twice, with more in between, and begun anew', async () => {
    const sha256 = new Sha256()
    sha256.update('a')
    expect(await hex(sha256)).toBe(createHash('sha256').update('a').digest('hex'))
    sha256.update('b')
    expect(await hex(sha256)).toBe(createHash('sha256').update('ab').digest('hex'))
    sha256.reset()
    sha256.update('c')
    expect(await hex(sha256)).toBe(createHash('sha256').update('c').digest('hex'))
  })
})

test.each([
  ['a text', 'AWS4secret 열쇠'],
  ['bytes', new Uint8Array(randomBytes(32))],
  ['bytes of a larger buffer', randomBytes(100).subarray(7, 39)],
  ['no bytes', new Uint8Array()],
])('with %s as its secret it is OpenSSL’s HMAC, each time', async (_, secret) => {
  for (const text of [TEXT, '', TEXT]) {
    const sha256 = new Sha256(secret)
    sha256.update(text)
    expect(await hex(sha256)).toBe(createHmac('sha256', secret).update(text).digest('hex'))
  }
})
