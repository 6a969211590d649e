/** The hot store that the environment's phase says. */
import type { Count, MessageRecord } from '../protocol.ts'
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
}

export interface HotStoreServices {
  database: Database
  /** Saves records before the queue does; those that are refused for themselves are not its business. */
  save: (records: readonly MessageRecord[]) => Promise<void>
  /** For turns that are not opened in Postgres, whose opening checks the limits itself. */
  limiter?: Limiter
  count: Count
}

/** In phase 1 nothing of Valkey is even loaded, unless the phase is being switched: then there is a cache. */
export async function openHotStore(options: HotStoreOptions, services: HotStoreServices): Promise<HotStore> {
  const postgres = openPostgresHotStore(services.database, options)
  const { hotStore, valkeyUrl } = options
  if (valkeyUrl === undefined) {
    if (hotStore === 'postgres') return postgres
    throw new Error('Configuration: VALKEY_URL is missing, which HOT_STORE=valkey needs')
  }
  const { openWithValkey } = await import('./with-valkey.ts')
  return openWithValkey({ ...options, valkeyUrl }, { ...services, postgres })
}
