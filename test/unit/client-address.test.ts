import type { LambdaFunctionURLEvent } from 'aws-lambda'
import { describe, expect, test } from 'vitest'
import { openClientAddress, toNetwork } from '../../lambdas/runtime/client-address.ts'

const SECRET = 'the secret of the distribution'
const SOURCE = '198.51.100.7'
const event = (headers: Record<string, string>) =>
  ({ headers, requestContext: { http: { sourceIp: SOURCE } } }) as unknown as LambdaFunctionURLEvent
const { networkOf, keyOf } = openClientAddress(async () => SECRET)

describe('the address of a client', () => {
  test('is the viewer’s, where the distribution shows its secret', async () => {
    const headers = { 'x-turnkeep-origin': SECRET, 'x-turnkeep-viewer': '203.0.113.9' }
    expect(await networkOf(event(headers))).toBe('203.0.113.9')
    expect(await networkOf(event({ ...headers, 'x-forwarded-for': '192.0.2.1, 192.0.2.2' }))).toBe(
      '203.0.113.9',
    )
  })

  test.each<[string, Record<string, string>]>([
    ['no secret', { 'x-turnkeep-viewer': '203.0.113.9' }],
    ['another secret', { 'x-turnkeep-origin': 'guessed', 'x-turnkeep-viewer': '203.0.113.9' }],
    ['an empty secret', { 'x-turnkeep-origin': '', 'x-turnkeep-viewer': '203.0.113.9' }],
    ['the secret twice', { 'x-turnkeep-origin': `${SECRET},${SECRET}`, 'x-turnkeep-viewer': '203.0.113.9' }],
    [
      'forwarding headers',
      { 'x-forwarded-for': '203.0.113.9', 'cloudfront-viewer-address': '203.0.113.9:1' },
    ],
    ['the secret and no viewer', { 'x-turnkeep-origin': SECRET }],
    ['the secret and no address', { 'x-turnkeep-origin': SECRET, 'x-turnkeep-viewer': 'unknown' }],
  ])('is who made the connection, with %s', async (_, headers) => {
    expect(await networkOf(event({ ...headers, 'x-real-ip': '203.0.113.9' }))).toBe(SOURCE)
  })

  test('is who made the connection while the secret cannot be read, and is stored nowhere then', async () => {
    const without = openClientAddress(() => Promise.reject(new Error('out of reach')))
    const headers = { 'x-turnkeep-origin': SECRET, 'x-turnkeep-viewer': '203.0.113.9' }
    expect(await without.networkOf(event(headers))).toBe(SOURCE)
    expect(await without.networkOf(event({ ...headers, 'x-turnkeep-origin': '' }))).toBe(SOURCE)
    await expect(without.keyOf(SOURCE)).rejects.toThrow('out of reach')
  })

  test('is stored as a hash that nobody computes without the secret', async () => {
    const key = await keyOf('203.0.113.9')
    expect(key).toMatch(/^[0-9a-f]{32}$/)
    expect(await keyOf('203.0.113.9')).toBe(key)
    expect(await keyOf('203.0.113.10')).not.toBe(key)
    expect(await openClientAddress(async () => 'another').keyOf('203.0.113.9')).not.toBe(key)
  })
})

describe('a network', () => {
  test.each([
    ['203.0.113.9', '203.0.113.9'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:DB8:0001:2::ffff', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['2001:db8::1:2:3:4:5', '2001:db8:0:1::/64'],
    ['::1', '0:0:0:0::/64'],
    ['::', '0:0:0:0::/64'],
    ['fe80::', 'fe80:0:0:0::/64'],
    ['::ffff:203.0.113.9', '203.0.113.9'],
    ['::ffff:cb00:7109', '203.0.113.9'],
    ['64:ff9b::203.0.113.9', '64:ff9b:0:0::/64'],
  ])('of %s is %s', (address, network) => {
    expect(toNetwork(address)).toBe(network)
  })

  test.each(['', 'localhost', '203.0.113.9:443', '1.2.3', 'fe80::1%eth0', '203.0.113.9, 192.0.2.1'])(
    'is none of %j',
    (address) => {
      expect(toNetwork(address)).toBeUndefined()
    },
  )
})
