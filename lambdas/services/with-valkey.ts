/** Puts together what an environment with a cache needs. Loaded there alone: the client is as large as one of the SDK. */
import { openRole } from './database.ts'
import { elastiCachePassword } from './elasticache-token.ts'
import type { HotStore } from './hot-store.ts'
import type { HotStoreOptions, HotStoreServices, OpenedHotStore } from './open-hot-store.ts'
import { openPhaseOneHotStore } from './phase-one-hot-store.ts'
import { openPhaseTwoHotStore } from './phase-two-hot-store.ts'
import { openSessionSource } from './postgres-session-source.ts'
import { openValkey, type Valkey } from './valkey.ts'
import { openSettings } from './valkey-hot-store/settings.ts'
import { openValkeyHotStore } from './valkey-hot-store.ts'
import { openValkeyLimiter } from './valkey-limiter.ts'

type Options = HotStoreOptions & { valkeyUrl: string }
type Services = HotStoreServices & { postgres: HotStore }

const DEFAULT_PORT = 6379

/** A password for each connection, signed with the credentials of the function's role. */
function passwordOfRole(cacheName: string, userId: string): () => Promise<string> {
  const { region, credentials } = openRole()
  return async () => elastiCachePassword({ cacheName, userId, region: await region() }, credentials)()
}

export function connect({
  valkeyUrl,
  valkeyCluster,
  valkeyCacheName,
  valkeyPatienceMs,
}: Pick<Options, 'valkeyUrl' | 'valkeyCluster' | 'valkeyCacheName' | 'valkeyPatienceMs'>): Valkey {
  const { protocol, hostname, port, username, password } = new URL(valkeyUrl)
  const name = decodeURIComponent(username)
  const secret = decodeURIComponent(password)
  return openValkey({
    endpoints: [{ host: hostname, port: Number(port || DEFAULT_PORT) }],
    cluster: valkeyCluster,
    commandMs: valkeyPatienceMs,
    tls: protocol === 'rediss:',
    ...(name !== '' && { username: name }),
    ...(valkeyCacheName !== undefined
      ? { password: passwordOfRole(valkeyCacheName, name) }
      : secret !== '' && { password: async () => secret }),
  })
}

export function openWithValkey(options: Options, services: Services): OpenedHotStore {
  const connection = connect(options)
  const source = openSessionSource(services.database, services)
  const settingsOf = openSettings(connection, source)
  const { count } = services
  const valkey = openValkeyHotStore(connection, source, { ...options, settingsOf, count })
  if (options.hotStore === 'postgres')
    return { hotStore: openPhaseOneHotStore({ ...services, valkey }), limiter: undefined }
  const limiter = openValkeyLimiter({ valkey: connection, settingsOf })
  return { hotStore: openPhaseTwoHotStore({ ...services, valkey, limiter }), limiter }
}
