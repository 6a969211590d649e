/**
 * Before all tests: a single Redis and a cluster for the run. They are started and not waited for, so a run
 * that needs none of them loses nothing. Test files that break servers start their own (redis.ts).
 */
import { launchRedis, openRedis, type Redis, type RedisAccess, redisAvailable } from './redis.ts'

const SHARED = 'TURNKEEP_TEST_REDIS'

export type RedisKind = 'single' | 'cluster'

export default async function setup(): Promise<() => Promise<void>> {
  if (!redisAvailable) return async () => {}
  const [single, cluster] = await Promise.all([launchRedis('single'), launchRedis('cluster')])
  process.env[SHARED] = JSON.stringify({ single: single.access, cluster: cluster.access })
  return async () => {
    await Promise.all([single.end(), cluster.end()])
  }
}

/** Those of this run. Other test files use them too: keep to tenants of your own, and empty nothing. */
export async function sharedRedis(kind: RedisKind): Promise<Redis> {
  const shared: Record<RedisKind, RedisAccess> = JSON.parse(process.env[SHARED] ?? '{}')
  if (shared[kind] === undefined) throw new Error('this run has no Redis: see vitest.config.ts, globalSetup')
  return openRedis(shared[kind])
}
