/**
 * The password of an IAM user of ElastiCache: a request to connect, signed (AWS Signature Version 4, in the
 * query) and with its scheme left out. Good for 15 minutes; a connection that it opened stands for 12 hours.
 * https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html
 */
import { createHash, createHmac } from 'node:crypto'

export interface AwsCredentials {
  accessKeyId: string
  secretAccessKey: string
  sessionToken?: string | undefined
}

export interface ConnectRequest {
  /** Of the serverless cache, and not the address of its endpoint. */
  cacheName: string
  /** Also its name; ElastiCache wants them equal, and keeps both in lower case. */
  userId: string
  region: string
  /** When it is signed, in milliseconds since the epoch. */
  at: number
}

const VALID_SECONDS = 900
const SERVICE = 'elasticache'
const ALGORITHM = 'AWS4-HMAC-SHA256'

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')
const hmac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest()

/** As RFC 3986 has it; encodeURIComponent leaves a few more as they are. */
const encode = (text: string): string =>
  encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )

/** Pure: the same request gives the same token. */
export function signConnect(
  { cacheName, userId, region, at }: ConnectRequest,
  { accessKeyId, secretAccessKey, sessionToken }: AwsCredentials,
): string {
  const host = cacheName.toLowerCase()
  const time = new Date(at).toISOString().replace(/[-:]|\.\d+/g, '')
  const day = time.slice(0, 8)
  const scope = `${day}/${region}/${SERVICE}/aws4_request`
  // In the order that is signed: by name.
  const query = Object.entries({
    Action: 'connect',
    ResourceType: 'ServerlessCache',
    User: userId.toLowerCase(),
    'X-Amz-Algorithm': ALGORITHM,
    'X-Amz-Credential': `${accessKeyId}/${scope}`,
    'X-Amz-Date': time,
    'X-Amz-Expires': String(VALID_SECONDS),
    ...(sessionToken ? { 'X-Amz-Security-Token': sessionToken } : {}),
    'X-Amz-SignedHeaders': 'host',
  })
    .map(([name, value]) => `${name}=${encode(value)}`)
    .join('&')
  const request = ['GET', '/', query, `host:${host}`, '', 'host', sha256('')].join('\n')
  const toSign = [ALGORITHM, time, scope, sha256(request)].join('\n')
  const key = [day, region, SERVICE, 'aws4_request'].reduce<string | Buffer>(hmac, `AWS4${secretAccessKey}`)
  return `${host}/?${query}&X-Amz-Signature=${hmac(key, toSign).toString('hex')}`
}

/** A password for each connection. The credentials are asked each time too: those of a role change. */
export const elastiCachePassword =
  (
    request: Omit<ConnectRequest, 'at'>,
    credentials: () => Promise<AwsCredentials>,
  ): (() => Promise<string>) =>
  async () =>
    signConnect({ ...request, at: Date.now() }, await credentials())
