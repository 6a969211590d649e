/**
 * A door before a Valkey of this machine that asks for what ElastiCache serverless asks for: a token, signed with the
 * credentials of the function's role and not too old. As there, it is one address for all slots, and connections end.
 */
import { signConnect } from '../../lambdas/services/elasticache-token.ts'
import { startCacheProxy } from './cache-proxy.ts'

/** Of all functions on this machine: local/cloud/cloud.ts. */
const CREDENTIALS = { accessKeyId: 'local', secretAccessKey: 'local' }
const REGION = 'us-east-1'

export interface DoorOptions {
  /** Of the server behind it, which asks for nothing. */
  port: number
  cacheName: string
  userName: string
  /** How old a token may be; ElastiCache takes 900 seconds. */
  tokenSeconds?: number
  /** How long a connection stands; ElastiCache leaves it for 12 hours. */
  connectionMs?: number
  tls?: { key: string; cert: string }
  /** Whether the role may connect at all. */
  mayConnect?: () => boolean
}

export interface CacheDoor {
  port: number
  /** That were let in. */
  tokens: string[]
  /** Why others were not. */
  refused: string[]
  close(): void
}

/** Why a token opens nothing; undefined: it does. */
function faultOf(
  token: string,
  { cacheName, userName, tokenSeconds = 900 }: DoorOptions,
): string | undefined {
  const date = new URLSearchParams(token.slice(token.indexOf('?'))).get('X-Amz-Date') ?? ''
  const at = Date.parse(date.replace(/^(....)(..)(..)T(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6Z'))
  if (Number.isNaN(at)) return 'not a token'
  if (token !== signConnect({ cacheName, userId: userName, region: REGION, at }, CREDENTIALS))
    return 'not signed by the role for this cache'
  // A token says whole seconds.
  return Date.now() - at > (tokenSeconds + 1) * 1_000 ? 'too old' : undefined
}

/** All slots are here, where they were asked for. */
const slotsAt = (port: number): Buffer =>
  Buffer.from(`*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n:${port}\r\n`)

export async function openDoor(options: DoorOptions): Promise<CacheDoor> {
  const { port, userName, connectionMs, tls, mayConnect = () => true } = options
  const tokens: string[] = []
  const refused: string[] = []
  const inside = new WeakSet<object>()
  const proxy = await startCacheProxy(
    port,
    async (moment, { operation, words, connection }) => {
      if (moment !== 'before') return 'pass'
      const [, second = '', token = ''] = words.map(String)
      if (operation !== 'AUTH') {
        if (!inside.has(connection)) return Buffer.from('-NOAUTH Authentication required.\r\n')
        return operation === 'CLUSTER' && second === 'SLOTS' ? slotsAt(proxy.port) : 'pass'
      }
      const fault = second === userName ? faultOf(token, options) : 'another user'
      const isLetIn = fault === undefined && mayConnect()
      if (!isLetIn) {
        refused.push(fault ?? 'not allowed to connect')
        return Buffer.from('-WRONGPASS invalid username-password pair or user is disabled.\r\n')
      }
      tokens.push(token)
      inside.add(connection)
      if (connectionMs !== undefined) setTimeout(connection.end, connectionMs).unref()
      return Buffer.from('+OK\r\n')
    },
    tls,
  )
  return { port: proxy.port, tokens, refused, close: proxy.close }
}
