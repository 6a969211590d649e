import { createHash, createHmac, type Hash, type Hmac } from 'node:crypto'
import { SignatureV4 } from '@smithy/signature-v4'
import { describe, expect, test } from 'vitest'
import { elastiCachePassword, signConnect } from '../../lambdas/services/elasticache-token.ts'

const REQUEST = { cacheName: 'my-cache', userId: 'testuser', region: 'us-east-1' }
const AT = Date.parse('2025-01-01T00:00:00Z')
const CREDENTIALS = {
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
}

const parametersOf = (token: string) => Object.fromEntries(new URL(`http://${token}`).searchParams)

/** As AWS's own signer has it: the same parameters, the signature among them. */
async function signedByAws(
  { cacheName, userId, region }: typeof REQUEST,
  credentials: typeof CREDENTIALS & { sessionToken?: string },
  at: number,
) {
  class Sha256 {
    readonly #hash: Hash | Hmac
    constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
      this.#hash = secret ? createHmac('sha256', secret as Buffer) : createHash('sha256')
    }
    update(data: string | Uint8Array) {
      this.#hash.update(data)
    }
    async digest() {
      return new Uint8Array(this.#hash.digest())
    }
    reset() {}
  }
  const signer = new SignatureV4({ service: 'elasticache', region, credentials, sha256: Sha256 as never })
  const { query } = await signer.presign(
    {
      method: 'GET',
      protocol: 'http:',
      hostname: cacheName,
      path: '/',
      headers: { host: cacheName },
      query: { Action: 'connect', User: userId, ResourceType: 'ServerlessCache' },
    },
    { expiresIn: 900, signingDate: new Date(at) },
  )
  return query
}

describe('a token for ElastiCache', () => {
  test('is the cache’s name and a signed query, without a scheme', () => {
    const token = signConnect({ ...REQUEST, at: AT }, CREDENTIALS)
    expect(token).toMatch(/^my-cache\/\?Action=connect&/)
    expect(parametersOf(token)).toEqual({
      Action: 'connect',
      ResourceType: 'ServerlessCache',
      User: 'testuser',
      'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
      'X-Amz-Credential': 'AKIAIOSFODNN7EXAMPLE/20250101/us-east-1/elasticache/aws4_request',
      'X-Amz-Date': '20250101T000000Z',
      'X-Amz-Expires': '900',
      'X-Amz-SignedHeaders': 'host',
      // What AWS's developer toolkit for ElastiCache signs these with.
      'X-Amz-Signature': '28f349fd92f74e0192de149a74743ae7d087bb136523c342bdd67632a8360023',
    })
  })

  test.each([
    ['with lasting credentials', REQUEST, CREDENTIALS],
    [
      'with those of a role',
      { cacheName: 'turnkeep-prod', userId: 'default.iam-user', region: 'ap-northeast-2' },
      { ...CREDENTIALS, sessionToken: "IQoJb3JpZ2luX2VjE+/=:!'()* 가" },
    ],
  ])('is signed as AWS’s own signer signs it, %s', async (_, request, credentials) => {
    const at = AT + 86_399_999
    expect(parametersOf(signConnect({ ...request, at }, credentials))).toEqual(
      await signedByAws(request, credentials, at),
    )
  })

  test('is the same for a name in capitals', () => {
    expect(signConnect({ ...REQUEST, cacheName: 'My-Cache', userId: 'TestUser', at: AT }, CREDENTIALS)).toBe(
      signConnect({ ...REQUEST, at: AT }, CREDENTIALS),
    )
  })

  test('is made anew each time it is asked for, with the credentials of that time', async () => {
    let asked = 0
    const password = elastiCachePassword(REQUEST, async () => {
      asked += 1
      return { ...CREDENTIALS, accessKeyId: `KEY${asked}` }
    })
    const [first, second] = [parametersOf(await password()), parametersOf(await password())]
    expect(first?.['X-Amz-Credential']).toMatch(/^KEY1\//)
    expect(second?.['X-Amz-Credential']).toMatch(/^KEY2\//)
  })
})
