/** The hot store that the environment's phase says. */
import { CodedError } from '../protocol/errors.ts'
import type { Count, Measure } from '../protocol/metrics.ts'
import type { MessageRecord } from '../protocol/queue.ts'
import type { Database } from './database.ts'
import type { HotStore } from './hot-store.ts'
import type { Limiter } from './limiter.ts'
import { openPostgresHotStore } from './postgres-hot-store.ts'

export interface HotStoreOptions {
  hotStore: 'postgres' | 'valkey'
  leaseSeconds: number
  historyMessages: number
  /** `redis://` or, with TLS, `rediss://`; a name and a password where the server wants them. */
  valkeyUrl: string | undefined
  valkeyCluster: boolean
  /** Of ElastiCache serverless, where functions log in by their role. */
  valkeyCacheName: string | undefined
  valkeyPatienceMs: number
}

export interface HotStoreServices {
  database: Database
  /** Saves records before the queue does; those that are refused for themselves are not its business. */
  save: (records: readonly MessageRecord[]) => Promise<void>
  count: Count
  measure: Measure
}

export interface OpenedHotStore {
  hotStore: HotStore
  /** Over the same connection. Undefined: the limits are in Postgres. */
  limiter: Limiter | undefined
}

/** Refusals are answers, too. */
function measured(hotStore: HotStore, measure: Measure): HotStore {
  const timed =
    <Args extends unknown[], Result>(operation: (...args: Args) => Promise<Result>) =>
    async (...args: Args): Promise<Result> => {
      const askedAt = performance.now()
      const told = () => measure('HotStoreTime', performance.now() - askedAt)
      try {
        const result = await operation(...args)
        told()
        return result
      } catch (error) {
        if (error instanceof CodedError && error.code !== 'unavailable') told()
        throw error
      }
    }
  const entries = Object.entries(hotStore).map(([name, value]) => [
    name,
    typeof value === 'function' ? timed(value) : value,
  ])
  return Object.fromEntries(entries)
}

/** In phase 1 nothing of Valkey is even loaded, unless the phase is being switched: then there is a cache. */
export async function openHotStore(
  options: HotStoreOptions,
  services: HotStoreServices,
): Promise<OpenedHotStore> {
  const { hotStore, limiter } = await openForPhase(options, services)
  return { hotStore: measured(hotStore, services.measure), limiter }
}

async function openForPhase(options: HotStoreOptions, services: HotStoreServices): Promise<OpenedHotStore> {
  const postgres = openPostgresHotStore(services.database, options)
  const { hotStore, valkeyUrl } = options
  if (valkeyUrl === undefined) {
    if (hotStore === 'postgres') return { hotStore: postgres, limiter: undefined }
    throw new Error('Configuration: VALKEY_URL is missing, which HOT_STORE=valkey needs')
  }
  const { openWithValkey } = await import('./with-valkey.ts')
  return openWithValkey({ ...options, valkeyUrl }, { ...services, postgres })
}
