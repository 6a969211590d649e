/** How many people use the product, for the alarms that say when one database is not enough any more. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Measure } from '../protocol/metrics.ts'
import type { Log } from '../replies/log.ts'
import type { Database } from '../services/database.ts'

/** As long as a user counts as active after a question. */
const EVERY_MS = 5 * 60_000
/** A batch is saved already; it does not wait any longer than this for being counted. */
const PATIENCE_MS = 3_000
/** Users looked at for the month, over all tenants: a tenth of a second. Above it the figure is the least it can be. */
const MAX_USERS = 10_000

/**
 * Measures the users of the last 5 minutes and of the last 30 days, at most once in 5 minutes. For whoever has just
 * used the database: asking must not wake one that sleeps. Never throws: a figure that is missing harms nothing.
 */
export function openUserCount(database: Database, measure: Measure): (log: Log) => Promise<void> {
  let dueAt = 0
  const count = async (): Promise<void> => {
    const [users] = await database.call<{ active: number; monthly: number }>('count_users', [
      { integer: MAX_USERS },
    ])
    if (users === undefined) return
    measure('ActiveUsers', users.active)
    measure('MonthlyUsers', users.monthly)
  }
  return async (log) => {
    if (Date.now() < dueAt) return
    dueAt = Date.now() + EVERY_MS
    const patience = new AbortController()
    const outOfPatience = sleep(PATIENCE_MS, undefined, { signal: patience.signal })
    await Promise.race([count(), outOfPatience]).catch((error) => log.warn('users not counted', { error }))
    patience.abort()
  }
}
