/** The limiter of phase 2: Valkey, one script for all checks of a request, by the server's clock. */
import type { LimitCheck, LimitState } from '../protocol/limits.ts'
import type { OwnSettings } from '../protocol/tenants.ts'
import type { Limiter } from './limiter.ts'
import type { Keys, Valkey } from './valkey.ts'
import { inTime } from './valkey-hot-store/in-time.ts'
import { rateKey } from './valkey-hot-store/names.ts'
import { admit } from './valkey-hot-store/scripts/limits.ts'
import type { SettingsOf } from './valkey-hot-store/settings.ts'

/** A request waits no longer for its limits, connecting included: it goes on without. */
const PATIENCE_MS = 300
/** What a tenant has set is nearly always known here; the environment's limits hold until it is. */
const SETTINGS_PATIENCE_MS = 100
const SECOND_US = 1_000_000

export interface ValkeyLimiterOptions {
  valkey: Pick<Valkey, 'run'>
  settingsOf: SettingsOf
  patienceMs?: number
  settingsPatienceMs?: number
}

/** What all users of a tenant may do together is never more than the check says: others' share depends on it. */
function ownLimit(own: OwnSettings, { kind, limit }: LimitCheck): number {
  if (kind === 'user') return own.userRequestsPerMinute ?? limit
  if (kind === 'tenant') return Math.min(own.tenantRequestsPerMinute ?? limit, limit)
  return limit
}

/** Rounded up: who waits for so long has waited long enough. */
const secondsOf = (microseconds: number): number => Math.max(1, Math.ceil(microseconds / SECOND_US))

type Counted = [used: number, untilOldestUs: number, untilRoomUs: number]

function toStates(checks: readonly LimitCheck[], counted: readonly Counted[]): LimitState[] {
  const states = checks.map(({ kind, limit, windowSeconds, count = 1 }, index): LimitState => {
    const [used, untilOldestUs, untilRoomUs] = counted[index] ?? [0, 0, 0]
    const allowed = used + count <= limit
    return {
      kind,
      limit,
      windowSeconds,
      allowed,
      remaining: Math.max(limit - used, 0),
      resetSeconds: secondsOf(untilOldestUs),
      retryAfterSeconds: allowed ? 0 : secondsOf(untilRoomUs),
    }
  })
  if (!states.every(({ allowed }) => allowed)) return states
  return states.map((state, index) => ({
    ...state,
    remaining: state.remaining - (checks[index]?.count ?? 1),
  }))
}

/** What tenants have set acts as `settingsOf` knows it. Fails as `unavailable` where Valkey does not answer in time. */
export function openValkeyLimiter({
  valkey,
  settingsOf,
  patienceMs = PATIENCE_MS,
  settingsPatienceMs = SETTINGS_PATIENCE_MS,
}: ValkeyLimiterOptions): Limiter {
  async function ownLimits(checks: readonly LimitCheck[]): Promise<LimitCheck[]> {
    const tenant = checks.find((check) => check.tenant)?.tenant
    if (tenant === undefined) return [...checks]
    const own = await inTime(settingsPatienceMs, settingsOf(tenant)).catch(() => ({}))
    return checks.map((check) => ({ ...check, limit: ownLimit(own, check) }))
  }

  async function take(given: readonly LimitCheck[]): Promise<LimitState[]> {
    const checks = await ownLimits(given)
    const args = checks.flatMap(({ limit, windowSeconds, count = 1 }) => [
      limit,
      Math.round(windowSeconds * SECOND_US),
      count,
    ])
    // Once: it may have counted, although nobody heard of it.
    const counted = await valkey.run<Counted[]>(admit, checks.map(rateKey) as unknown as Keys, args, {
      once: true,
    })
    return toStates(checks, counted)
  }

  return { admit: (checks) => inTime(patienceMs, take(checks), 'The cache') }
}
