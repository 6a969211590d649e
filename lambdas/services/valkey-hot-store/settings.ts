/** What a tenant has set, which an opening needs at once: remembered here and in Valkey, asked of Postgres beside. */
import type { OwnSettings, Tenant } from '../../protocol.ts'
import { boundedMap } from '../bounded-map.ts'
import type { SessionSource } from '../postgres-session-source.ts'
import type { Valkey } from '../valkey.ts'
import { inTime } from './in-time.ts'
import { settingsKey } from './names.ts'
import { pack, unpack } from './values.ts'

const FRESH_MS = 10_000
const KEPT_MS = 86_400_000
const PATIENCE_MS = 1_000

/** As of a few seconds ago; older ones where Postgres cannot be reached, and none where nobody knows any. */
export type SettingsOf = (tenant: Tenant) => Promise<OwnSettings>

export function openSettings(
  valkey: Pick<Valkey, 'command'>,
  source: Pick<SessionSource, 'settings'>,
): SettingsOf {
  const remembered = boundedMap<{ own: OwnSettings; at: number }>()
  const remember = (tenant: Tenant, own: OwnSettings): OwnSettings => {
    remembered.set(settingsKey(tenant), { own, at: Date.now() })
    return own
  }

  async function refresh(tenant: Tenant): Promise<OwnSettings> {
    const own = remember(tenant, await source.settings(tenant))
    await valkey.command('SET', settingsKey(tenant), [pack(own), 'PX', KEPT_MS]).catch(() => undefined)
    return own
  }

  async function keptIn(tenant: Tenant): Promise<OwnSettings | undefined> {
    const bytes = await valkey.command<Buffer | null>('GET', settingsKey(tenant), [], { bytes: true })
    return bytes === null ? undefined : unpack<OwnSettings>(bytes)
  }

  return async (tenant) => {
    const known = remembered.get(settingsKey(tenant))
    if (known && Date.now() - known.at < FRESH_MS) return known.own
    const kept = known?.own ?? (await keptIn(tenant))
    const refreshed = refresh(tenant)
    refreshed.catch(() => undefined)
    // Remembered either way: asked once, and not by every request, while Postgres does not answer.
    return remember(tenant, kept ?? (await inTime(PATIENCE_MS, refreshed).catch(() => ({}))))
  }
}
