/** The cache's control plane. Errors are those of the service. */
import {
  CreateServerlessCacheSnapshotCommand,
  DescribeServerlessCachesCommand,
  ElastiCacheClient,
  paginateDescribeServerlessCacheSnapshots,
  type ServerlessCache,
  type ServerlessCacheSnapshot,
} from '@aws-sdk/client-elasticache'
import type { Environment } from '../environment.ts'
import { Failure } from '../failures.ts'

export interface Snapshot {
  name: string
  /** creating, available, … */
  state: string
  /** automated or manual. */
  type: string | null
  takenAt: string | null
  /** Those of every day end; those taken by hand stay, and are paid for, until they are deleted. */
  expiresAt: string | null
  bytes: number | null
}

export interface CacheState {
  name: string
  /** creating, available, modifying, deleting, create-failed. */
  state: string
  engine: string | null
  /** Null while it is being made. */
  endpoint: string | null
  maxGigabytes: number | null
  maxEcpuPerSecond: number | null
  snapshotDays: number | null
}

export interface CacheControl {
  describe(): Promise<CacheState>
  /** Newest first. */
  snapshots(): Promise<Snapshot[]>
  take(name: string): Promise<Snapshot>
}

const ATTEMPTS = 4

/** Undefined where there is no control plane: on one machine. */
export function openCacheControl(
  environment: Environment,
  cacheName: string,
  abortSignal: AbortSignal,
): CacheControl | undefined {
  const reach = environment.reach('ELASTICACHE')
  if (reach === undefined) return undefined
  const client = new ElastiCacheClient({ ...reach, maxAttempts: ATTEMPTS })
  const ServerlessCacheName = cacheName
  return {
    async describe() {
      const command = new DescribeServerlessCachesCommand({ ServerlessCacheName })
      const { ServerlessCaches = [] } = await client.send(command, { abortSignal })
      const [cache] = ServerlessCaches
      if (cache === undefined) throw new Failure(`There is no cache ${cacheName} in ${reach.region}.`)
      return toState(cache)
    },
    async snapshots() {
      const found: Snapshot[] = []
      for await (const { ServerlessCacheSnapshots = [] } of paginateDescribeServerlessCacheSnapshots(
        { client },
        { ServerlessCacheName },
        { abortSignal },
      ))
        found.push(...ServerlessCacheSnapshots.map(toSnapshot))
      return found.sort((a, b) => (b.takenAt ?? '').localeCompare(a.takenAt ?? ''))
    },
    async take(name) {
      const { ServerlessCacheSnapshot = {} } = await client.send(
        new CreateServerlessCacheSnapshotCommand({ ServerlessCacheName, ServerlessCacheSnapshotName: name }),
        { abortSignal },
      )
      return toSnapshot(ServerlessCacheSnapshot)
    },
  }
}

function toState(cache: ServerlessCache): CacheState {
  const { Endpoint, Engine, FullEngineVersion, MajorEngineVersion, CacheUsageLimits } = cache
  return {
    name: cache.ServerlessCacheName ?? '',
    state: cache.Status ?? 'unknown',
    engine: Engine === undefined ? null : `${Engine} ${FullEngineVersion ?? MajorEngineVersion ?? ''}`.trim(),
    endpoint: Endpoint?.Address === undefined ? null : `${Endpoint.Address}:${Endpoint.Port}`,
    maxGigabytes: CacheUsageLimits?.DataStorage?.Maximum ?? null,
    maxEcpuPerSecond: CacheUsageLimits?.ECPUPerSecond?.Maximum ?? null,
    snapshotDays: cache.SnapshotRetentionLimit ?? null,
  }
}

const toSnapshot = (snapshot: ServerlessCacheSnapshot): Snapshot => ({
  name: snapshot.ServerlessCacheSnapshotName ?? '',
  state: snapshot.Status ?? 'unknown',
  type: snapshot.SnapshotType ?? null,
  takenAt: snapshot.CreateTime?.toISOString() ?? null,
  expiresAt: snapshot.ExpiryTime?.toISOString() ?? null,
  bytes: snapshot.BytesUsedForCache === undefined ? null : Number(snapshot.BytesUsedForCache),
})
