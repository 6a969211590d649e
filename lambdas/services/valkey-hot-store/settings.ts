/** What a tenant has set, which an opening needs at once: remembered here and in Valkey, asked of Postgres beside. */
import type { Tenant } from '../../protocol/callers.ts'
import type { OwnSettings } from '../../protocol/tenants.ts'
import { boundedMap } from '../bounded-map.ts'
import type { SessionSource } from '../postgres-session-source.ts'
import type { Valkey } from '../valkey.ts'
import { inTime } from './in-time.ts'
import { settingsKey } from './names.ts'
import { together } from './together.ts'
import { pack, unpack } from './values.ts'

const FRESH_MS = 10_000
const KEPT_MS = 86_400_000
const PATIENCE_MS = 1_000

/** As of a few seconds ago; older ones where Postgres cannot be reached, and none where nobody knows any. */
export type SettingsOf = (tenant: Tenant) => Promise<OwnSettings>

/** For every instance to find, once what it remembers is not fresh any more. */
export async function keepSettings(
  valkey: Pick<Valkey, 'command'>,
  tenant: Tenant,
  own: OwnSettings,
): Promise<void> {
  await valkey.command('SET', settingsKey(tenant), [pack(own), 'PX', KEPT_MS])
}

export function openSettings(
  valkey: Pick<Valkey, 'command'>,
  source: Pick<SessionSource, 'settings'>,
  { freshMs = FRESH_MS } = {},
): SettingsOf {
  const remembered = boundedMap<{ own: OwnSettings; at: number }>()
  const remember = (tenant: Tenant, own: OwnSettings): OwnSettings => {
    remembered.set(settingsKey(tenant), { own, at: Date.now() })
    return own
  }

  async function refresh(tenant: Tenant): Promise<OwnSettings> {
    const own = remember(tenant, await source.settings(tenant))
    await keepSettings(valkey, tenant, own).catch(() => undefined)
    return own
  }

  async function keptIn(tenant: Tenant): Promise<OwnSettings | undefined> {
    const bytes = await valkey.command<Buffer | null>('GET', settingsKey(tenant), [], { bytes: true })
    return bytes === null ? undefined : unpack<OwnSettings>(bytes)
  }

  async function find(tenant: Tenant, known: OwnSettings | undefined): Promise<OwnSettings> {
    const kept = known === undefined ? await keptIn(tenant) : await keptIn(tenant).catch(() => known)
    const refreshed = refresh(tenant)
    refreshed.catch(() => undefined)
    // Remembered either way: asked once, and not by every request, while Postgres does not answer.
    return remember(tenant, kept ?? known ?? (await inTime(PATIENCE_MS, refreshed).catch(() => ({}))))
  }

  const finding = together<OwnSettings>()
  return async (tenant) => {
    const key = settingsKey(tenant)
    const known = remembered.get(key)
    if (known && Date.now() - known.at < freshMs) return known.own
    return finding(key, () => find(tenant, known?.own))
  }
}
