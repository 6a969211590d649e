/**
 * Where a request comes from, as far as that can be known: what the distribution says of the viewer, if the request
 * shows the distribution's secret, and otherwise who made the connection. X-Forwarded-For is never read: CloudFront
 * appends to what the client sent, and a Function URL keeps only the first entry, which is the forged one.
 * https://speedrun.nobackspacecrew.com/blog/2026/03/06/obtaining-caller-ip-address-with-lambda-furls.html
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { isIPv4, isIPv6 } from 'node:net'
import type { LambdaFunctionURLEvent } from 'aws-lambda'

/** The distribution's secret, and the viewer's address that it puts over whatever the viewer sent. */
const ORIGIN_HEADER = 'x-turnkeep-origin'
const VIEWER_HEADER = 'x-turnkeep-viewer'
/** Hex digits; 128 bits are enough to tell addresses apart. */
const KEY_LENGTH = 32

export interface ClientAddress {
  /** The address, or the /64 of an IPv6 one, which is what one customer has. For this process's memory only. */
  networkOf(event: LambdaFunctionURLEvent): Promise<string>
  /** A keyed hash of it: what may be stored. The same in every instance until the secret changes. */
  keyOf(network: string): Promise<string>
}

export function openClientAddress(originSecret: () => Promise<string>): ClientAddress {
  return {
    async networkOf({ headers, requestContext }) {
      const { sourceIp } = requestContext.http
      const shown = headers[ORIGIN_HEADER]
      if (shown === undefined) return toNetwork(sourceIp) ?? sourceIp
      // While the secret cannot be read, whoever is in front of us stands for everybody behind it.
      const secret = await originSecret().catch(() => '')
      const viewer = isSame(shown, secret) ? toNetwork(headers[VIEWER_HEADER] ?? '') : undefined
      return viewer ?? toNetwork(sourceIp) ?? sourceIp
    },
    keyOf: async (network) =>
      createHmac('sha256', await originSecret())
        .update(`turnkeep address ${network}`)
        .digest('hex')
        .slice(0, KEY_LENGTH),
  }
}

/** Takes the same time wherever two texts differ, and however long they are. An empty secret is nobody's. */
function isSame(shown: string, secret: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(shown), digest(secret)) && secret !== ''
}

const MAPPED_IPV4 = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/

/** One spelling for each network; undefined: no address. */
export function toNetwork(address: string): string | undefined {
  if (isIPv4(address)) return address
  if (!isIPv6(address) || address.includes('%')) return undefined
  const canonical = new URL(`http://[${address}]/`).hostname.slice(1, -1) // lower case, shortened, no dotted tail
  const mapped = MAPPED_IPV4.exec(canonical)
  if (mapped) {
    const [high = 0, low = 0] = mapped.slice(1).map((group) => Number.parseInt(group, 16))
    return [high >> 8, high & 255, low >> 8, low & 255].join('.')
  }
  const [head = '', tail = ''] = canonical.split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':'))
  const missing = 8 - groups(head).length - groups(tail).length
  const all = [
    ...groups(head),
    ...Array<string>(canonical.includes('::') ? missing : 0).fill('0'),
    ...groups(tail),
  ]
  return `${all.slice(0, 4).join(':')}::/64`
}
