/** The cache of a deployment in phase 2: each function has a door of its own to it, which knows who knocks. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Gate } from '../../local/cloud/calls.ts'
import { type CacheDoor, openDoor } from './cache-door.ts'
import { ACCOUNT, REGION } from './physical-values.ts'
import { makeCertificates, type Redis, startRedis } from './redis.ts'
import type { DeployedFunction } from './template.ts'

export interface DeployedCache {
  /** By function: those that the template tells of a cache. */
  doors: Record<string, CacheDoor>
  redis: Redis
  /** What stands in the template's place. */
  variablesOf(name: string): Record<string, string>
  close(): Promise<void>
}

/**
 * https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticache.html: Connect wants the cache
 * and the user.
 */
const needs = (cacheName: string, userName: string) =>
  [`serverlesscache:${cacheName}`, `user:${userName}`].map((resource) => ({
    action: 'elasticache:Connect',
    resource: `arn:aws:elasticache:${REGION}:${ACCOUNT}:${resource}`,
  }))

/** Undefined in phase 1. The gate is asked at each login. */
export async function openDeployedCache(
  functions: Record<string, DeployedFunction>,
  gate: Gate,
): Promise<DeployedCache | undefined> {
  const told = Object.entries(functions).filter(([, { variables }]) => 'VALKEY_URL' in variables)
  if (told.length === 0) return undefined
  const directory = mkdtempSync(join(tmpdir(), 'turnkeep-door-'))
  makeCertificates(directory)
  const read = (name: string): string => readFileSync(join(directory, name), 'utf8')
  const tls = { key: read('server.key'), cert: read('server.crt') }
  const redis = await startRedis('single')
  const open = async ([name, { variables }]: (typeof told)[number]) => {
    const { VALKEY_CACHE_NAME: cacheName = '', VALKEY_URL = '' } = variables
    const userName = new URL(VALKEY_URL).username
    const mayConnect = () => needs(cacheName, userName).every((need) => gate({ function: name, ...need }))
    const { port } = redis.nodes[0]
    return [name, await openDoor({ port, cacheName, userName, tls, mayConnect })] as const
  }
  const doors = Object.fromEntries(await Promise.all(told.map(open)))
  return {
    doors,
    redis,
    variablesOf: (name) => {
      const door = doors[name]
      if (door === undefined) return {}
      const url = new URL(functions[name]?.variables.VALKEY_URL ?? '')
      url.host = `127.0.0.1:${door.port}`
      return { VALKEY_URL: url.href, NODE_EXTRA_CA_CERTS: join(directory, 'ca.crt') }
    },
    close: async () => {
      for (const door of Object.values(doors)) door.close()
      await redis.close()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}
