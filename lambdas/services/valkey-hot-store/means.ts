import type { Count } from '../../protocol/metrics.ts'
import type { SessionSource } from '../postgres-session-source.ts'
import type { Valkey } from '../valkey.ts'
import type { Budgeting } from './budgets.ts'
import type { Places } from './places.ts'
import type { SettingsOf } from './settings.ts'

/** What the operations of this store work with; each says what it needs of it. */
export interface Means {
  valkey: Valkey
  /** Postgres, for what is not known here. */
  source: SessionSource
  places: Places
  settingsOf: SettingsOf
  budgeting: Budgeting
  leaseMs: number
  /** Messages of a history where the tenant has not set another number. */
  historyMessages: number
  count: Count
}
